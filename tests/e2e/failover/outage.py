"""The story of an outage: the shim dies and comes back, then the resolver, then both at once.

All the while a pod without a policy asks and connects, a long download runs through a connection of an
enforced pod, and the kernel's learned sets are read again and again. What is seen is written down; judging is
left to the tests.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from socket import inet_aton
from typing import Any, TypeVar

from scapy.layers.inet import IP

from acns.datapath.elements import Elements
from acns.datapath.selectors import selector_id
from acns.dns import pattern
from acns.shim import views
from lab.capture.tap import Tap
from lab.kernel import netns
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from ..pair import probes, wire
from ..pair.companions import Download, KernelWatch, Steady
from ..pair.probes import Answer, Segment, Sides, happens
from ..pair.stand_in import wait_joined
from ..pair.wire import Wire, tapped

T = TypeVar("T")

ZONE = "storage.example.net"
"""`batch` may ask for what is directly below, and connect to it on PORT."""
SELECTOR = pattern.match_pattern(f"*.{ZONE}")
PORT = 443
TTL_S = 300
IGNORED = re.compile(r'acns_dns_answers_ignored_total\{kind="(.*)"\} (.*)')
PATIENCE_S = 10.0
DOWNLOAD_FROM = "api.example.com"
LEGACY_NAME, LEGACY_SERVER = "evil.example.org", ("198.51.100.99", 80)


@dataclass(frozen=True, slots=True)
class Place:
    """Where it happens: `batch`, watched on both sides of its node, and the cluster's DNS pod."""

    lab: Lab
    sides: Sides
    dns_pod: Tap
    names: dict[str, str]
    """Names of ZONE that nobody has asked for yet, each with an address of its own."""
    stranger: str
    """An address of the Internet that no answer ever told."""

    @property
    def node(self) -> NodeHandle:
        return self.lab.node("node1")

    @property
    def dns_address(self) -> str:
        """The address of the cluster's DNS pod."""
        return str(self.lab.pod("kube-dns").address)

    def take(self) -> tuple[str, str]:
        """A new name and its address."""
        return self.names.popitem()

    def learn(self) -> str:
        """Ask for a new name; its address."""
        name, address = self.take()
        assert self.sides.ask(name) == Answer(wire.NOERROR, (address,))
        return address

    def open(self, *addresses: str, known: str) -> set[str]:
        """Those of the addresses, of `known`'s and of the stranger's, that a SYN gets through to."""
        return self.sides.let_out([*addresses, self.stranger], PORT, known=known)

    def opens(self, address: str, *, known: str) -> bool:
        """Whether an address opens before long."""
        return happens(lambda: address in self.open(address, known=known), PATIENCE_S)

    @property
    def resolver_state(self) -> Path:
        """The folder of what outlives the resolver."""
        return self.node.resolver.log_file.parent / "resolver-state"

    def expiry(self, address: str) -> float:
        """When the kernel lets this address of SELECTOR go, on the monotonic clock."""
        left_s = self._elements(lambda elements: elements.read()[selector_id(SELECTOR)])
        return time.monotonic() + left_s[inet_aton(address)]

    def is_in_the_kernel(self, address: str) -> bool:
        """Whether SELECTOR opens it there."""
        found = self._elements(lambda elements: elements.read().get(selector_id(SELECTOR), {}))
        return inet_aton(address) in found

    def put_by_hand(self, address: str) -> None:
        """As somebody with root would: for SELECTOR, without a word to anybody."""
        self._elements(lambda elements: elements.put({selector_id(SELECTOR): {inet_aton(address): 1000.0}}))

    def entry(self, name: str, address: str) -> dict[str, Any] | None:
        """What the shim says of this address under this name."""
        entries = self.node.shim.http_get(views.CACHE).json()["addresses"]
        wanted = f"{name}.", address
        return next((one for one in entries if (one["name"], one["address"]) == wanted), None)

    def names_known(self, name: str) -> list[str]:
        """The addresses that the shim has under a name."""
        entries = self.node.shim.http_get(views.CACHE).json()["addresses"]
        return [one["address"] for one in entries if one["name"] == f"{name}."]

    def ignored(self) -> dict[str, float]:
        """How many packets the resolver did not take for an answer, by kind."""
        lines = self.node.resolver.http_get("/metrics").text.splitlines()
        found = (IGNORED.fullmatch(line) for line in lines)
        return {match[1]: float(match[2]) for match in found if match}

    def is_known(self, name: str, address: str) -> bool:
        """Whether the shim says that this name brought this address."""
        return self.entry(name, address) is not None

    def _elements(self, do: Callable[[Elements], T]) -> T:
        """With a netlink socket in the node's namespace."""
        namespace = self.node.netns_fd()
        try:
            elements = netns.in_namespace(namespace, lambda: Elements(refresh_by_re_adding=True))
            with contextlib.closing(elements):
                return do(elements)
        finally:
            os.close(namespace)

    def upstream_queries(self, name: str) -> int:
        """How often the DNS pod was asked for a name."""
        about = wire.seen(self.dns_pod, wire.holding(name.partition(".")[0]))
        queries = filter(wire.is_udp_to(wire.DNS_PORT), about)
        return sum(packet[IP].dst == self.dns_address for packet in queries)

    def leaks(self, known: str) -> list[str]:
        """What became of queries over UDP and TCP, to the DNS Service and straight to its pod.

        Empty when they failed closed: nothing reached the pod, nobody answered.
        """
        cable = self.sides.wire
        label = wire.fresh_label(cable.rng)
        message = wire.query(f"{label}.{ZONE}", ident=cable.rng.getrandbits(16))
        servers = cable.cluster_dns, self.dns_address
        ports = [cable.udp(server, message) for server in servers]
        syns = [cable.syn(server, wire.DNS_PORT) for server in servers]
        self.open(known=known)  # a fence: what was sent before has been judged
        found = wire.seen(self.dns_pod, wire.holding(label))
        found += [packet for syn in syns for packet in wire.seen(self.dns_pod, wire.is_syn(syn))]
        found += [packet for port in ports for packet in cable.answers(port)]
        return [packet.summary() for packet in found]

    def download_flows(self) -> bool:
        """Whether data of the download come to its pod."""
        with tapped(self.lab.pod("frontend")) as tap:
            return happens(lambda: any(map(_is_download, probes.segments_in(tap))), PATIENCE_S)

    def wait_well(self) -> None:
        """Wait until both agents are ready and have met."""
        self.node.shim.wait_ready()
        self.node.resolver.wait_ready()
        wait_joined(self.lab, self.node.name)


