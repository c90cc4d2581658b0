"""The L3 side: who has an address, as seen from one node, and which peers of a rule mean it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import labels, names
from .cluster import Cluster, Manifest, within
from .policies import Rule


@dataclass(frozen=True, slots=True)
class Remote:
    """Neither pod nor node is the world."""

    address: str
    pods: tuple[Manifest, ...]
    is_host: bool
    is_remote_node: bool
    is_apiserver: bool

    @property
    def is_world(self) -> bool:
        return not (self.pods or self.is_host or self.is_remote_node)


class Peers:
    """Everybody's labels and addresses."""

    def __init__(self, cluster: Cluster, node: str) -> None:
        self._cluster = cluster
        self.host: set[str] = set()
        self._remote_nodes: set[str] = set()
        for one in cluster.kind("Node"):
            mine = one["metadata"]["name"] == node
            (self.host if mine else self._remote_nodes).update(cluster.node_addresses(one))
        self._labels = {id(pod): labels.of_pod(cluster, pod) for pod in cluster.endpoints()}
        self._apiserver = {
            address
            for service in cluster.kind("Service")
            if (service["metadata"]["namespace"], service["metadata"]["name"]) == ("default", "kubernetes")
            for address in self._slice_addresses(service)
        }

    def labels_of(self, pod: Manifest) -> labels.Labels:
        return self._labels[id(pod)]

    def remote(self, address: str) -> Remote:
        return Remote(
            address,
            tuple(self._cluster.claimants(address)),
            address in self.host,
            address in self._remote_nodes,
            address in self._apiserver,
        )

    def identity(self, remote: Remote) -> list[labels.Labels]:
        """All that Cilium tells it by."""
        return [self.labels_of(pod) for pod in remote.pods] or [_reserved(remote)]

    def matches(self, rule: Rule, remote: Remote) -> bool:
        """Whether one of the rule's peers is this one."""
        return rule.peers is None or any(self._is(kind, value, remote) for kind, value in rule.peers)

    def _is(self, kind: str, value: Any, remote: Remote) -> bool:
        match kind:
            case "Endpoints":
                return self._selects(value, remote)
            case "CIDR":
                return remote.is_world and within(remote.address, value)
            case "CIDRSet":
                return remote.is_world and self._in_set(value, remote.address)
            case "Entities":
                return _is_entity(value, remote)
            case "Services":
                return self._is_of_service(value, remote)
            case "FQDNs":
                return remote.is_world and self._was_learned(value, remote.address)
        raise AssertionError(kind)

    def _selects(self, selector: dict[str, Any], remote: Remote) -> bool:
        if labels.is_reserved(selector):
            return labels.matches(selector, _reserved(remote))
        # An address that two live pods claim is what both are.
        return bool(remote.pods) and all(labels.matches(selector, self.labels_of(pod)) for pod in remote.pods)

    def _in_set(self, entry: dict[str, Any], address: str) -> bool:
        if any(within(address, one) for one in entry.get("except", [])):
            return False
        if "cidr" in entry:
            return within(address, entry["cidr"])
        for group in self._cluster.kind("CiliumCIDRGroup"):
            if "cidrGroupRef" in entry:
                chosen = group["metadata"]["name"] == entry["cidrGroupRef"]
            else:
                own = {f"cidrgroup:{key}": one for key, one in group["metadata"].get("labels", {}).items()}
                chosen = labels.matches(entry["cidrGroupSelector"], own)
            if chosen and any(within(address, one) for one in group["spec"]["externalCIDRs"]):
                return True
        return False

    def _is_of_service(self, entry: dict[str, Any], remote: Remote) -> bool:
        """The pods that its selector means; where it has none, its slices' addresses, but no pod's or node's
        (pkg/policy/k8s/service.go: they become a CIDR set)."""
        for service in self._cluster.kind("Service"):
            meta, selector = service["metadata"], service["spec"].get("selector", {})
            if not _names_service(entry, meta):
                continue
            if selector:
                chosen = {f"k8s:{labels.NAMESPACE}": meta["namespace"], **selector}
                if self._selects({"matchLabels": chosen}, remote):
                    return True
            elif remote.is_world and remote.address in self._slice_addresses(service):
                return True
        return False

    def _slice_addresses(self, service: Manifest) -> Iterator[str]:
        """Whether ready or not: here a probe that fails does not change what a policy means (in Cilium it
        does)."""
        for one in self._cluster.slices(service):
            for endpoint in one["endpoints"]:
                yield from endpoint["addresses"]

    def _was_learned(self, selector: dict[str, str], address: str) -> bool:
        return any(
            address in addresses and names.selects(selector, names.labels_of(name))
            for name, addresses in self._cluster.learned.items()
        )


def _names_service(entry: dict[str, Any], meta: dict[str, Any]) -> bool:
    """By name or by labels; without a namespace, in all of them."""
    wanted = entry.get("k8sService") or entry["k8sServiceSelector"]
    if wanted.get("namespace", "") not in ("", meta["namespace"]):
        return False
    if "k8sService" in entry:
        return bool(wanted["serviceName"] == meta["name"])
    own = {f"k8s:{key}": value for key, value in meta.get("labels", {}).items()}
    return labels.matches(wanted["selector"], own)


def _is_entity(entity: str, remote: Remote) -> bool:
    match entity:
        case "all":
            return True
        case "world" | "world-ipv4":
            return remote.is_world
        case "host":
            return remote.is_host
        case "remote-node":
            return remote.is_remote_node
        case "kube-apiserver":
            return remote.is_apiserver
        case "cluster":  # kube-apiserver is part of it, wherever it is (pkg/policy/api/entity.go)
            return not remote.is_world or remote.is_apiserver
        case "world-ipv6" | "health" | "init" | "unmanaged" | "ingress" | "none":  # nothing of the kind here
            return False
    raise AssertionError(entity)


def _reserved(remote: Remote) -> labels.Labels:
    facts = {
        "reserved:host": remote.is_host,
        "reserved:remote-node": remote.is_remote_node,
        "reserved:kube-apiserver": remote.is_apiserver,
        "reserved:world": remote.is_world,
    }
    return {label: "" for label, holds in facts.items() if holds}
