"""A node's rules as `nft` lists them, taken apart: which of them one pod meets, and whose policy each one is.

The kernel has ids where people have policies; the shim's ledger says what each stands for. What is printed is
nft's own text, so that it can be compared, with the policy behind each rule and what its counter says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from acns.datapath import selectors

TABLE: Final = "table inet acns {"
ROOTS: Final = {
    "dns_redirect": "what it asks of DNS servers",
    "from_address": "what it sends",
    "to_address": "what comes to it",
    "from_node": "what its own node opens to it",
}
"""The maps that send a pod's packets to its chains, and what of them."""

_OBJECT = re.compile(r"\t(chain|set|map|counter) (\S+) \{")
_CALLED = re.compile(r"\b(?:jump|goto) ([\w./-]+)")
_SETS = re.compile(r"@([\w-]+)")
_NAMED = re.compile(
    r"mod 1(?: offset (\d+))? \. numgen inc mod 1(?: offset (\d+))? \. "
    rf"ip [sd]addr @{selectors.LEARNED}\b"
)
"""nft prints no offset that is 0."""
_LEARNED = re.compile(r"(\d+) \. (\d+) \. (([\d.]+).*)")
_COMMENT = re.compile(r' comment "([^" ]*) ?([^"]*)"')
_COUNTER = re.compile(r'counter name "([^"]+)"')
_COUNTED = re.compile(r"packets (\d+) bytes (\d+)")


class Meaning(Protocol):
    """What an id stands for, as `lab.policy_tools.node_state` reads it."""

    @property
    def text(self) -> str: ...
    @property
    def origins(self) -> tuple[str, ...]: ...


Meanings = Mapping[str, Meaning]


@dataclass(frozen=True, slots=True)
class Object:
    """A chain, set, map or counter: its lines as nft prints them, without the braces' lines."""

    kind: str
    name: str
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


@dataclass(frozen=True, slots=True)
class Objects:
    """What a table has, by name; maps are among the sets. A counter may be called like the chain it is in."""

    chains: dict[str, Object] = field(default_factory=dict)
    sets: dict[str, Object] = field(default_factory=dict)
    counters: dict[str, Object] = field(default_factory=dict)

    def add(self, one: Object) -> None:
        homes = {"chain": self.chains, "counter": self.counters}
        homes.get(one.kind, self.sets)[one.name] = one


@dataclass(frozen=True, slots=True)
class Rule:
    """`text` without its comment. `policies`: places of the rules that it carries out; `counted`: packets
    and bytes, where it counts."""

    text: str
    says: str = ""
    policies: tuple[str, ...] = ()
    counted: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Chain:
    """`about`: what of a pod comes here first; "" for a chain that others lead to."""

    name: str
    rules: tuple[Rule, ...]
    about: str = ""


@dataclass(frozen=True, slots=True)
class Set:
    name: str
    says: str
    elements: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What of a node's rules one pod meets; all where `pod` is "". `member_of`: the sets that it is in."""

    node: str
    pod: str
    chains: tuple[Chain, ...]
    sets: tuple[Set, ...]
    member_of: tuple[str, ...] = ()


def read(listing: str) -> Objects:
    """The agents' own objects, from `nft list ruleset`; none where their table is not there."""
    _, _, rest = listing.partition(f"{TABLE}\n")
    found = Objects()
    for block in re.split(r"\n\t\}\n", rest.partition("\n}\n")[0] + "\n"):
        if head := _OBJECT.search(block):
            lines = block[head.end() :].strip("\n").splitlines()
            found.add(Object(head[1], head[2], tuple(line.removeprefix("\t\t") for line in lines)))
    return found


def learned(objects: Objects) -> dict[str, dict[str, str]]:
    """What names have opened: selector id → address → the element as nft prints it, from its address on."""
    found: dict[str, dict[str, str]] = {}
    for element in _elements(objects.sets.get(selectors.LEARNED)):
        if key := _LEARNED.match(element):
            found.setdefault(selectors.id_of_numbers(int(key[1]), int(key[2])), {})[key[4]] = key[3]
    return found


def whole(node: str, objects: Objects, meanings: Meanings) -> Part:
    """All chains and sets of a node."""
    chains = tuple(_chain(one, objects, meanings) for one in objects.chains.values())
    return Part(node, "", chains, _sets(objects, objects.sets, objects.chains.values(), meanings))


def of_pod(node: str, pod: str, address: str, interface: str, objects: Objects, meanings: Meanings) -> Part:
    """What this pod's packets meet; without chains where the shim has not placed it."""
    roots = {
        chain: about
        for table, about in ROOTS.items()
        for chain in _entries(objects.sets.get(table), interface, address)
    }
    met = [objects.chains[name] for name in _reached(list(roots), objects)]
    chains = tuple(_chain(one, objects, meanings, roots.get(one.name, "")) for one in met)
    used = dict.fromkeys(name for one in met for name in _SETS.findall(one.text))
    own = [one for one in objects.sets.values() if _holds(one, address, interface)]
    return Part(
        node,
        pod,
        chains,
        _sets(objects, used, met, meanings),
        tuple(one.name for one in own),
    )


