"""Queries that a DNS server of the lab's had no room for, by its kernel's own count.

A resolver that wakes from a hang asks at once for all that has piled up, and dnsmasq's socket holds some
hundred queries: then others are lost, those of pods without policy too. That is the server's limit, and
excuses what was asked in that moment, as its other faults do.
"""

from __future__ import annotations

import time
from pathlib import Path

from lab.kernel import netns
from lab.runtime.handles import Inside
from lab.runtime.lab import Lab

from .model import Disturbance, Weather
from .tally import Tally


class Overflows:
    """Looks at both DNS servers, again and again."""

    def __init__(self, lab: Lab, weather: Weather, tally: Tally) -> None:
        self._weather, self._tally = weather, tally
        self._servers: tuple[Inside, ...] = (lab.pod("kube-dns"), lab.internet)
        self._lost = self._count()
        self._looked_at = time.monotonic()

    def look(self) -> None:
        lost, since = self._count(), self._looked_at
        self._looked_at = time.monotonic()
        if lost > self._lost:
            text = f"{lost - self._lost} queries found no room at a DNS server"
            self._weather.begins(Disturbance("upstream", "", text, since, self._looked_at))
            self._tally.counts["queries that found no room at a DNS server"] += lost - self._lost
        self._lost = lost

    def _count(self) -> int:
        return sum(_receive_errors(server) for server in self._servers)


def _receive_errors(place: Inside) -> int:
    """The namespace's count of datagrams that its sockets had no room for."""
    with netns.keeping(place.place.open()) as inside:
        text = netns.in_namespace(inside.net, Path("/proc/thread-self/net/snmp").read_text)
    names, values = (line.split() for line in text.splitlines() if line.startswith("Udp:"))
    return int(dict(zip(names, values, strict=True))["RcvbufErrors"])
