"""What is read of an API server: the nine resources that policy depends on, and their paths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind under one API version. `custom`: by a CustomResourceDefinition, which may not be there."""

    kind: str
    group: str
    version: str
    plural: str
    namespaced: bool = True
    custom: bool = False

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def base(self) -> str:
        """The path of its API version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def path(self) -> str:
        """All of it, in every namespace."""
        return f"{self.base}/{self.plural}"

    def path_of(self, namespace: str, name: str = "", subresource: str = "") -> str:
        """One object, or (without a name) a namespace's."""
        scope = f"namespaces/{namespace}/" if self.namespaced else ""
        parts = [f"{self.base}/{scope}{self.plural}", name, subresource]
        return "/".join(part for part in parts if part)

    def right(self, verb: str, subresource: str = "") -> str:
        """The right to do that, in the words of a Role."""
        what = f"{self.plural}/{subresource}" if subresource else self.plural
        return f'verb "{verb}" on resource "{what}" in API group "{self.group}"'


NAMESPACES: Final = Resource("Namespace", "", "v1", "namespaces", namespaced=False)
NODES: Final = Resource("Node", "", "v1", "nodes", namespaced=False)
PODS: Final = Resource("Pod", "", "v1", "pods")
SERVICES: Final = Resource("Service", "", "v1", "services")
SLICES: Final = Resource("EndpointSlice", "discovery.k8s.io", "v1", "endpointslices")
NETWORK_POLICIES: Final = Resource("NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")
CILIUM_POLICIES: Final = Resource(
    "CiliumNetworkPolicy", "cilium.io", "v2", "ciliumnetworkpolicies", custom=True
)
CLUSTERWIDE_POLICIES: Final = Resource(
    "CiliumClusterwideNetworkPolicy",
    "cilium.io",
    "v2",
    "ciliumclusterwidenetworkpolicies",
    namespaced=False,
    custom=True,
)
CIDR_GROUPS: Final = Resource(
    "CiliumCIDRGroup", "cilium.io", "v2", "ciliumcidrgroups", namespaced=False, custom=True
)
OLD_CIDR_GROUPS: Final = Resource(
    "CiliumCIDRGroup", "cilium.io", "v2alpha1", "ciliumcidrgroups", namespaced=False, custom=True
)

WATCHED: Final = (
    (NAMESPACES,),
    (NODES,),
    (PODS,),
    (SERVICES,),
    (SLICES,),
    (NETWORK_POLICIES,),
    (CILIUM_POLICIES,),
    (CLUSTERWIDE_POLICIES,),
    (CIDR_GROUPS, OLD_CIDR_GROUPS),
)
"""Each in the versions in which a cluster may serve it, the preferred one first."""

POLICIES: Final = frozenset({NETWORK_POLICIES, CILIUM_POLICIES, CLUSTERWIDE_POLICIES})
EVENTS: Final = Resource("Event", "events.k8s.io", "v1", "events")
