"""Random walks through policies: what a node goes through as pods, policies and labels come and go.

What does not change from one step to the next is the same object, as it is when the resolver makes it.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from hypothesis import strategies as st

from acns.dns import pattern
from acns.policy import model
from acns.policy.model import ICMP, DirectionPolicy, DNSAllow, DNSServers, EndpointPolicy, NodePolicy, Ports

from .policies import WHERE, cidr

PODS = [IPv4Address("10.244.1.3") + number for number in range(4)]
INTERFACES = [None, "veth-a", "veth-b", "veth-c"]
GROUPS = ("app=a", "app=b", "app=c")
ORIGINS = [WHERE, model.Origin("ns/other", "ingress", 1, "other.yaml", 3, 5)]

INSIDE = [
    model.Everything(),
    model.World(),
    model.Host(),
    cidr("192.0.2.0/24", "198.51.100.0/25"),
    model.CIDRs("the same by another name", cidr("198.51.100.0/25", "192.0.2.0/24").networks),
    *map(model.Addresses, GROUPS),
]
NAMES = [model.FQDN(pattern.match_name("a.example.com")), model.FQDN(pattern.match_pattern("*.example.com"))]
TCP, ANY, SCTP = model.Protocol.TCP, model.Protocol.ANY, model.Protocol.SCTP
TRAFFIC = [
    None,
    Ports(TCP, 443, 443),
    Ports(TCP, 443, 0),
    Ports(ANY, 53, 60),
    Ports(SCTP, 0, 0),
    ICMP(8),
    ICMP(3),
]

SERVERS = [
    DNSServers("dns", frozenset({model.ServerAddress(IPv4Address("10.96.0.10"), 17, 53, "dns")})),
    DNSServers("dns", frozenset({model.ServerAddress(IPv4Address("10.96.0.11"), 6, 53, "dns")})),
    DNSServers("outside", networks=(IPv4Network("0.0.0.0/0"),), ports=frozenset({(17, 53), (6, 53)})),
]


SOME = st.sets(st.integers(0, len(PODS) - 1), max_size=2)


@dataclass(frozen=True)
class Step:
    node: NodePolicy
    interfaces: Mapping[IPv4Address, str]


def matches(peers: list[model.Peer]) -> st.SearchStrategy[tuple[model.Match, ...]]:
    every = [model.Match(*parts) for parts in itertools.product(peers, TRAFFIC, ORIGINS)]
    return st.lists(st.sampled_from(every), max_size=5).map(tuple)


def directions(peers: list[model.Peer]) -> st.SearchStrategy[DirectionPolicy]:
    enforced = st.builds(DirectionPolicy, st.just(True), matches(peers), matches(INSIDE))
    return st.one_of(st.just(DirectionPolicy()), enforced)


EGRESS, INGRESS = directions([*INSIDE, *NAMES]), directions(INSIDE)
DNS = st.lists(
    st.sampled_from(
        [DNSAllow(*parts) for parts in itertools.product(SERVERS, [None], [True, False], ORIGINS)]
    ),
    max_size=3,
).map(tuple)


@st.composite
def walks(draw: st.DrawFn) -> list[Step]:
    """A few steps; each changes some of the pods, the groups and the interfaces."""
    pods: dict[int, EndpointPolicy] = {}
    interfaces: dict[IPv4Address, str] = {}
    groups: dict[str, frozenset[IPv4Address]] = {}
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        for number in draw(SOME):
            if draw(st.booleans()) and number in pods:
                del pods[number]
            else:
                pods[number] = _pod(draw, number)
        for number in draw(SOME):
            if link := draw(st.sampled_from(INTERFACES)):
                interfaces[PODS[number]] = link
            else:
                interfaces.pop(PODS[number], None)
        if draw(st.booleans()):
            groups = {**groups, draw(st.sampled_from(GROUPS)): draw(st.frozensets(st.sampled_from(PODS)))}
        present = frozenset(pod.endpoint.address for pod in pods.values())
        node = NodePolicy(
            "n1", tuple(pods[number] for number in sorted(pods)), present, frozenset(), frozenset(), groups
        )
        steps.append(Step(node, dict(interfaces)))
    return steps


def _pod(draw: st.DrawFn, number: int) -> EndpointPolicy:
    endpoint = model.Endpoint("ns", f"pod-{number}", PODS[number], frozenset())
    egress, ingress = draw(EGRESS), draw(INGRESS)
    return EndpointPolicy(endpoint, egress, ingress, draw(DNS) if egress.enforced else ())
