"""Walks a packet through a compiled ruleset, without a kernel.

It knows just the words of nft that the compiler writes, and fails on any other: a rule that it does not
understand is never passed over. Hooks are walked in the order of their priorities, with connection
tracking and Service translation where the kernel has them. `accept` ends a base chain, `drop` the
packet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network

from acns.datapath import selectors
from acns.datapath.model import ChainSpec, Ruleset

PROTOCOLS = {"ICMP": "icmp", "TCP": "tcp", "UDP": "udp", "SCTP": "sctp", "GRE": "gre"}
TRANSLATION = -100
PROXIED_MARK, MARK_MASK = 0x200, 0xF00


class Unknown(AssertionError):
    """Text that this interpreter does not know."""


@dataclass(frozen=True, slots=True)
class State:
    """A packet at one point of its way. `local`: whether an address is the node's own."""

    iif: str
    oif: str
    source: str
    destination: str
    protocol: str
    sport: int = 0
    dport: int = 0  # the type for ICMP
    ct_state: str = "new"
    ct_direction: str = "original"
    mark: int = 0
    ct_mark: int = 0
    tcp_flags: str = "syn"
    proxied: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """`verdict`: accept, drop or proxy. `by`: the last counter. `state`: the packet afterwards."""

    verdict: str
    by: str
    state: State


class Interpreter:
    """One ruleset on one node."""

    def __init__(self, ruleset: Ruleset, node_addresses: frozenset[str]) -> None:
        self._ruleset = ruleset
        self._node_addresses = node_addresses
        self._learned = {
            selectors.element(id_, address) for id_, known in ruleset.learned.items() for address in known
        }
        self._hooks: dict[str, list[tuple[int, ChainSpec]]] = {}
        for chain in ruleset.chains.values():
            for rule in chain.rules:
                parse(rule.text)
            if chain.hook:
                hook, priority = _hook(chain.hook)
                self._hooks.setdefault(hook, []).append((priority, chain))
        for chains in self._hooks.values():
            chains.sort(key=lambda pair: pair[0])

    def walk(self, state: State, translated: tuple[str, int] | None = None) -> Outcome:
        """The packet's way through the node: to a pod, past it, or up to the node itself.

        `translated`: where the Service translation sends a new connection.
        """
        first = "output" if state.iif == "lo" else "prerouting"
        counter = ""
        moved = translated is None
        for priority, chain in self._hooks[first]:
            if priority > TRANSLATION and not moved:
                state, moved = _to(state, translated), True
            verdict, state, counter = self._chain(chain, state, counter)
            if verdict == "drop":
                return Outcome("drop", counter, state)
            if state.proxied:
                return Outcome("proxy", counter, state)
        if not moved:
            state = _to(state, translated)
        for hook in self._after(first, state):
            for _, chain in self._hooks.get(hook, []):
                verdict, state, counter = self._chain(chain, state, counter)
                if verdict == "drop":
                    return Outcome("drop", counter, state)
        return Outcome("accept", counter, state)

    def _after(self, first: str, state: State) -> Iterator[str]:
        if first == "prerouting":
            yield "input" if self._is_local(state.destination) else "forward"
        yield "postrouting"

    def _is_local(self, address: str) -> bool:
        return address in self._node_addresses

    # --- chains ---------------------------------------------------------------------------------------

    def _chain(self, chain: ChainSpec, state: State, counter: str) -> tuple[str, State, str]:
        """`return`: it came to its end; a goto is not come back from."""
        for rule in chain.rules:
            verdict = ""
            for word, arguments in parse(rule.text):
                if word in _MATCHES:
                    if not _MATCHES[word](self, state, arguments):
                        break
                elif word == "counter":
                    counter = arguments[0]
                elif word in _CHANGES:
                    state = _CHANGES[word](state, arguments)
                elif word == "vmap":
                    key = _key(state, arguments[0])
                    chosen = self._ruleset.maps[arguments[1]].elements.get(key)
                    if chosen:
                        verdict, target = "jump", chosen
                elif word in ("goto", "jump"):
                    verdict, target = word, arguments[0]
                elif word != "log":
                    verdict = word
            if verdict in ("goto", "jump"):
                inner, state, counter = self._chain(self._ruleset.chains[target], state, counter)
                verdict = inner if inner in ("accept", "drop") else "return" if verdict == "goto" else ""
            if verdict in ("accept", "drop"):
                return verdict, state, counter
            if verdict == "return":
                return "return", state, counter
        return "return", state, counter

    # --- what a match asks of the node ----------------------------------------------------------------

    def in_set(self, name: str, key: str) -> bool:
        spec = self._ruleset.sets[name]
        if key in spec.elements or (name == selectors.LEARNED and key in self._learned):
            return True
        return "interval" in spec.flags and any(
            IPv4Address(key) in IPv4Network(element) for element in spec.elements
        )

    def fib_type(self, address: str) -> str:
        return "local" if self._is_local(address) else "unicast"


