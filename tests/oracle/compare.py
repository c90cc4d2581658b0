"""Two answers to one question, and what to show of it when they differ: a file and a packet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from . import tolerance
from .census import constructs
from .cluster import Cluster, Packet
from .product import Cut, Judgement, Refused
from .reduce import reduced
from .semantics import Oracle, Verdict


class Answers(Protocol):
    """What is compared with the oracle: one cluster's policies, put to work on one node."""

    def judge(self, packets: Sequence[Packet]) -> list[Judgement]: ...

    def name_allowed(self, packet: Packet) -> bool | None:
        """None: it cannot say."""


Enforce = Callable[[Cluster, str], Answers]


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind` tells one finding from another while a file is made smaller."""

    kind: str
    packet: Packet | None
    text: str


@dataclass
class Tally:
    """What the cases of a run were like."""

    verdicts: Counter[str] = field(default_factory=Counter)
    names: Counter[bool] = field(default_factory=Counter)
    constructs: Counter[str] = field(default_factory=Counter)

    def __str__(self) -> str:
        total = max(self.verdicts.total(), 1)
        shares = ", ".join(f"{name} {count / total:.0%}" for name, count in self.verdicts.most_common())
        rare = ", ".join(f"{name} {count}" for name, count in self.constructs.most_common()[:-8:-1])
        names = f"names: {self.names[True]} allowed, {self.names[False]} refused"
        return f"{total} cases: {shares}; {names}; rarest constructs: {rare}"


def difference(
    enforce: Enforce, cluster: Cluster, node: str, packets: Sequence[Packet], tally: Tally
) -> Difference | None:
    """The first one."""
    oracle = Oracle(cluster, node)
    tally.constructs.update(constructs(cluster))
    try:
        answers = enforce(cluster, node)
        judgements = answers.judge(packets)
    except Refused as error:
        return Difference(f"refused: {error.reason}", None, f"valid manifests are refused: {error}")
    except Cut as error:
        return Difference("cut", error.packet, str(error))
    for packet, seen in zip(packets, judgements, strict=True):
        expected = oracle.judge(packet)
        tally.verdicts[expected.value] += 1
        if seen.verdict not in tolerance.verdicts(oracle, packet, expected):
            text = f"the policies say {expected.value}, the ruleset says {seen.verdict.value} (by {seen.by})"
            return Difference(f"{expected} {seen.verdict}", packet, text)
        if seen.verdict is Verdict.PROXY and expected is not Verdict.ALLOW and packet.name:
            allowed = expected is Verdict.PROXY and oracle.name_allowed(packet)
            answered = answers.name_allowed(packet)
            tally.names[allowed] += 1
            if answered is not None and answered not in tolerance.answers(oracle, packet, allowed):
                words = {True: "allowed", False: "refused"}
                text = (
                    f"{packet.name}: by the policies {words[allowed]}, by the policy stream {words[answered]}"
                )
                return Difference(f"name {allowed}", packet, text)
    return None


def smallest_file(enforce: Enforce, cluster: Cluster, node: str, found: Difference) -> str:
    """What to put into a report: manifests with nothing in them that is not needed to see the difference."""

    def same(smaller: Cluster) -> bool:
        packets = [found.packet] if found.packet else []
        try:
            possible = all(_can_be(smaller, node, packet) for packet in packets)
            again = difference(enforce, smaller, node, packets, Tally()) if possible else None
        except (KeyError, ValueError, IndexError, AssertionError):  # no cluster any more
            return False
        return again is not None and again.kind == found.kind

    small = reduced(cluster, same)
    head = {
        "packet": found.packet,
        "node": node,
        "enforcement": small.enforcement,
        "learned": dict(small.learned),
    }
    lines = [found.text, *(f"{name}: {value}" for name, value in head.items()), "--- manifests", small.text()]
    return "\n".join(lines)


def _can_be(cluster: Cluster, node: str, packet: Packet) -> bool:
    """Whether one end is still a pod of the node, and the Service still has that backend."""
    pods = {pod["status"]["podIP"] for pod in cluster.endpoints() if pod["spec"].get("nodeName") == node}
    translated = not packet.backend or any(
        (address, port["port"], port.get("protocol", "TCP"))
        == (packet.destination, packet.port, packet.protocol)
        and packet.backend in cluster.backends(service, port)
        for address, service, port in cluster.service_ports()
    )
    return translated and not pods.isdisjoint((packet.source, packet.target[0]))