def _is_download(segment: Segment) -> bool:
    return segment.source_port == PORT and segment.payload_bytes > 0


@contextmanager
def places(lab: Lab, ttl_s: int = TTL_S) -> Iterator[Place]:
    """The place, with names enough."""
    rng = wire.seeded()
    names = {f"{wire.fresh_label(rng)}.{ZONE}": wire.fresh_address(rng) for _ in range(24)}
    records = {name: InternetName(a=(IPv4Address(address),), ttl_s=ttl_s) for name, address in names.items()}
    _, stranger = names.popitem()
    with (
        wire.more_names(lab, records),
        Sides.of(lab, "batch", rng) as sides,
        tapped(lab.pod("kube-dns")) as dns_pod,
    ):
        yield Place(lab, sides, dns_pod, names, stranger)


@dataclass(frozen=True, slots=True)
class WithoutShim:
    allowed: Answer
    """To the fresh name, asked for the first time."""
    fresh: str
    """The fresh name's address."""
    denied: Answer
    denied_upstream: int
    """Packets about the denied name at the DNS pod."""
    open: set[str]
    download_flows: bool
    open_afterwards: set[str]
    known_afterwards: bool
    """Whether the shim, back again, says under which name the fresh address was learned."""
    asked_upstream: int
    """Queries for the fresh name that the DNS pod saw, the shim's return included."""


@dataclass(frozen=True, slots=True)
class WithoutResolver:
    leaks: list[str]
    dig: int
    """dig's exit code; 9: no server answered."""
    open: set[str]
    download_flows: bool


