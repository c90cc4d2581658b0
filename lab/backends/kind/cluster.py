"""A topology as a kind cluster: its configuration, its nodes' names, and the network between them.

kind's own CNI brings a policy engine of its own, and two engines on the same packets are neither's policy. So
the cluster is made without a CNI, and gets what every node image has on board: the plugins `ptp` and
`host-local` with the node's own range, a route to each other node's, and masquerade towards the outside. All
of it is text; `kind_lab` puts it where it belongs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

import yaml

from lab.errors import InputError
from lab.spec.plan import PODS, SERVICES
from lab.spec.topology import Topology

CNI_FILE: Final = "/etc/cni/net.d/10-acns-lab.conflist"
TABLE: Final = "acns-lab-masquerade"
CORDON: Final = "acns-lab-cordon"
_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{64}")
_NEEDS_NFT: Final = (
    "command -v nft > /dev/null || "
    "{ echo 'error: this node image has no nft: take a newer --k8s-version' >&2; exit 1; }"
)


@dataclass(frozen=True, slots=True)
class KindNode:
    """A node as the cluster has it."""

    name: str
    address: IPv4Address
    pod_cidr: IPv4Network


def node_names(cluster: str, count: int) -> list[str]:
    """As kind calls them: the control plane, then workers."""
    workers = [f"{cluster}-worker{number if number > 1 else ''}" for number in range(1, count)]
    return [f"{cluster}-control-plane", *workers]


def placing(topology: Topology, cluster: str, nodes: int | None) -> dict[str, str]:
    """The topology's nodes → the cluster's. Raises InputError where there are not enough."""
    wanted = len(topology.nodes)
    if nodes is not None and nodes < wanted:
        raise InputError(f"--nodes {nodes}: the topology has {wanted} nodes", hint="as many, or more")
    return dict(zip((node.name for node in topology.nodes), node_names(cluster, wanted), strict=True))


def config_text(count: int) -> str:
    """kind's configuration file."""
    roles = [{"role": "control-plane"}, *({"role": "worker"} for _ in range(1, count))]
    networking = {
        "ipFamily": "ipv4",
        "disableDefaultCNI": True,
        "podSubnet": str(PODS),
        "serviceSubnet": str(SERVICES),
    }
    config = {
        "kind": "Cluster",
        "apiVersion": "kind.x-k8s.io/v1alpha4",
        "networking": networking,
        "nodes": roles,
    }
    return yaml.safe_dump(config, sort_keys=False)


def nodes_of(items: Iterable[Mapping[str, Any]]) -> list[KindNode]:
    """Of `kubectl get nodes`; those without a range of pods yet are left out."""
    return [
        KindNode(item["metadata"]["name"], address, IPv4Network(item["spec"]["podCIDR"]))
        for item in items
        if item["spec"].get("podCIDR") and (address := _internal_address(item))
    ]


def _internal_address(item: Mapping[str, Any]) -> IPv4Address | None:
    found = [one["address"] for one in item["status"]["addresses"] if one["type"] == "InternalIP"]
    return next((IPv4Address(one) for one in found if ":" not in one), None)


def cni_text(node: KindNode) -> str:
    """The CNI's configuration on that node."""
    ipam = {
        "type": "host-local",
        "dataDir": "/run/cni-ipam-state",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": str(node.pod_cidr)}]],
    }
    plugins = [
        {"type": "ptp", "ipMasq": False, "mtu": 1500, "ipam": ipam},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    return json.dumps({"cniVersion": "0.3.1", "name": "acns-lab", "plugins": plugins})


def cordon_script(*, down: bool) -> str:
    """What a shell on a node makes of its uplink: nothing passes, or all again. A link that is set down would
    lose the routes over it."""
    remove = f"nft -f - <<'NFT'\ntable inet {CORDON}\ndelete table inet {CORDON}\n"
    rules = f"""table inet {CORDON} {{
  chain prerouting {{ type filter hook prerouting priority -500; iifname "eth0" drop; }}
  chain postrouting {{ type filter hook postrouting priority 500; oifname "eth0" drop; }}
}}
"""
    return f"{remove}{rules if down else ''}NFT\n"


def kill_script(container: str) -> str:
    """What ends a container at once, and it alone, for a shell on its node: its processes are those whose
    cgroup is named after it, be it by the kubelet or by systemd. Nobody in it hears of that before. Raises
    InputError for what is no container's id: any less would be found in others' names."""
    if not _CONTAINER_ID.fullmatch(container):
        raise InputError(f"{container!r} is no container's id", hint="64 hexadecimal digits")
    return f"""found=
for file in $(grep -lsE '[/-]{container}(\\.scope)?$' /proc/[0-9]*/cgroup); do
  process=${{file#/proc/}}
  kill -KILL "${{process%/cgroup}}" && found=yes
done
[ "$found" ] || {{ echo "no process of {container}" >&2; exit 1; }}
"""


def network_script(
    node: KindNode, others: Iterable[KindNode], internet: IPv4Address, outside: Iterable[IPv4Address]
) -> str:
    """What a shell on that node makes of it: routes and masquerade; done twice it is as done once.

    `internet`: the container through which the addresses `outside` are reached.
    """
    routes = [f"ip route replace {one.pod_cidr} via {one.address}" for one in others if one.name != node.name]
    routes += [f"ip route replace {address}/32 via {internet}" for address in outside]
    rules = f"""table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {PODS} ip daddr != {{ {PODS}, {SERVICES} }} oifname "eth0" masquerade
  }}
}}
"""
    return "\n".join(["set -e", _NEEDS_NFT, *routes, "nft -f - <<'NFT'", f"{rules}NFT", ""])