def _to(state: State, translated: tuple[str, int] | None) -> State:
    assert translated
    return replace(state, destination=translated[0], dport=translated[1])


def _hook(text: str) -> tuple[str, int]:
    found = re.fullmatch(r"type filter hook (\w+) priority (-?\d+); policy accept;", text)
    if not found:
        raise Unknown(text)
    return found[1], int(found[2])


# --- words --------------------------------------------------------------------------------------------

_NUMGEN = "numgen inc mod 1 offset "
_FIELD = rf"(?:{_NUMGEN}\d+|iifname|oifname|ip saddr|ip daddr|meta l4proto|th dport|th sport)"
_KEY = rf"({_FIELD}(?: \. {_FIELD})*)"
_NUMBER = r"(0x[0-9a-f]+|\d+)"

_GRAMMAR: tuple[tuple[str, str], ...] = (
    ("nfproto", r"meta nfproto (ipv4|ipv6)"),
    ("vmap", rf"{_KEY} vmap @(\w+)"),
    ("in-set", rf"{_KEY} (!= )?@(\w+)"),
    ("interface", r"(iifname|oifname) (?:\{ ([^}]+) \}|(\"[^\"]+\"))(?! ip daddr 127)"),
    ("l4proto", r"meta l4proto (?:\{ ([\w, ]+) \}|(icmp|tcp|udp|sctp)\b)"),
    ("set-mark", rf"meta mark set meta mark & {_NUMBER} \| {_NUMBER}"),
    ("mark", rf"meta mark & {_NUMBER} (==|!=) {_NUMBER}"),
    ("set-ct-mark", rf"ct mark set ct mark & {_NUMBER}(?: \| {_NUMBER})?"),
    ("ct-mark", rf"ct mark & {_NUMBER} (?:\{{ ([0-9a-fx, ]+) \}}|{_NUMBER})"),
    ("ct-state", r"ct state ([a-z,]+)"),
    ("ct-direction", r"ct direction (original|reply)"),
    ("fib-type", r"fib (saddr|daddr) type (!= )?(local|unicast)"),
    ("loopback", r'iifname != "lo" ip daddr 127\.0\.0\.0/8(?! ct status)'),
    ("loopback-translated", r'iifname != "lo" ip daddr 127\.0\.0\.0/8 ct status dnat'),
    ("fib-missing", r"fib saddr \. iif oif missing"),
    ("other-port", r"th dport != (\d+)"),
    ("port", r"th (dport|sport) (\d+)(?:-(\d+))?"),
    ("icmp-type", r"icmp type (\d+)"),
    ("icmpv6", r"icmpv6 type \{[^}]*\}"),
    ("ip6", r"ip6 daddr \{[^}]*\}"),
    ("tcp-flags", r"tcp flags & \(fin \| syn \| rst \| ack\) (!=|==) syn"),
    ("over-rate", r"update @\w+ \{ ip saddr limit rate over \d+/second burst \d+ packets \}"),
    ("limit", r"limit rate \d+/second burst \d+ packets"),
    ("counter", r"counter name (\w+)"),
    ("log", r'log prefix "[^"]*" group \d+'),
    ("notrack", r"notrack"),
    ("tproxy", r"tproxy ip to [\d.]+:\d+"),
    ("goto", r"goto (\w+)"),
    ("jump", r"jump (\w+)"),
    ("drop", r"drop"),
    ("accept", r"accept"),
    ("return", r"return"),
    ("drop", r"reject with (?:tcp reset|icmpv6 admin-prohibited|icmp admin-prohibited)"),
)
_COMPILED = tuple((word, re.compile(pattern + r"(?: |$)")) for word, pattern in _GRAMMAR)