@dataclass(frozen=True, slots=True)
class WithoutBoth:
    leaks: list[str]
    open: set[str]
    download_flows: bool
    alone: Answer
    """To a new name, when the resolver was back and the shim was not."""
    alone_address: str
    alone_denied: Answer
    open_alone: set[str]
    last: str
    """The address of a name that was asked for when both were back."""
    open_afterwards: set[str]


@dataclass(frozen=True, slots=True)
class Story:
    """`known` was learned before anything happened; `stranger` never."""

    known: str
    stranger: str
    without_shim: WithoutShim
    without_resolver: WithoutResolver
    without_both: WithoutBoth
    legacy: Steady
    watch: KernelWatch
    download: Download


@contextmanager
def told(place: Place) -> Iterator[Story]:
    """The whole story; the download still runs inside the block."""
    known = place.learn()
    assert place.opens(known, known=known)
    with contextlib.ExitStack() as stack:
        cable = stack.enter_context(Wire(place.lab, "legacy", place.sides.wire.rng))
        download = stack.enter_context(Download(place.lab.pod("frontend"), DOWNLOAD_FROM))
        assert place.download_flows()
        watch = KernelWatch(place.node)
        legacy = Steady(cable, LEGACY_NAME, LEGACY_SERVER)
        with watch.running(), legacy.running():
            watch.require(SELECTOR, known)
            without_shim = _shim_dies(place, known)
            watch.require(SELECTOR, without_shim.fresh)
            without_resolver = _resolver_dies(place, known)
            without_both = _both_die(place, known)
        yield Story(
            known, place.stranger, without_shim, without_resolver, without_both, legacy, watch, download
        )


def _shim_dies(place: Place, known: str) -> WithoutShim:
    label = wire.fresh_label(place.sides.wire.rng)
    fresh_name, fresh = place.take()
    place.node.shim.hold()
    denied = place.sides.ask(f"{label}.example.org")
    # Behind it, so that whatever the denied query did is seen when this one's answer is.
    allowed = place.sides.ask(fresh_name)
    denied_upstream = len(wire.seen(place.dns_pod, wire.holding(label)))
    open_, flows = place.open(fresh, known=known), place.download_flows()
    place.node.shim.start()
    place.wait_well()
    place.opens(fresh, known=known)
    open_afterwards = place.open(fresh, known=known)
    known_afterwards = happens(lambda: place.is_known(fresh_name, fresh), PATIENCE_S)
    asked = place.upstream_queries(fresh_name)
    return WithoutShim(
        allowed, fresh, denied, denied_upstream, open_, flows, open_afterwards, known_afterwards, asked
    )


def _resolver_dies(place: Place, known: str) -> WithoutResolver:
    place.node.resolver.hold()
    name, _ = place.take()
    leaks = place.leaks(known)
    dig = place.sides.wire.pod.run(["dig", "+tries=1", "+time=1", name]).returncode
    open_, flows = place.open(known=known), place.download_flows()
    place.node.resolver.start()
    place.wait_well()
    return WithoutResolver(leaks, dig, open_, flows)


def _both_die(place: Place, known: str) -> WithoutBoth:
    """The resolver comes back first, and serves by the policy it left on disk."""
    place.node.shim.hold()
    place.node.resolver.hold()
    leaks, open_, flows = place.leaks(known), place.open(known=known), place.download_flows()
    place.node.resolver.start()
    place.node.resolver.wait_ready()
    alone_name, alone_address = place.take()
    alone = place.sides.ask(alone_name)
    alone_denied = place.sides.ask(f"{wire.fresh_label(place.sides.wire.rng)}.example.org")
    open_alone = place.open(alone_address, known=known)
    place.node.shim.start()
    place.wait_well()
    last_name, last = place.take()
    place.sides.ask(last_name)
    place.opens(last, known=known)
    return WithoutBoth(
        leaks,
        open_,
        flows,
        alone,
        alone_address,
        alone_denied,
        open_alone,
        last,
        place.open(last, alone_address, known=known),
    )
