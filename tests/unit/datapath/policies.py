"""Policies as values, for the tests of what they compile to."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from acns.datapath import ruleset
from acns.datapath.model import ChainSpec, Ruleset
from acns.datapath.ruleset import Grants
from acns.dns import pattern
from acns.policy import model
from acns.policy.model import DirectionPolicy, DNSAllow, DNSServers, EndpointPolicy, Match, NodePolicy, Origin

API = pattern.match_name("api.example.com")
ALL = pattern.match_pattern("*.example.com")
HTTPS = model.Ports(model.Protocol.TCP, 443, 443)
POD_A, POD_B, PEER = (IPv4Address(text) for text in ("10.244.1.3", "10.244.1.4", "10.244.0.3"))
INTERFACES = {POD_A: "veth-a", POD_B: "veth-b"}
WHERE = Origin("ns/web", "egress", 0, "web.yaml", 7, 3)
KUBE_DNS = DNSServers("kube-dns", frozenset({model.ServerAddress(IPv4Address("10.96.0.10"), 17, 53, "dns")}))
FREE = DirectionPolicy()
SHUT = DirectionPolicy(True)
PODS = model.Addresses("app=x")
GROUPS = {"app=x": frozenset({PEER})}


def only(*allows: Match, deny: tuple[Match, ...] = ()) -> DirectionPolicy:
    return DirectionPolicy(True, allows, deny)


def match(peer: model.Peer, traffic: model.Traffic = HTTPS, origin: Origin = WHERE) -> Match:
    return Match(peer, traffic, origin)


def cidr(*networks: str) -> model.CIDRs:
    return model.CIDRs(",".join(networks), tuple(map(IPv4Network, networks)))


def endpoint(
    pod: str,
    address: IPv4Address,
    egress: DirectionPolicy = FREE,
    ingress: DirectionPolicy = FREE,
    dns: tuple[DNSAllow, ...] = (),
) -> EndpointPolicy:
    return EndpointPolicy(model.Endpoint("ns", pod, address, frozenset()), egress, ingress, dns)


def pod_a(egress: DirectionPolicy = FREE, ingress: DirectionPolicy = FREE, **more: Any) -> EndpointPolicy:
    return endpoint("a", POD_A, egress, ingress, **more)


def node(*endpoints: EndpointPolicy, groups: Mapping[str, frozenset[IPv4Address]] = GROUPS) -> NodePolicy:
    return NodePolicy(
        "n1", endpoints, frozenset({POD_A, POD_B, PEER}), frozenset(), frozenset(), groups=dict(groups)
    )


def compiled(
    *endpoints: EndpointPolicy,
    grants: Grants | None = None,
    interfaces: Mapping[IPv4Address, str] = INTERFACES,
    **more: Any,
) -> Ruleset:
    return ruleset.compile_ruleset(node(*endpoints), interfaces, grants or Grants.fresh(), {}, **more)


def link_of(table: Ruleset, map_name: str, address: IPv4Address = POD_A) -> ChainSpec:
    """The chain that a map leads the pod's packets to."""
    elements = table.maps[map_name].elements
    (name,) = [chain for key, chain in elements.items() if key.split(" . ")[-1] == str(address)]
    return table.chains[name]


def chain_of(table: Ruleset, way: str, address: IPv4Address = POD_A) -> ChainSpec:
    """The pod's chain for a way: `eg`, `er`, `in`, `ir`; or `rd`."""
    targets = [
        rule.text.rpartition("goto ")[2]
        for map_name in ("dns_redirect", "from_address", "to_address")
        for rule in link_of(table, map_name, address).rules
    ]
    (name,) = {target for target in targets if target.startswith(f"{way}_")}
    return table.chains[name]


def texts(chain: ChainSpec) -> str:
    return "\n".join(rule.text for rule in chain.rules)
