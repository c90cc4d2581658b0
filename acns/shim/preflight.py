"""Whether this node is one that these agents can enforce policy on; why not, where it is not.

Where somebody else decides on the same packets, or packets pass by the hooks, a policy would seem enforced
and not be. So the shim does not start there, and says what is in the way. Facts are judged: the kernel's,
which `node_facts` gathers, and the cluster's, which the API server knows.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Literal

from acns.errors import EnvironmentFault
from acns.policy.profiles import Profile

OLDEST: Final = (1, 29)
"""ACNS wants this Kubernetes."""
NODE_LOCAL_DNS: Final = IPv4Address("169.254.20.10")
KINDNET: Final = "kindnet-network-policies"

_ENGINES: Final = (
    ("Cilium", re.compile(r"cilium_(host|net|vxlan|geneve)"), re.compile(r"CILIUM_|cilium")),
    ("Calico", re.compile(r"(?!)"), re.compile(r"cali-|calico")),
    ("Antrea", re.compile(r"antrea-"), re.compile(r"ANTREA-|antrea")),
    ("Weave Net", re.compile(r"weave"), re.compile(r"WEAVE-NPC")),
    ("kube-router", re.compile(r"kube-dummy-if"), re.compile(r"KUBE-NWPLCY-|KUBE-POD-FW-|KUBE-ROUTER-")),
    ("Azure NPM", re.compile(r"(?!)"), re.compile(r"AZURE-NPM")),
    ("kube-network-policies", re.compile(r"(?!)"), re.compile(r"kube-network-policies")),
)
"""Policy engines, by links of theirs and by tables or chains of theirs."""


@dataclass(frozen=True, slots=True)
class Link:
    """A link of the node. `networks`: what is reached straight over it, by routes."""

    name: str
    addresses: frozenset[IPv4Address] = frozenset()
    bridge: bool = False
    networks: frozenset[IPv4Network] = frozenset()


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What the node's kernel has. `tables`: of nftables, with their chains (also of an iptables that is made
    on nftables); `kindnet_pods`: whether kindnet's engine has pods to decide on."""

    links: tuple[Link, ...] = ()
    tables: Mapping[str, Collection[str]] = field(default_factory=dict)
    kindnet_pods: bool = False


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the API server knows: `gitVersion` of /version, the node's `spec.podCIDRs`, and addresses of pods
    there, not of those in the node's own network: a CNI that hands addresses out itself leaves nodes without
    ranges."""

    version: str = ""
    pod_cidrs: tuple[IPv4Network | IPv6Network, ...] = ()
    pod_addresses: tuple[IPv4Address | IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True)
class Unsuitable:
    """One thing in the way; `warning`: one can live with it."""

    message: str
    hint: str
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})"


def judge(node: NodeFacts, cluster: ClusterFacts | None, profile: Profile) -> list[Unsuitable]:
    """All that is in the way; refusals first. `cluster` is None where there is no API server."""
    cidrs = cluster.pod_cidrs if cluster else ()
    found = [*_engines(node), *_kindnet(node), *_bridged(node, cidrs), *_node_local_dns(node)]
    if cluster:
        found += [*_version(cluster.version, profile), *_families(cluster, profile)]
    return sorted(found, key=lambda one: one.warning)


def tolerated(found: list[Unsuitable], unsuitable_node: Literal["refuse", "warn"]) -> list[Unsuitable]:
    """What the agent runs in spite of. Raises EnvironmentFault with all the refusals where there are any."""
    refusals = [one for one in found if not one.warning]
    if refusals and unsuitable_node == "refuse":
        raise EnvironmentFault(
            "policy cannot be enforced on this node: " + "; ".join(one.message for one in refusals),
            hint="; ".join(one.hint for one in refusals),
        )
    return found


def _engines(node: NodeFacts) -> Iterator[Unsuitable]:
    names = {name for table, chains in node.tables.items() for name in (table, *chains)} - {"acns"}
    for engine, link, table in _ENGINES:
        signs = [one.name for one in node.links if link.match(one.name)] + list(filter(table.match, names))
        if signs:
            yield Unsuitable(
                f"{engine} enforces policy on this node already ({', '.join(sorted(signs)[:3])})",
                "two engines on the same packets are neither's policy: run on nodes without it",
            )


def _kindnet(node: NodeFacts) -> Iterator[Unsuitable]:
    """It is on every kind node with kind's own CNI, and does something only where a NetworkPolicy selects."""
    if node.kindnet_pods:
        yield Unsuitable(
            "kindnet enforces the cluster's NetworkPolicies on this node too",
            "what a CiliumNetworkPolicy allows besides, it drops; use kind with disableDefaultCNI and a CNI "
            "without policies, or no NetworkPolicy",
        )
    elif KINDNET in node.tables:
        yield Unsuitable(
            "kindnet's policy engine is on this node",
            "it decides too as soon as there is a NetworkPolicy, and this agent then starts no more",
            warning=True,
        )


def _bridged(node: NodeFacts, cidrs: tuple[IPv4Network | IPv6Network, ...]) -> Iterator[Unsuitable]:
    pods = [cidr for cidr in cidrs if isinstance(cidr, IPv4Network)]
    for link in node.links:
        inside = [net for net in link.networks if any(net.overlaps(cidr) for cidr in pods)]
        if link.bridge and (inside or (not pods and _is_a_cnis(link.name))):
            yield Unsuitable(
                f"pods are behind the bridge {link.name}: from pod to pod packets pass by the hooks",
                "use a CNI that routes (kindnet, ptp, Calico without policy, Azure CNI in transparent mode)",
            )


def _is_a_cnis(name: str) -> bool:
    return name in ("cni0", "cbr0", "kube-bridge", "cni-podman0") or name.startswith("azure")


def _node_local_dns(node: NodeFacts) -> Iterator[Unsuitable]:
    for link in node.links:
        if link.name == "nodelocaldns" or NODE_LOCAL_DNS in link.addresses:
            yield Unsuitable(
                f"node-local DNS runs on this node ({link.name}): it takes queries before they can be judged",
                "ACNS supports none; take node-local-dns off",
            )


def _version(version: str, profile: Profile) -> Iterator[Unsuitable]:
    found = re.match(r"v?(\d+)\.(\d+)", version)
    oldest = ".".join(map(str, OLDEST))
    if not found:
        yield Unsuitable(
            f"the cluster's version is not understood: {version!r}", f"{oldest} is needed", warning=True
        )
    elif (int(found[1]), int(found[2])) < OLDEST:
        yield Unsuitable(
            f"Kubernetes {version} is older than {oldest}",
            "ACNS wants a newer one; profile cilium only warns",
            warning=profile is not Profile.ACNS,
        )


def _families(cluster: ClusterFacts, profile: Profile) -> Iterator[Unsuitable]:
    second = [one for one in (*cluster.pod_cidrs, *cluster.pod_addresses) if one.version == 6]
    if second:
        yield Unsuitable(
            f"the cluster has IPv6 pod addresses ({second[0]}): FQDN policy is about IPv4 only",
            "ACNS supports single-stack IPv4; profile cilium refuses restricted pods' IPv6, and warns",
            warning=profile is not Profile.ACNS,
        )
