"""Recorded packets, put on a pod's link octet by octet, and what comes of them: what comes back, and whether
the far end saw them.

A packet goes out behind an Ethernet header of the lab's, since nobody else would take it. What comes back is
told by its addresses and ports, of the last packet that had them; whether it was let through, by an ear in
the place that it is for. A pod's kernel does not know of the packet: it is kept from turning datagrams away,
and it resets what it never opened, as the kernel of whoever sent them first did.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import socket
import struct
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Any, Final

from lab.repro.reading import oddities
from lab.repro.reading.ip import TCP, UDP
from lab.repro.reading.units import Unit
from lab.repro.running import clients, far_ends
from lab.repro.scenario import messages, packets
from lab.repro.scenario.model import FORWARDED, HELD, Scenario, Step
from lab.repro.scenario.topology import DNS_PORT
from lab.runtime.handles import Inside, PodHandle
from lab.runtime.lab import Lab

_ETHERTYPE: Final = 0x0800
_SIOCGIFHWADDR: Final = 0x8927
_RECEIVE_BYTES: Final = 65_535
_LINK_OCTETS: Final = 14
_NOT_REPLIES: Final = frozenset({messages.SILENT, FORWARDED, HELD})
_SEEN_KEPT: Final = 4_096


@dataclass(slots=True)
class _Sent:
    """A step's packets on their way."""

    octets: tuple[bytes, ...]
    seen_before: int
    """How many packets had arrived anywhere: none of them is one of these."""
    replies: set[str] = field(default_factory=set)
    dns: list[bytes] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def heard(self, unit: Unit) -> None:
        self.replies.add(oddities.word(unit))
        if unit.packet.protocol == UDP and unit.source_port == DNS_PORT:
            self.dns.append(unit.payload)
        self.changed.set()


