"""A scenario that says the same of nobody: names and addresses replaced, their relations kept.

Who shares an address, which name is under which domain, what a pattern, a selector or a CIDR means: all stays
(`words`). Pods, servers and files are numbered, comments of policies go, and so do assumptions that name
anybody. What comes out is tried: under a virtual clock it must come to the same as before, or there is none.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any, Final

import yaml

from acns import located, scalars
from acns.dns import types, wire
from acns.dns.name import MalformedDNS
from acns.errors import Bug
from lab.errors import InputError
from lab.repro.importing.importer import without
from lab.repro.importing.words import Addresses, Words, beside_stars, words_of
from lab.repro.reading.units import Unit
from lab.repro.running import pure
from lab.repro.scenario import load, messages, packets, records
from lab.repro.scenario.model import Answer, Pod, Policy, Scenario, Server, Step
from lab.repro.scenario.topology import DNS_PORT
from lab.spec.plan import SERVICES, NodePlan

_ADDRESS: Final = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
_KNOWN_KEY: Final = re.compile(
    r"(k8s:|any:|reserved:)?(app|k8s-app|tier|name|role|component|version|env|server"
    r"|(app\.)?kubernetes\.io/.*|io\.kubernetes\.pod\..*|io\.cilium\..*)"
)
_STRUCTURE: Final = frozenset(
    [
        "apiVersion",
        "kind",
        "protocol",
        "operator",
        "toEntities",
        "fromEntities",
        "port",
        "endPort",
        "type",
        "family",
        "policyTypes",
    ]
)
_DROPPED: Final = frozenset(["annotations", "description", "creationTimestamp", "uid", "resourceVersion"])
_CIDRS: Final = frozenset(["toCIDR", "fromCIDR", "cidr", "except", "externalCIDRs"])
_LABELS: Final = frozenset(["matchLabels", "labels"])
_NAME_KEYS: Final = frozenset(["matchName", "matchPattern"])
_ID: Final = 2
_FORMS: Final = {
    types.NUMBERS[kind]: form
    for kind, form in {
        "NS": (0, 1, 0), "CNAME": (0, 1, 0), "PTR": (0, 1, 0), "DNAME": (0, 1, 0), "MX": (2, 1, 0),
        "SOA": (0, 2, 20), "SRV": (6, 1, 0),
    }.items()
}  # fmt: skip
"""What data is made of: octets of numbers, then so many names, then octets of numbers."""
_SERVICES: Final = (types.NUMBERS["SVCB"], types.NUMBERS["HTTPS"])
_IPV4_HINT: Final = 4
_PORT_KEY: Final = 3
_A, _AAAA, _TXT, _OPT = (types.NUMBERS[name] for name in ("A", "AAAA", "TXT", "OPT"))


def anonymised(scenario: Scenario, key: bytes = b"") -> Scenario:
    """By a key of the moment, unless there is one. Steps of octets that mean something else once nothing of
    theirs is left are left out, and said to be. Raises InputError where relations could not be kept."""
    key, left_out = key or secrets.token_bytes(32), 0
    while True:
        made = _Anonymous(scenario, key).scenario()
        read = load.loads(load.dumps(made.result), made.result.scenario)
        others = _others(scenario, read, made)
        if not others:
            break
        if len(others) == len(scenario.steps):
            raise InputError("no step means the same once it is anonymised", hint="leave --anonymise out")
        left_out += len(others)
        scenario = without(scenario, others)
    if not left_out:
        return read
    text = f"{left_out} steps are left out: their octets mean something else once they are anonymised"
    return read.model_copy(update={"assumptions": (*read.assumptions, text)})


class _Anonymous:
    """One scenario's."""

    def __init__(self, scenario: Scenario, key: bytes) -> None:
        patterns = [
            text
            for policy in _texts(scenario)
            for text in _patterns(yaml.load_all(policy, Loader=located.Loader))
        ]
        starts: set[str] = set()
        ends: set[str] = set()
        for pattern in patterns:
            before, behind = beside_stars(pattern)
            starts |= before
            ends |= behind
        self._scenario = scenario
        self._words = Words(
            key,
            words_of([*_names(scenario), *patterns, *_called(scenario)]),
            tuple(sorted(starts, key=len, reverse=True)),
            tuple(sorted(ends, key=len, reverse=True)),
        )
        own: dict[IPv4Address, IPv4Address] = {}
        self._nodes = {name: f"node{number}" for number, name in enumerate(scenario.nodes, 1)}
        for number, pod in enumerate(scenario.pods):
            if pod.address is not None:
                node = scenario.nodes.index(scenario.node_of(pod))
                own[pod.address] = NodePlan("", node).pod_cidr[2 + number]
        inside = [server for server in scenario.servers if server.labels]
        own |= {server.address: SERVICES[10 + number] for number, server in enumerate(inside)}
        self._addresses = Addresses(key, own)
        self._pods = {pod.name: f"pod{number}" for number, pod in enumerate(scenario.pods, 1)}
        self._servers = {one.name: f"dns{number}" for number, one in enumerate(scenario.servers, 1)}
        files = dict.fromkeys(
            [*(one.name for one in scenario.policies), *(one.apply for one in scenario.steps if one.apply)]
        )
        self._files = {name: f"policy-{number}.yaml" for number, name in enumerate(files, 1)}
        self.result = scenario

    def scenario(self) -> _Anonymous:
        given = self._scenario
        self.result = Scenario(
            scenario="anonymised",
            assumptions=(
                "names and addresses are not those of the recording; their relations are",
                *filter(self._names_nobody, given.assumptions),
            ),
            shim=given.shim,
            resolver={name: self._setting(value) for name, value in given.resolver.items()},
            nodes=tuple(self._nodes.values()),
            pods=tuple(map(self._pod, given.pods)),
            servers=tuple(map(self._server, given.servers)),
            policies=tuple(
                Policy(name=self._files[one.name], text=self._policy(one.text)) for one in given.policies
            ),
            steps=tuple(map(self._step, given.steps)),
        )
        return self

    def outcome(self, text: str) -> str:
        """The addresses in it."""
        return _ADDRESS.sub(lambda found: self._moved(found[0]), text)

    # --- who is there ---------------------------------------------------------------------------------------

    def _pod(self, pod: Pod) -> Pod:
        return Pod(
            name=self._pods[pod.name],
            namespace=self._words.text(pod.namespace),
            address=self._addresses.address(pod.address) if pod.address else None,
            labels=self._labels(pod.labels),
            node=self._nodes[pod.node] if pod.node else None,
        )

    def _server(self, server: Server) -> Server:
        return Server(
            name=self._servers[server.name],
            address=self._addresses.address(server.address),
            namespace=self._words.text(server.namespace),
            labels=self._labels(server.labels),
        )

    def _labels(self, labels: dict[str, Any]) -> dict[str, Any]:
        return {self._key(key): self._value(value) for key, value in labels.items()}

    def _key(self, key: str) -> str:
        return key if _KNOWN_KEY.fullmatch(key) else self._words.text(key)

    def _value(self, value: Any) -> Any:
        return self._words.text(value) if isinstance(value, str) else value

    # --- policies -------------------------------------------------------------------------------------------

    def _policy(self, text: str) -> str:
        documents = [self._part(one) for one in yaml.load_all(text, Loader=located.Loader) if one is not None]
        return yaml.dump_all(documents, Dumper=scalars.Dumper, sort_keys=False, width=100)

    def _part(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            if key in _LABELS:
                return self._labels(value)
            return {name: self._part(part, name) for name, part in value.items() if name not in _DROPPED}
        if isinstance(value, list):
            return [self._part(one, key) for one in value]
        if not isinstance(value, str) or key in _STRUCTURE:
            return value
        if key in _NAME_KEYS:
            return ".".join(map(self._words.text, value.split(".")))
        if key in _CIDRS:
            return self._network(value)
        return self._key(value) if key == "key" else self._words.text(value)

    def _network(self, text: str) -> str:
        try:
            return str(self._addresses.network(IPv4Network(text, strict=False)))
        except ValueError:
            return "2001:db8::/32"  # IPv6, which nothing here enforces

    def _setting(self, value: Any) -> Any:
        if not (isinstance(value, str) and "/" in value):
            return value
        return ", ".join(self._network(part.strip()) for part in value.split(","))

    # --- steps ----------------------------------------------------------------------------------------------

    def _step(self, step: Step) -> Step:
        changes: dict[str, Any] = {"outcome": self.outcome(step.outcome)}
        if step.pod is not None:
            changes["pod"] = self._pods[step.pod]
        if step.server is not None:
            changes["server"] = self._servers[step.server]
        if step.ask is not None:
            labels, qtype = messages.parse_ask(step.ask)
            changes["ask"] = f"{self._name(labels)} {types.text(qtype)}"
        if step.query is not None:
            changes["query"] = self._message(bytes.fromhex(step.query)).hex()
        if step.wire:
            changes["wire"] = self._wires(step.wire)
        if step.connect is not None:
            changes["connect"] = self.outcome(step.connect)
        for field in ("apply", "remove"):
            if (name := getattr(step, field)) is not None:
                changes[field] = self._files.get(name, name)
        if step.fault is not None:
            words = step.fault.split(" ")
            changes["fault"] = " ".join(self._nodes.get(word, word) for word in words)
        if step.text is not None:
            changes["text"] = self._policy(step.text)
        changes["answers"] = tuple(map(self._answer, step.answers))
        return step.model_copy(update=changes)

    def _answer(self, answer: Answer) -> Answer:
        changes: dict[str, Any] = {
            section: tuple(map(self._record, getattr(answer, section)))
            for section in ("records", "authority", "additional")
        }
        if answer.octets is not None:
            changes["octets"] = self._message(bytes.fromhex(answer.octets)).hex()
        if answer.sender is not None:
            changes["sender"] = self.outcome(answer.sender)
        return answer.model_copy(update=changes)

    def _record(self, line: str) -> str:
        record = records.parse(line)
        data, owner = record.data, self._labels_of(record.owner)
        data = self._rdata(record.type, data) if isinstance(data, bytes) else self._labels_of(data)
        return records.text(records.Record(owner, record.type, record.rclass, record.ttl_s, data))

    def _name(self, labels: tuple[bytes, ...]) -> str:
        return records.name_text(self._labels_of(labels))

    def _labels_of(self, name: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Names of addresses are addresses."""
        zone = tuple(label.lower() for label in name[-2:])
        if zone == (b"in-addr", b"arpa"):
            return (*self._reversed(name[:-2]), *name[-2:])
        if zone == (b"ip6", b"arpa"):
            return (
                *(b"0" if len(label) == 1 else self._words.label(label) for label in name[:-2]),
                *name[-2:],
            )
        return tuple(map(self._words.label, name))

    def _reversed(self, labels: tuple[bytes, ...]) -> tuple[bytes, ...]:
        try:
            address = IPv4Address(b".".join(reversed(labels)).decode("ascii"))
        except ValueError:  # a part of one, or none
            return tuple(b"0" if label.isdigit() else self._words.label(label) for label in labels)
        return tuple(str(octet).encode() for octet in reversed(self._addresses.address(address).packed))

    def _message(self, data: bytes) -> bytes:
        """A message behind its ID, in place. Of what cannot be read only the length is left: it may hide
        anything."""
        packet = bytes(_ID) + data
        made, end = bytearray(len(packet)), min(wire.HEADER_OCTETS, len(packet))
        made[:end] = packet[:end]
        with contextlib.suppress(MalformedDNS):
            header = wire.read_header(packet)
            if header.questions:
                begin, end = end, wire.read_question(packet, header).end
                made[begin:end] = self._named(packet[begin:end], (0,))
            count = header.answers + header.authorities + header.additionals
            for record in wire.read_records(packet, end, count):
                made[end : record.start] = self._named(packet[end : record.start], (0,))
                made[record.start : record.end] = self._rdata(record.type, packet[record.start : record.end])
                end = record.end
        return bytes(made[_ID:])

    def _wires(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """Recorded packets: of what they carry, only DNS is left."""
        given = [packets.parse(text) for text in texts]
        if (found := packets.datagram(given)) is not None:
            made = packets.refilled_pieces(given, self._carried(found.payload, found))
        else:
            made = [self._emptied(octets) for octets in given]
        return tuple(packets.moved(octets, self._places(octets)).hex() for octets in made)

    def _emptied(self, octets: bytes) -> bytes:
        begin = packets.payload_at(octets)
        return packets.refilled(octets, begin, self._carried(octets[begin:], packets.unit(octets)))

    def _carried(self, payload: bytes, found: Unit | None) -> bytes:
        is_dns = found is not None and DNS_PORT in (found.source_port, found.destination_port)
        if not is_dns or len(payload) <= _ID:
            return bytes(len(payload))
        return payload[:_ID] + self._message(payload[_ID:])

    def _places(self, octets: bytes) -> dict[bytes, bytes]:
        return {
            one: self._addresses.address(IPv4Address(one)).packed for one in (octets[12:16], octets[16:20])
        }

    def _rdata(self, kind: int, given: bytes) -> bytes:
        """Addresses, and names where a type has them. Of types with a form that is not known here only the
        length is left: it may hide anything."""
        if kind == _A and len(given) == 4:
            return self._addresses.address(IPv4Address(given)).packed
        if kind == _AAAA and len(given) == 16:
            return self._addresses.v6(IPv6Address(given)).packed
        if kind in (_TXT, _OPT):
            return _blank(given, kind)
        if kind in _SERVICES:
            return self._service(given)
        return self._formed(given, *_FORMS[kind]) if kind in _FORMS else bytes(len(given))

    def _formed(self, given: bytes, before: int, names: int, behind: int) -> bytes:
        """Nothing, where it is not made of that."""
        end = before
        for _ in range(names):
            end = _labels_at(given, end)[1]
        if end + behind != len(given):
            return bytes(len(given))
        return self._named(given, (before, *[-1] * (names - 1)))

    def _service(self, given: bytes) -> bytes:
        """SVCB's parameters (RFC 9460 section 2.2): the addresses of hints, and ports."""
        at = _labels_at(given, 2)[1]
        if given[at - 1 : at] != b"\0":
            return bytes(len(given))
        made = bytearray(self._named(given[:at], (2,))) + given[at:]
        while at + 4 <= len(made):
            key, begin = int.from_bytes(made[at : at + 2]), at + 4
            at = begin + int.from_bytes(made[at + 2 : begin])
            value = bytes(made[begin:at])
            if key == _IPV4_HINT and len(value) % 4 == 0:
                value = b"".join(self._rdata(_A, value[one : one + 4]) for one in range(0, len(value), 4))
            elif key != _PORT_KEY or len(value) != 2:
                value = bytes(len(value))
            made[begin:at] = value
        return bytes(made[:at]).ljust(len(made), b"\0")

    def _named(self, given: bytes, names_at: Iterable[int]) -> bytes:
        """With the names that begin there replaced (-1: right behind the one before). Pointers stay."""
        changed, end = bytearray(given), 0
        for at in names_at:
            places, end = _labels_at(given, end if at < 0 else at)
            labels = self._labels_of(tuple(given[begin:stop] for begin, stop in places))
            for (begin, stop), label in zip(places, labels, strict=True):
                changed[begin:stop] = label if len(label) == stop - begin else b"0" * (stop - begin)
        return bytes(changed)

    def _moved(self, text: str) -> str:
        try:
            return str(self._addresses.address(IPv4Address(text)))
        except ValueError:
            return text

    def _names_nobody(self, text: str) -> bool:
        own = words_of([*_called(self._scenario), *_names(self._scenario)]) - words_of(["kube dns pod"])
        return not _ADDRESS.search(text) and not (words_of([text]) & own) and "in the capture" not in text


# --- what is in a scenario ----------------------------------------------------------------------------------


def _texts(scenario: Scenario) -> Iterator[str]:
    yield from (policy.text for policy in scenario.policies)
    yield from (step.text for step in scenario.steps if step.text is not None)


def _patterns(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, part in value.items():
            if key in _NAME_KEYS and isinstance(part, str):
                yield part
            else:
                yield from _patterns(part)
    elif not isinstance(value, str | bytes | int | float | None):
        for part in value if hasattr(value, "__iter__") else ():
            yield from _patterns(part)


def _names(scenario: Scenario) -> Iterator[str]:
    for step in scenario.steps:
        if step.ask is not None:
            yield step.ask.rpartition(" ")[0]
        for answer in step.answers:
            for line in (*answer.records, *answer.authority, *answer.additional):
                record = records.parse(line)
                yield records.name_text(record.owner)
                if not isinstance(record.data, bytes):
                    yield records.name_text(record.data)


def _called(scenario: Scenario) -> Iterator[str]:
    for pod in scenario.pods:
        yield from (pod.name, pod.namespace, *pod.labels.values())
    for server in scenario.servers:
        yield from (server.name, server.namespace, *server.labels.values())
    yield from (policy.name.removesuffix(".yaml") for policy in scenario.policies)


def _labels_at(data: bytes, at: int) -> tuple[list[tuple[int, int]], int]:
    """Where a name's labels are, as far as they are there and no pointer; and what is behind it."""
    places = []
    while at < len(data) and 0 < data[at] <= 63 and at + 1 + data[at] <= len(data):
        places.append((at + 1, at + 1 + data[at]))
        at = places[-1][1]
    return places, at + (2 if at < len(data) and data[at] >= 0xC0 else 1)


def _blank(data: bytes, kind: int) -> bytes:
    """Texts and options of the same length, with nothing in them."""
    made, place = bytearray(data), 0
    head = 4 if kind == _OPT else 1  # code and length, or a length alone
    while place + head <= len(made):
        begin = place + head
        place = min(begin + int.from_bytes(made[max(place, begin - 2) : begin]), len(made))
        made[begin:place] = (b"\0" if kind == _OPT else b"x") * (place - begin)
    return bytes(made[:place]).ljust(len(made), b"\0")


def _others(scenario: Scenario, made: Scenario, by: _Anonymous) -> list[int]:
    """The numbers of the steps of octets that come to something else."""
    try:
        before = [by.outcome(one.outcome) for one in pure.run(scenario)]
    except InputError:
        return []  # policies with mistakes have no meaning to be kept
    after = [one.outcome for one in pure.run(made)]
    found = [
        number
        for number, (old, new) in enumerate(zip(before, after, strict=True), 1)
        if sorted(old.split()) != sorted(new.split())
    ]
    of_octets = [number for number in found if _has_octets(scenario.steps[number - 1])]
    if found and not of_octets:
        old, new = before[found[0] - 1], after[found[0] - 1]
        raise Bug(f"anonymised, step {found[0]} would come to '{new}', not to '{old}'")
    return of_octets


def _has_octets(step: Step) -> bool:
    return bool(step.query or step.wire or any(answer.octets for answer in step.answers))