Word = tuple[str, tuple[str, ...]]


@lru_cache(maxsize=20_000)
def parse(text: str) -> tuple[Word, ...]:
    """A rule as words with their arguments. Raises Unknown."""
    words: list[Word] = []
    place = 0
    while place < len(text):
        for word, pattern in _COMPILED:
            if found := pattern.match(text, place):
                words.append((word, tuple(group or "" for group in found.groups())))
                place = found.end()
                break
        else:
            raise Unknown(f"{text!r} at {text[place:]!r}")
    return tuple(words)


def _key(state: State, fields: str) -> str:
    texts = {
        "iifname": f'"{state.iif}"',
        "oifname": f'"{state.oif}"',
        "ip saddr": state.source,
        "ip daddr": state.destination,
        "meta l4proto": PROTOCOLS[state.protocol],
        "th dport": str(state.dport),
        "th sport": str(state.sport),
    }
    return " . ".join(texts.get(field, field.removeprefix(_NUMGEN)) for field in fields.split(" . "))


def _in_set(node: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    fields, negated, name = arguments[0], arguments[-2], arguments[-1]
    return node.in_set(name, _key(state, fields)) is not bool(negated)


def _port(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    if state.protocol not in ("TCP", "UDP", "SCTP"):
        raise Unknown(f"a port of {state.protocol}: nothing before it in the rule asks for the protocol")
    port = state.dport if arguments[0] == "dport" else state.sport
    return int(arguments[1]) <= port <= int(arguments[2] or arguments[1])


def _interface(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    own = state.iif if arguments[0] == "iifname" else state.oif
    return f'"{own}"' in (arguments[1] or arguments[2]).split(", ")


def _other_port(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    """Packets without ports are none of that port's, but for a chance that harms nobody."""
    return state.protocol not in ("TCP", "UDP", "SCTP") or state.dport != int(arguments[0])


def _l4proto(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    return PROTOCOLS[state.protocol] in (arguments[0] or arguments[1]).split(", ")


def _mark(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    return (state.mark & int(arguments[0], 0) == int(arguments[2], 0)) is (arguments[1] == "==")


def _ct_mark(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    wanted = {int(one, 0) for one in (arguments[1] or arguments[2]).split(", ")}
    return state.ct_mark & int(arguments[0], 0) in wanted


def _fib_type(node: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    which, negated, wanted = arguments
    address = state.source if which == "saddr" else state.destination
    return (node.fib_type(address) == wanted) is not bool(negated)


def _icmp_type(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    return state.protocol == "ICMP" and state.dport == int(arguments[0])


def _tcp_flags(_: Interpreter, state: State, arguments: tuple[str, ...]) -> bool:
    return state.protocol == "TCP" and (state.tcp_flags == "syn") is (arguments[0] == "==")


_MATCHES: dict[str, Callable[[Interpreter, State, tuple[str, ...]], bool]] = {
    "nfproto": lambda _, __, arguments: arguments[0] == "ipv4",
    "in-set": _in_set,
    "interface": _interface,
    "other-port": _other_port,
    "l4proto": _l4proto,
    "mark": _mark,
    "ct-mark": _ct_mark,
    "ct-state": lambda _, state, arguments: state.ct_state in arguments[0].split(","),
    "ct-direction": lambda _, state, arguments: state.ct_direction == arguments[0],
    "fib-type": _fib_type,
    "loopback": lambda _, state, __: state.iif != "lo" and state.destination.startswith("127."),
    "loopback-translated": lambda *_: False,
    "port": _port,
    "icmp-type": _icmp_type,
    "tcp-flags": _tcp_flags,
    "limit": lambda *_: True,
    "over-rate": lambda *_: False,
}  # What asks for IPv6 stands behind `meta nfproto ipv6` and is never reached.

_CHANGES: dict[str, Callable[[State, tuple[str, ...]], State]] = {
    "notrack": lambda state, _: replace(state, ct_state="untracked"),
    "tproxy": lambda state, _: replace(state, proxied=True),
    "set-mark": lambda state, arguments: replace(
        state, mark=state.mark & int(arguments[0], 0) | int(arguments[1], 0)
    ),
    "set-ct-mark": lambda state, arguments: replace(
        state, ct_mark=state.ct_mark & int(arguments[0], 0) | int(arguments[1] or "0", 0)
    ),
}
