"""A race between answers and SYNs, run in a pod and judged at two taps.

The client (`race_client.py`, a process of its own) sends a SYN the instant an answer is there, and one to the
same address before it asks.
"""

from __future__ import annotations

import itertools
import json
import random
import socket
import statistics
import sys
from collections import Counter
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from lab.spec.topology import InternetName

from . import wire
from .probes import Sides, Syn, answers_in, syns

CLIENT = Path(__file__).with_name("race_client.py")

Target = tuple[str, str]
"""A name, and the address that only this name has."""


class Names:
    """Names that nobody has asked for yet, each with an address of its own out of 198.18.0.0/15."""

    def __init__(self, zone: str, count: int, rng: random.Random) -> None:
        first = int(IPv4Address("198.18.0.1"))
        self._all: list[Target] = [
            (f"{wire.fresh_label(rng)}.{zone}", str(IPv4Address(first + offset)))
            for offset in rng.sample(range((1 << 17) - 2), count)
        ]
        self._unused = iter(self._all)

    def take(self, count: int) -> list[Target]:
        taken = list(itertools.islice(self._unused, count))
        assert len(taken) == count, "more names wanted than there are"
        return taken

    def records(self) -> dict[str, InternetName]:
        return {name: InternetName(a=(IPv4Address(address),)) for name, address in self._all}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one rush of names: those for which something was not as it should be."""

    median_gap_us: float
    """From the answer to the SYN, both as seen at the pod's interface."""
    unanswered: tuple[str, ...]
    """No answer, or one without the name's address."""
    untested: tuple[str, ...]
    """Not both SYNs were sent, or no answer was seen: nothing is proven for these."""
    dropped: tuple[str, ...]
    """The SYN after the answer did not come out of the node, at the first attempt or ever."""
    repeated: tuple[str, ...]
    """The SYN after the answer was sent more than once."""
    let_in: tuple[str, ...]
    """A SYN from before the question came out of the node."""


FAULTS = ("unanswered", "untested", "dropped", "repeated", "let_in")


def rush(sides: Sides, targets: list[Target], port: int, *, in_flight: int, linger_s: float = 5.0) -> Verdict:
    """Let the client loose on these names, so many at a time, and read the taps.

    `linger_s`: how long the client waits for connections that come to nothing.
    """
    sides.clear()
    job = {
        "server": sides.wire.cluster_dns,
        "port": port,
        "in_flight": in_flight,
        "linger_s": linger_s,
        "queries": [{"query": _question(sides, name).hex(), "address": address} for name, address in targets],
    }
    done = sides.wire.pod.run([sys.executable, str(CLIENT)], 120.0, input=json.dumps(job))
    assert done.returncode == 0, done.stderr
    verdict = _judge(sides, targets, json.loads(done.stdout))
    assert sides.wire.tap.dropped == sides.uplink.dropped == 0, "a tap lost frames: nothing is proven"
    return verdict


def _judge(sides: Sides, targets: list[Target], attempts: list[dict[str, Any]]) -> Verdict:
    sent: dict[tuple[str, int], list[Syn]] = {}
    for syn in syns(sides.wire.tap):
        sent.setdefault((syn.destination, syn.source_port), []).append(syn)
    passed = Counter(syn.key for syn in syns(sides.uplink))
    answers = answers_in(sides.wire.tap)
    found: dict[str, list[str]] = {kind: [] for kind in FAULTS}
    gaps_us = []
    for (name, address), attempt in zip(targets, attempts, strict=True):
        answer = bytes.fromhex(attempt.get("answer", ""))
        if not _tells(answer, address):
            found["unanswered"].append(name)
        before = sent.get((address, attempt.get("knock_port", 0)))
        after = sent.get((address, attempt.get("port", 0)))
        if not before or not after or answer not in answers:
            found["untested"].append(name)
            continue
        gaps_us.append((after[0].time_ns - answers[answer].time_ns) / 1_000)
        # A retransmission has the same key: all copies must have come out.
        if passed[after[0].key] < len(after):
            found["dropped"].append(name)
        if len(after) > 1:
            found["repeated"].append(name)
        if passed[before[0].key]:
            found["let_in"].append(name)
    faults = {kind: tuple(names) for kind, names in found.items()}
    return Verdict(statistics.median(gaps_us or [0.0]), **faults)


def _question(sides: Sides, name: str) -> bytes:
    return wire.query(name, ident=sides.wire.rng.getrandbits(16))


def _tells(answer: bytes, address: str) -> bool:
    """NOERROR with one record, which holds the address."""
    if len(answer) < 12:
        return False
    rcode, answers = answer[3] & 0xF, int.from_bytes(answer[6:8])
    return (rcode, answers, answer[-4:]) == (0, 1, socket.inet_aton(address))
