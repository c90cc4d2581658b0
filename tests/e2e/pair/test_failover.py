"""Agents die, hang and come back; what is enforced stays enforced, and what is open stays open.

One story, told once (`outage`) and looked at from many sides: the shim dies and comes back, then the resolver,
then both at once. All the while a pod without a policy asks and connects, a long download runs through an
enforced pod's connection, and the kernel's learned sets are read again and again. A hung shim has a story of
its own.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

import pytest

from acns.dns import pattern
from lab.capture.tap import Tap
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from .companions import Download, KernelWatch, Steady
from .probes import Answer, Sides, data_in
from .stand_in import is_ready, wait_joined
from .wire import (
    NOERROR,
    REFUSED,
    Wire,
    fresh_address,
    fresh_label,
    holding,
    is_syn,
    more_names,
    query,
    seeded,
    seen,
    tapped,
    until,
)

pytestmark = pytest.mark.root

ZONE = "storage.example.net"
"""`batch` may ask for and connect to what is directly below."""
PORT = 443
DOWNLOAD_FROM = "api.example.com"
LEGACY_NAME, LEGACY_SERVER = "evil.example.org", ("198.51.100.99", 80)
NO_ANSWER = 9
"""dig's exit code when no server answered."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the story plays: `batch`, watched on both sides of its node, and the cluster's DNS pod."""

    lab: Lab
    sides: Sides
    dns_pod: Tap
    names: dict[str, str]
    """Names of ZONE that nobody has asked for yet, each with an address of its own."""
    stranger: str
    """An address that no answer ever told."""

    @property
    def node(self) -> NodeHandle:
        return self.lab.node("node1")

    def take(self) -> tuple[str, str]:
        """A new name and its address."""
        return self.names.popitem()

    def learn(self) -> str:
        """A new address that is open now."""
        name, address = self.take()
        assert self.sides.ask(name) == Answer(NOERROR, (address,))
        return address

    def upstream_queries(self, name: str) -> int:
        """How often the Internet was asked for a name."""
        return sum(entry["name"] == f"{name}." for entry in self.lab.internet.queries())

    def refusal(self) -> tuple[Answer, int]:
        """What a denied name is answered, and how many packets about it the DNS pod saw."""
        label = fresh_label(self.sides.wire.rng)
        denied = self.sides.ask(f"{label}.example.org")
        self.learn()  # reaches the DNS pod, behind whatever the denied query may have caused
        return denied, len(seen(self.dns_pod, holding(label)))

    def leaks(self, known: str) -> list[str]:
        """What becomes of DNS queries, over UDP and TCP, that must fail closed; empty when they do."""
        cable = self.sides.wire
        label = fresh_label(cable.rng)
        port = cable.udp(cable.cluster_dns, query(f"{label}.{ZONE}", ident=cable.rng.getrandbits(16)))
        sequence = cable.syn(cable.cluster_dns, 53)
        self.sides.let_out([], PORT, known=known)
        found = ["UDP query at the DNS pod" for _ in seen(self.dns_pod, holding(label))]
        found += ["TCP query at the DNS pod" for _ in seen(self.dns_pod, is_syn(sequence))]
        return found + ["an answer to the pod" for _ in cable.answers(port)]


@pytest.fixture(scope="module")
def place(own_quickstart: Lab) -> Iterator[Place]:
    lab, rng = own_quickstart, seeded()
    names = {f"{fresh_label(rng)}.{ZONE}": fresh_address(rng) for _ in range(24)}
    stranger = fresh_address(rng)
    records = {**names, f"{fresh_label(rng)}.{ZONE}": stranger}
    with contextlib.ExitStack() as stack:
        stack.enter_context(
            more_names(
                lab,
                {name: InternetName(a=(IPv4Address(address),), ttl_s=300) for name, address in records.items()},
            )
        )
        sides = stack.enter_context(Sides.of(lab, "batch", rng))
        dns_pod = stack.enter_context(tapped(lab.pod("kube-dns")))
        yield Place(lab, sides, dns_pod, names, stranger)


@dataclass
class Outage:
    """What was seen in the story. Sets hold those of the addresses that a SYN got through to."""

    allowed: Answer | None = None
    refusal: tuple[Answer, int] | None = None
    open_without_shim: set[str] = field(default_factory=set)
    open_with_shim_back: set[str] = field(default_factory=set)
    asked_upstream: int = 0
    leaks_without_resolver: list[str] = field(default_factory=list)
    dig_without_resolver: int = 0
    open_without_resolver: set[str] = field(default_factory=set)
    leaks_without_both: list[str] = field(default_factory=list)
    open_without_both: set[str] = field(default_factory=set)
    leaks_without_policy: list[str] = field(default_factory=list)
    open_at_the_end: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Story:
    """The outage, its addresses, and what went on beside it."""

    seen: Outage
    known: str
    """Learned before anything happened."""
    fresh: str
    """The address of an allowed name, asked for first while the shim was dead."""
    last: str
    """The address of a name that was asked for first when all was over."""
    stranger: str
    steady: Steady
    watch: KernelWatch
    download: Download


@pytest.fixture(scope="module")
def story(place: Place) -> Iterator[Story]:
    lab, seen_ = place.lab, Outage()
    rng = place.sides.wire.rng
    known = place.learn()
    with contextlib.ExitStack() as stack:
        legacy = stack.enter_context(Wire(lab, "legacy", rng))
        watch = stack.enter_context(KernelWatch(place.node).running())
        download = stack.enter_context(Download(lab.pod("frontend"), DOWNLOAD_FROM))
        watch.require(pattern.match_pattern(f"*.{ZONE}"), known)
        wait_download_flows(lab)
        with Steady(legacy, LEGACY_NAME, LEGACY_SERVER).running() as steady:
            fresh = shim_dies(place, seen_, known)
            watch.require(pattern.match_pattern(f"*.{ZONE}"), fresh)
            resolver_dies(place, seen_, known)
            last = both_die(place, seen_, known)
        yield Story(seen_, known, fresh, last, place.stranger, steady, watch, download)


def shim_dies(place: Place, seen_: Outage, known: str) -> str:
    """The shim's death, its absence and its return; the address that was told meanwhile."""
    place.node.shim.hold()
    fresh_name, fresh = place.take()
    seen_.allowed = place.sides.ask(fresh_name)
    seen_.refusal = place.refusal()
    seen_.open_without_shim = place.sides.let_out([known, fresh, place.stranger], PORT, known=known)
    wait_download_flows(place.lab)
    place.node.shim.start()
    wait_well(place)
    wait_open(place, fresh, known)
    seen_.open_with_shim_back = place.sides.let_out([known, fresh, place.stranger], PORT, known=known)
    seen_.asked_upstream = place.upstream_queries(fresh_name)
    return fresh


