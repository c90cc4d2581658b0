"""A node with a guest that may look up and connect to a few names, and everybody who would help it to more.

The test holds all of it in its hands: the guest's cable, the DNS server that the guest may ask, a rogue pod,
and taps wherever something could come out. What has not come out is looked for behind a round trip that
the guest began after it, and one veth keeps packets in order.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from scapy.packet import Packet

from lab.capture.tap import Tap
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab
from lab.spec.topology import Topology

from .. import cluster_dns
from ..pair import wire
from ..pair.wire import Wire, tapped
from .scripted import ScriptedDNS

EXACT, ZONE = "ok.example.test", "pub.example.test"
"""What the guest may: this name, and any with one label more than that one, to port 443."""
OTHERS_ZONE = "other.example.test"
OPEN, DENIED, DENIED_V6 = "198.51.100.10", "198.51.100.99", "2001:db8::99"
"""Servers of the Internet. The guest comes to know the first by `EXACT`."""
OTHER_DNS = "203.0.113.53"
WEB_SERVICE = "10.96.20.20"
HTTPS, MDNS, DOT = 443, 5353, 853

_POLICY = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: {pod}, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: {pod}}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{"k8s:io.kubernetes.pod.namespace": kube-system, "k8s:k8s-app": kube-dns}}
    toPorts:
    - ports: [{{port: "53", protocol: ANY}}]
      rules: {{dns: {names}}}
"""
_CONNECT = """
  - toFQDNs: {names}
    toPorts: [{{ports: [{{port: "443", protocol: TCP}}]}}]
"""
_GUESTS = f'[{{matchName: {EXACT}}}, {{matchPattern: "*.{ZONE}"}}]'
_OTHERS = f'[{{matchPattern: "*.{OTHERS_ZONE}"}}]'
GUEST_FILE = "guest.yaml"
ONLY_ASK = _POLICY.format(pod="guest", names=_GUESTS)
ASK_AND_CONNECT = ONLY_ASK.rstrip() + _CONNECT.format(names=_GUESTS)

_TOPOLOGY = {
    "name": "bypass",
    "nodes": [{"name": "node1"}],
    "pods": [
        {"name": "guest", "node": "node1", "labels": {"app": "guest"}},
        {"name": "other", "node": "node1", "labels": {"app": "other"}},
        {"name": "free", "node": "node1"},
        {"name": "rogue", "node": "node1"},
        {
            "name": "web",
            "node": "node1",
            "labels": {"app": "web"},
            "program": {"kind": "web", "https_port": HTTPS},
        },
        cluster_dns.pod(),
    ],
    "services": [
        cluster_dns.SERVICE,
        {
            "name": "web",
            "cluster_ip": WEB_SERVICE,
            "selector": {"app": "web"},
            "ports": [{"name": "https", "port": HTTPS}],
        },
    ],
    "internet": {
        "dns": OTHER_DNS,
        "names": {
            "open.example.net": {"a": [OPEN]},
            "evil.example.org": {"a": [DENIED], "aaaa": [DENIED_V6]},
        },
    },
    "policies": [
        {"inline": _POLICY.format(pod="other", names=_OTHERS).rstrip() + _CONNECT.format(names=_OTHERS)}
    ],
}