def text(part: Part) -> str:
    """For people."""
    title = f"# {part.pod} on {part.node}" if part.pod else f"# {part.node}"
    blocks = [title]
    if part.member_of:
        blocks.append(f"# it is in the sets {', '.join(part.member_of)}")
    blocks += [_chain_text(chain) for chain in part.chains]
    blocks += [_set_text(one) for one in part.sets]
    if part.pod and not part.chains:
        blocks.append("# no rule is about it: no policy of the shim's has reached the kernel yet")
    return "\n\n".join(blocks)


def value(part: Part) -> dict[str, Any]:
    """For programs."""
    return {
        "node": part.node,
        "pod": part.pod,
        "member_of": list(part.member_of),
        "chains": [
            {"name": chain.name, "about": chain.about, "rules": [_rule_value(rule) for rule in chain.rules]}
            for chain in part.chains
        ],
        "sets": [{"name": one.name, "says": one.says, "elements": list(one.elements)} for one in part.sets],
    }


# --- taking apart -------------------------------------------------------------------------------------------


def _entries(table: Object | None, interface: str, address: str) -> list[str]:
    """The chains that a verdict map has for this pod."""
    keys = (f'"{interface}" . {address} :', f"{address} :")
    return [chain for one in _elements(table) if one.startswith(keys) for chain in _CALLED.findall(one)]


def _reached(names: list[str], objects: Objects) -> list[str]:
    """These chains and all that they lead to, each before what it leads to."""
    found: dict[str, None] = {}
    waiting = list(reversed(names))
    while waiting:
        name = waiting.pop()
        if name not in found and name in objects.chains:
            found[name] = None
            waiting += reversed(_CALLED.findall(objects.chains[name].text))
    return list(found)


def _elements(one: Object | None) -> tuple[str, ...]:
    if one is None:
        return ()
    _, _, listed = one.text.partition("elements = {")
    return tuple(element.strip() for element in listed.partition("}")[0].split(",") if element.strip())


def _holds(one: Object, address: str, interface: str) -> bool:
    wanted = {address, f'"{interface}"', f'"{interface}" . {address}'}
    return any(element in wanted for element in _elements(one))


def _chain(one: Object, objects: Objects, meanings: Meanings, about: str = "") -> Chain:
    return Chain(one.name, tuple(_rule(line, objects, meanings) for line in one.lines), about)


def _rule(line: str, objects: Objects, meanings: Meanings) -> Rule:
    comment = _COMMENT.search(line)
    id_, says = (comment[1], comment[2]) if comment else ("", "")
    meaning = meanings.get(id_)
    counter = _COUNTER.search(line)
    kept = objects.counters.get(counter[1]) if counter else None
    counted = _COUNTED.search(kept.text) if kept else None
    return Rule(
        _COMMENT.sub("", line),
        meaning.text if meaning else says,
        meaning.origins if meaning else (),
        (int(counted[1]), int(counted[2])) if counted else None,
    )


def _sets(
    objects: Objects, names: Iterable[str], chains: Iterable[Object], meanings: Meanings
) -> tuple[Set, ...]:
    """These, the learned one once for each selector that the chains name."""
    found: list[Set] = []
    for one in (objects.sets[name] for name in names if name in objects.sets):
        if one.name == selectors.LEARNED:
            found += _selectors(objects, chains, meanings)
        elif one.kind == "set":
            meaning = meanings.get(one.name)
            comment = re.search(r'comment "([^"]*)"', one.text)
            says = meaning.text if meaning else comment[1] if comment else ""
            found.append(Set(one.name, says, _elements(one)))
    return tuple(found)


def _selectors(objects: Objects, chains: Iterable[Object], meanings: Meanings) -> Iterator[Set]:
    opened = learned(objects)
    named = (found for chain in chains for found in _NAMED.findall(chain.text))
    for id_ in dict.fromkeys(
        selectors.id_of_numbers(int(first or 0), int(second or 0)) for first, second in named
    ):
        meaning = meanings.get(id_)
        yield Set(selectors.LEARNED, meaning.text if meaning else id_, tuple(opened.get(id_, {}).values()))


# --- printing -----------------------------------------------------------------------------------------------


def _chain_text(chain: Chain) -> str:
    head = f"chain {chain.name} {{" + (f"  # {chain.about}" if chain.about else "")
    return "\n".join([head, *(line for rule in chain.rules for line in _rule_lines(rule)), "}"])


def _rule_lines(rule: Rule) -> Sequence[str]:
    said = [*rule.policies] or ([rule.says] if rule.says else [])
    if rule.counted:
        said.append(f"{rule.counted[0]} packets")
    return [*([f"    # {'; '.join(said)}"] if said else []), f"    {rule.text}"]


def _set_text(one: Set) -> str:
    head = f"set {one.name} {{" + (f"  # {one.says}" if one.says else "")
    return "\n".join([head, *(f"    {element}" for element in one.elements), "}"])


def _rule_value(rule: Rule) -> dict[str, Any]:
    packets, octets = rule.counted or (None, None)
    return {
        "text": rule.text,
        "says": rule.says,
        "policies": list(rule.policies),
        "packets": packets,
        "bytes": octets,
    }