def resolver_dies(place: Place, seen_: Outage, known: str) -> None:
    place.node.resolver.hold()
    seen_.leaks_without_resolver = place.leaks(known)
    name, _ = place.take()
    dig = place.sides.wire.pod.run(["dig", "+tries=1", "+time=1", name])
    seen_.dig_without_resolver = dig.returncode
    seen_.open_without_resolver = place.sides.let_out([known, place.stranger], PORT, known=known)
    wait_download_flows(place.lab)
    place.node.resolver.start()
    wait_well(place)


def both_die(place: Place, seen_: Outage, known: str) -> str:
    """Both at once; the resolver comes back first and has no policy until the shim is there."""
    shim, resolver = place.node.shim, place.node.resolver
    shim.hold()
    resolver.hold()
    seen_.leaks_without_both = place.leaks(known)
    seen_.open_without_both = place.sides.let_out([known, place.stranger], PORT, known=known)
    wait_download_flows(place.lab)
    resolver.start()
    until(lambda: answers_http(resolver), "the resolver runs")
    seen_.leaks_without_policy = place.leaks(known)
    shim.start()
    wait_well(place)
    last = place.learn()
    seen_.open_at_the_end = place.sides.let_out([known, last, place.stranger], PORT, known=known)
    wait_download_flows(place.lab)
    return last
