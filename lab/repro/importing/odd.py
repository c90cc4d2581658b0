"""Packets of pods that no step of a scenario can say, as octets in it, bounded; under addresses of a lab."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lab.repro.importing.roles import Roles
from lab.repro.reading.evidence import Evidence, Message, Odd
from lab.repro.scenario import messages, packets
from lab.repro.scenario.model import FORWARDED, HELD, MAX_WIRE, Step
from lab.repro.scenario.topology import is_inside, is_outside

MAX_ODD: Final = 200
MAX_OCTETS: Final = 128 << 10
"""In a scenario: it is to be read by people."""
_NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class OddPackets:
    """Of a capture. `assumptions`: after all have been asked for."""

    roles: Roles
    first_ns: int
    _kept: list[tuple[Odd, tuple[str, ...]]] = field(default_factory=list)
    _by_frame: dict[int, int] = field(default_factory=dict)
    _said: set[int] = field(default_factory=set)
    _left_out: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, evidence: Evidence, roles: Roles) -> OddPackets:
        made, octets_left = cls(roles, evidence.first_ns), MAX_OCTETS
        for odd in evidence.odd:
            if odd.source not in roles.pods:
                continue
            left = octets_left - sum(map(len, odd.packets))
            if reason := made._why_not(odd, left):
                made._left_out[reason] += 1
                continue
            octets_left = left
            number = len(made._kept)
            made._kept.append((odd, tuple(map(made._text, odd.packets))))
            made._by_frame.update(dict.fromkeys(odd.frames, number))
        return made

    def of_query(self, message: Message) -> tuple[str, ...]:
        """The packets that brought it, where they are odd."""
        number = next((self._by_frame[one] for one in message.frames if one in self._by_frame), None)
        if number is None:
            return ()
        self._said.add(number)
        return self._kept[number][1]

    def alone(self) -> Iterator[Step]:
        """Those that are in no query."""
        for number, (odd, texts) in enumerate(self._kept):
            if number not in self._said:
                yield Step(
                    at_ms=round(max(odd.at_ns - self.first_ns, 0) / _NS_PER_MS, 3),
                    pod=self.roles.pods[odd.source].name if len(self.roles.pods) > 1 else None,
                    wire=texts,
                    outcome=_outcome(odd),
                )

    def assumptions(self) -> Iterator[str]:
        if self._kept:
            kinds = Counter(odd.why for odd, _ in self._kept)
            shown = ", ".join(f"{count} {why}" for why, count in kinds.most_common(5))
            yield f"packets that no step can say are here as octets, for --wire: {shown}"
        for why, count in self._left_out.items():
            yield f"{count} odd packets are left out: {why}"

    def _why_not(self, odd: Odd, octets_left: int) -> str:
        place = self.roles.place(odd.destination)
        known = {pod.address for pod in self.roles.pods.values()}
        known |= {server.address for server in self.roles.servers.values()}
        if max(map(len, odd.packets)) > packets.MOST_OCTETS or len(odd.packets) > MAX_WIRE:
            return "larger than a lab's links carry"
        if place not in known and (is_inside(place) or not is_outside(place)):
            return "to addresses that a lab has nobody at"
        if len(self._kept) >= MAX_ODD or octets_left < 0:
            return f"more than {MAX_ODD}, or than {MAX_OCTETS >> 10} KiB"
        return ""

    def _text(self, octets: bytes) -> str:
        moved = {old.packed: new.packed for old, new in self.roles.moved.items()}
        return packets.moved(packets.finished(octets), moved).hex()


def _outcome(odd: Odd) -> str:
    words = [*odd.replies] or [messages.SILENT]
    if odd.was_routed is not None:
        words.append(FORWARDED if odd.was_routed else HELD)
    return " ".join(words)
