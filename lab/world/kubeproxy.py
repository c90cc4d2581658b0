"""The lab's kube-proxy: one nftables table per node that translates ClusterIPs.

Modelled on what kube-proxy writes in nftables mode (recorded from a Kubernetes 1.36 node): verdict maps
from (address, protocol, port) to a chain per Service port, `numgen random` over the backends, the
masquerade mark 0x4000 set for clients that are no pods and cleared in postrouting, hairpin connections
masqueraded by a set, a reject where a Service has no endpoints or no such port. Hooks and priorities are
the same, since what the agents see depends on them: policy at -90 finds translated packets, redirection
at -150 untranslated ones.

Added to it is what the node's CNI does elsewhere: IPv4 that leaves the cluster is masqueraded to the
node's address. The text replaces the whole table in one transaction; established connections keep their
translation, since that lives in conntrack.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from ipaddress import IPv4Address

from lab.spec.plan import PODS, SERVICES, UNDERLAY, Addressing
from lab.spec.topology import ServicePort, Topology
from lab.world.services import Backends, backends, target_port

TABLE = "lab-kube-proxy"
MASQUERADE_MARK = 0x4000


def ruleset_text(topology: Topology, addressing: Addressing, node_name: str) -> str:
    """nft text that replaces the whole table of one node in a single transaction (also when it is absent)."""
    services = backends(topology, addressing)
    local = {pod.address for pod in addressing.pods_of(node_name)}
    body = "\n".join([*_sets(services, local), *_service_chains(services), _FIXED_CHAINS])
    return f"table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n{body}\n}}\n"


def _sets(services: Sequence[Backends], local: set[IPv4Address]) -> Iterator[str]:
    yield _collection("set cluster-ips", "ipv4_addr", (str(item.service.cluster_ip) for item in services))
    yield _collection(
        "set hairpin-connections",
        "ipv4_addr . ipv4_addr . inet_proto . inet_service",
        _hairpins(services, local),
    )
    yield _collection(
        "map service-ips",
        "ipv4_addr . inet_proto . inet_service : verdict",
        (
            f"{_entrance(item, port)} : goto {_chain(item, port)}"
            for item in services
            if item.pods
            for port in item.service.ports
        ),
    )
    yield _collection(
        "map no-endpoint-services",
        "ipv4_addr . inet_proto . inet_service : verdict",
        (
            f'{_entrance(item, port)} comment "{item.key}" : goto reject-chain'
            for item in services
            if not item.pods
            for port in item.service.ports
        ),
    )


def _hairpins(services: Iterable[Backends], local: set[IPv4Address]) -> Iterator[str]:
    """A pod that reaches itself through a Service must see an answer from the Service, not from itself."""
    targets = {
        (pod.address, port.protocol.lower(), target_port(port))
        for item in services
        for port in item.service.ports
        for pod in item.pods
        if pod.address in local
    }
    for address, protocol, port_number in sorted(targets):
        yield f"{address} . {address} . {protocol} . {port_number}"


def _service_chains(services: Iterable[Backends]) -> Iterator[str]:
    for item in services:
        for port in item.service.ports if item.pods else ():
            targets = ", ".join(
                f"{index} : {pod.address} . {target_port(port)}" for index, pod in enumerate(item.pods)
            )
            choice = f"numgen random mod {len(item.pods)} map {{ {targets} }}"
            yield f"\tchain {_chain(item, port)} {{"
            yield f"\t\tmeta l4proto {port.protocol.lower()} dnat ip to {choice}"
            yield "\t}"


def _collection(head: str, kind: str, elements: Iterable[str]) -> str:
    """A set or map; an empty one has no elements line (nft refuses an empty list)."""
    listed = ",\n\t\t\t     ".join(elements)
    line = f"\n\t\telements = {{ {listed} }}" if listed else ""
    return f"\t{head} {{\n\t\ttype {kind}{line}\n\t}}"


def _entrance(item: Backends, port: ServicePort) -> str:
    return f"{item.service.cluster_ip} . {port.protocol.lower()} . {port.port}"


def _chain(item: Backends, port: ServicePort) -> str:
    return f"service-{item.key}/{port.protocol.lower()}/{port.name}"


_FIXED_CHAINS = f"""\
	chain filter-input {{
		type filter hook input priority filter; policy accept;
		ct state new jump service-endpoints-check
	}}
	chain filter-forward {{
		type filter hook forward priority filter; policy accept;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain filter-output {{
		type filter hook output priority filter; policy accept;
		ct state new jump service-endpoints-check
		ct state new jump cluster-ips-check
	}}
	chain nat-prerouting {{
		type nat hook prerouting priority dstnat; policy accept;
		jump services
	}}
	chain nat-output {{
		type nat hook output priority -100; policy accept;
		jump services
	}}
	chain nat-postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		jump masquerading
	}}
	chain services {{
		ip daddr @cluster-ips ip saddr != {PODS} meta mark set meta mark | {MASQUERADE_MARK:#010x} \
comment "masquerade clusterIP traffic from outside cluster"
		ip daddr . meta l4proto . th dport vmap @service-ips
	}}
	chain masquerading {{
		meta mark & {MASQUERADE_MARK:#010x} != 0 meta mark set meta mark ^ {MASQUERADE_MARK:#010x} \
masquerade fully-random
		ct status dnat ip saddr . ip daddr . meta l4proto . th dport @hairpin-connections \
masquerade fully-random
		ip saddr {PODS} ip daddr != {{ {PODS}, {UNDERLAY} }} masquerade fully-random \
comment "pods leave the cluster with their node's address"
	}}
	chain service-endpoints-check {{
		ip daddr . meta l4proto . th dport vmap @no-endpoint-services
	}}
	chain cluster-ips-check {{
		ip daddr @cluster-ips reject comment "invalid ports of ClusterIPs"
		ip daddr {SERVICES} drop comment "unallocated ClusterIPs"
	}}
	chain reject-chain {{
		reject
	}}"""