@dataclass(frozen=True, slots=True)
class World:
    """All that the tests of one session share; each begins with empty taps."""

    lab: Lab
    rng: random.Random
    guest: Wire
    other: Wire
    free: Wire
    server: ScriptedDNS
    dns: Tap
    rogue: Tap
    web: Tap
    internet: Tap

    @property
    def node(self) -> NodeHandle:
        return self.lab.node("node1")

    @property
    def dns_address(self) -> str:
        return str(self.lab.pod("kube-dns").address)

    @property
    def cluster_ip(self) -> str:
        return self.guest.cluster_dns

    @property
    def far_ends(self) -> tuple[Tap, ...]:
        """Wherever a packet of the guest's could come out."""
        return self.dns, self.rogue, self.web, self.internet, self.other.tap, self.free.tap

    def clear(self) -> None:
        for tap in (*self.far_ends, self.guest.tap):
            tap.clear()
        self.server.check()
        self.server.asked.clear()

    def id16(self) -> int:
        return self.rng.getrandbits(16)

    def marker(self) -> str:
        """A label and a payload that occur nowhere else."""
        return wire.fresh_label(self.rng)

    def address(self) -> str:
        """An address of which nobody has heard. Packets to it leave for the Internet."""
        return wire.fresh_address(self.rng)

    def ask(self, name: str, *, client: Wire | None = None, qtype: int | str = "A") -> bytes:
        """A client's question to the cluster's DNS, and what comes back."""
        return (client or self.guest).ask(self.cluster_ip, wire.query(name, qtype, ident=self.id16()))

    def learn(self, name: str, address: str) -> None:
        """The guest looks up a name that it may, and knows its address from now on."""
        self.server.answers_with(name, f"600 A {address}")
        assert wire.addresses(self.ask(name)) == [address]

    # --- judgements ---------------------------------------------------------------------------------------

    def came_out(self, wanted: wire.Wanted) -> list[Packet]:
        """Packets at any far end, of all that the guest sent before."""
        self.guest.fence()
        return [packet for tap in self.far_ends for packet in wire.seen(tap, wanted)]

    def assert_never_came_out(self, needle: str | bytes) -> None:
        """The guest has sent this, and nobody has received it."""
        wanted = wire.holding(needle)
        assert self.came_out(wanted) == []
        assert wire.seen(self.guest.tap, wanted), "it was never sent"

    def assert_never_asked(self, needle: bytes) -> None:
        """The same for a question, which the server keeps, too."""
        self.assert_never_came_out(needle)
        assert not self.server.was_asked(needle)

    def assert_closed(self, address: str, port: int = HTTPS, *, client: Wire | None = None) -> None:
        """A SYN of the client's to it arrives nowhere and gets no answer, and no set of the kernel has it."""
        client = client or self.guest
        sequence = client.syn(address, port)
        client.fence()
        assert wire.seen(client.tap, wire.is_syn(sequence)), "it was never sent"
        for tap in self.far_ends:
            if tap is not client.tap:
                assert wire.seen(tap, wire.is_syn(sequence)) == []
        assert wire.seen(client.tap, wire.is_answer_to_syn(sequence)) == []
        assert not self.is_learned(address)

    def assert_open(self, address: str, port: int = HTTPS, *, client: Wire | None = None) -> None:
        wire.wait_for(self.internet, wire.is_syn((client or self.guest).syn(address, port)))

    def is_learned(self, address: str) -> bool:
        """Whether the address is in a set that names fill."""
        return f" {address} timeout " in self.node.ruleset()


@contextmanager
def up() -> Iterator[World]:
    """The world. The kernel's own check of sources is off, as Cilium has it: what is left is ours."""
    rng = wire.seeded()
    lab = Lab.up(Topology.model_validate(_TOPOLOGY), name=f"t{os.getpid()}-bypass")
    with ExitStack() as stack:
        stack.callback(lab.down)
        lab.write_manifest(GUEST_FILE, ASK_AND_CONNECT)
        node = lab.node("node1")
        off = "for f in /proc/sys/net/ipv4/conf/*/rp_filter; do echo 0 > $f; done"
        assert node.run(["sh", "-c", off]).returncode == 0
        kube_dns = lab.pod("kube-dns")
        server = ScriptedDNS(kube_dns, (MDNS, DOT))
        stack.callback(server.close)
        guest, other, free = (stack.enter_context(Wire(lab, pod, rng)) for pod in ("guest", "other", "free"))
        places = (kube_dns, lab.pod("rogue"), lab.pod("web"), lab.internet)
        dns, rogue, web, internet = (stack.enter_context(tapped(place)) for place in places)
        lab.wait_settled()
        yield World(lab, rng, guest, other, free, server, dns, rogue, web, internet)