class Cables:
    """The links of all pods that have recorded packets to send. Close it."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._closing = contextlib.ExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._cards: dict[str, tuple[socket.socket, bytes]] = {}
        self._by_key: dict[oddities.Key, _Sent] = {}
        self._ears: set[str] = set()
        self._seen: list[bytes] = []
        self._arrivals = 0

    @classmethod
    @contextlib.contextmanager
    def open(cls, lab: Lab, scenario: Scenario, are_used: bool) -> Iterator[Cables]:
        """For the block's time, in the running event loop."""
        made = cls(lab)
        try:
            for step in scenario.steps if are_used else ():
                if step.wire:
                    made._open(scenario, step)
            yield made
        finally:
            for task in made._tasks:
                task.cancel()
            made._closing.close()

    async def send(self, pod: PodHandle, step: Step, slowest_s: float = 0.0) -> tuple[str, list[bytes]]:
        """What came of a step's packets, and the DNS messages that came back."""
        octets = tuple(map(packets.parse, step.wire))
        sent = _Sent(octets, self._arrivals)
        card, link = self._cards[pod.name + "/" + pod.namespace]
        for one in octets:
            self._by_key.update(dict.fromkeys(oddities.keys_of(one, packets.packet(one)), sent))
            self._hold_port(pod, one)
        loop = asyncio.get_running_loop()
        for one in octets:
            await loop.sock_sendall(card, link + one)
        recorded = frozenset(step.outcome.split())
        is_silent = step.kind == "wire" and not recorded - {messages.SILENT, FORWARDED, HELD}
        patience_s = clients.patience_s(messages.SILENT if is_silent else step.outcome, slowest_s)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                while not self._is_done(sent, step, recorded):
                    sent.changed.clear()
                    await sent.changed.wait()
        return self._words(sent, recorded), sent.dns

    def _is_done(self, sent: _Sent, step: Step, recorded: frozenset[str]) -> bool:
        """Whether nothing more has to come for it to be as recorded."""
        if step.kind == "ask":
            return bool(sent.dns)
        wanted = recorded - _NOT_REPLIES
        if HELD in recorded or not recorded or not (wanted or FORWARDED in recorded):
            return False
        return wanted <= sent.replies and (FORWARDED not in recorded or self._was_forwarded(sent))

    def _words(self, sent: _Sent, recorded: frozenset[str]) -> str:
        """Whether it was let through is said where the recording says it, or says nothing."""
        words = sorted(sent.replies) or [messages.SILENT]
        if not recorded or recorded & {FORWARDED, HELD}:
            words.append(FORWARDED if self._was_forwarded(sent) else HELD)
        return " ".join(words)

    def _was_forwarded(self, sent: _Sent) -> bool:
        gone = self._arrivals - len(self._seen)
        behind = self._seen[max(sent.seen_before - gone, 0) :]
        return any(is_same(seen, one) for seen in behind for one in sent.octets)

    # --- sockets --------------------------------------------------------------------------------------------

    def _open(self, scenario: Scenario, step: Step) -> None:
        pod = scenario.pod_of(step)
        if (key := f"{pod.name}/{pod.namespace}") not in self._cards:
            handle = self._lab.pod(f"{pod.namespace}/{pod.name}")
            card = self._opened(handle, socket.SOCK_RAW)
            card.bind((handle.iface, _ETHERTYPE))
            gateway = _hardware_address(self._lab.node(handle.node), handle.node_iface)
            link = gateway + _hardware_address(handle, handle.iface) + struct.pack("!H", _ETHERTYPE)
            self._cards[key] = card, link
            self._start(self._listen(card, _LINK_OCTETS, self._came_back))
        for text in step.wire:
            self._listen_at(IPv4Address(packets.destination(packets.parse(text))), scenario)

    def _listen_at(self, address: IPv4Address, scenario: Scenario) -> None:
        """At the place that a packet is for: of a Service, its pod."""
        server = next((one for one in scenario.servers if one.labels and one.address == address), None)
        if server is not None:
            place: Inside | None = self._lab.pod(f"{server.namespace}/{server.name}")
        else:
            place = far_ends.place_at(self._lab, address)
        if place is not None and (key := place.place.name) not in self._ears:
            self._ears.add(key)
            ear = self._opened(place, socket.SOCK_DGRAM)
            self._start(self._listen(ear, 0, self._arrived))

    def _opened(self, place: Inside, kind: int) -> socket.socket:
        made = place.open_socket(socket.AF_PACKET, kind, socket.htons(_ETHERTYPE))
        self._closing.callback(made.close)
        made.setblocking(False)
        return made

    def _hold_port(self, pod: PodHandle, octets: bytes) -> None:
        """So that the pod's kernel turns no answer away."""
        packet = packets.packet(octets)
        port = oddities.ends_of(packet).source_port if packet is not None and packet.protocol == UDP else 0
        if not port:  # as of a later fragment
            return
        made = pod.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._closing.callback(made.close)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            made.bind(("", port))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(asyncio.get_running_loop().create_task(work))

    async def _listen(self, card: socket.socket, skipped: int, take: Callable[[bytes], None]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            frame, where = await loop.sock_recvfrom(card, _RECEIVE_BYTES)
            if where[2] != socket.PACKET_OUTGOING:
                take(frame[skipped:])

    def _came_back(self, octets: bytes) -> None:
        unit = packets.unit(octets)
        for key in oddities.keys_of_reply(unit) if unit is not None else ():
            if (sent := self._by_key.get(key)) is not None:
                sent.heard(unit)  # type: ignore[arg-type]
                return

    def _arrived(self, octets: bytes) -> None:
        self._seen.append(octets)
        self._arrivals += 1
        del self._seen[:-_SEEN_KEPT]
        for sent in self._by_key.values():
            sent.changed.set()


def is_same(seen: bytes, sent: bytes) -> bool:
    """Whether it is that packet, routed, and perhaps translated: by what no translation touches, and the one
    end that it leaves as it was."""
    one, other = packets.packet(seen), packets.packet(sent)
    if one is None or other is None or (one.protocol, one.ident) != (other.protocol, other.ident):
        return False
    if one.is_fragment or other.is_fragment:  # later ones have no ports
        return bool(one.ident) and (one.source == other.source or one.destination == other.destination)
    mine, theirs = oddities.ends_of(one), oddities.ends_of(other)
    if mine[1:3] != theirs[1:3] and mine[3:] != theirs[3:]:
        return False
    kept = slice(4, 14) if one.protocol == TCP else slice(8, None)
    return one.body[kept] == other.body[kept]


def _hardware_address(place: Inside, interface: str) -> bytes:
    with place.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        found = fcntl.ioctl(probe, _SIOCGIFHWADDR, struct.pack("256s", interface.encode()))
    return found[18:24]
