"""Manifests: a YAML or JSON text to objects.

One wrong object costs nothing but itself: the others of the text still count, and everything wrong is
reported at once. What bears on policy and is not supported is an error; workloads and configuration, which
bear on it only through the Pods they make, are passed over with a warning. Warnings that a comment silences
(`ignores`) are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from acns import located
from acns.errors import InputError, Problem
from acns.located import Document, Path, did_you_mean
from acns.policy import cidrgroup, cnp, ignores, kubernetes, networkpolicy, served
from acns.policy.codes import Code
from acns.policy.ignores import Comments
from acns.policy.objects import Object, Policy, Ref
from acns.policy.profiles import Profile

API_VERSIONS = {
    "Namespace": ("v1",),
    "Node": ("v1",),
    "Pod": ("v1",),
    "Service": ("v1",),
    "EndpointSlice": ("discovery.k8s.io/v1",),
    "NetworkPolicy": ("networking.k8s.io/v1",),
    "CiliumNetworkPolicy": ("cilium.io/v2",),
    "CiliumClusterwideNetworkPolicy": ("cilium.io/v2",),
    "CiliumCIDRGroup": ("cilium.io/v2", "cilium.io/v2alpha1"),
}
WITHOUT_NAMESPACE = ("Namespace", "Node", "CiliumClusterwideNetworkPolicy", "CiliumCIDRGroup")

REFUSED_KINDS = {
    "AdminNetworkPolicy": "AdminNetworkPolicy is not supported: Cilium enforces none either",
    "BaselineAdminNetworkPolicy": "BaselineAdminNetworkPolicy is not supported: Cilium enforces none either",
    "CiliumLocalRedirectPolicy": "node-local DNS is not supported: its packets do not pass the redirection",
    "CiliumEgressGatewayPolicy": "egress gateways are not supported",
    "CiliumEnvoyConfig": "Envoy is not part of this data path",
    "CiliumClusterwideEnvoyConfig": "Envoy is not part of this data path",
}

# They decide nothing here: policy looks at Pods, whoever made them.
PASSED_OVER_KINDS = frozenset({
    "ClusterRole", "ClusterRoleBinding", "ConfigMap", "CronJob", "CustomResourceDefinition", "DaemonSet",
    "Deployment", "Endpoints", "Event", "HorizontalPodAutoscaler", "Ingress", "IngressClass", "Job", "Lease",
    "LimitRange", "PersistentVolume", "PersistentVolumeClaim", "PodDisruptionBudget", "PriorityClass",
    "ReplicaSet", "ReplicationController", "ResourceQuota", "Role", "RoleBinding", "Secret",
    "ServiceAccount", "StatefulSet", "StorageClass", "CiliumEndpoint", "CiliumIdentity", "CiliumNode",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text holds: its good objects, all that is wrong or doubtful in it, and what was refused (as far
    as it could be named)."""

    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]
    refused: tuple[Ref, ...] = ()

    @property
    def ok(self) -> bool:
        """No errors; warnings do not count."""
        return all(problem.warning for problem in self.problems)


def parse(text: str, path: str, profile: Profile) -> Parsed:
    """All objects of a YAML or JSON text. Never raises for content."""
    try:
        documents = located.load(text, path)
    except InputError as error:
        return Parsed((), tuple(error.problems))
    comments = ignores.read(text, path)
    reader = _Reader(profile, comments)
    for document in documents:
        reader.read(document, (), document.value, "", "")
    problems = sorted({each for each in reader.problems if not comments.silence(each)})
    return Parsed(tuple(reader.objects.values()), tuple(problems), tuple(reader.refused))


def parse_served(value: dict[str, Any], profile: Profile) -> Parsed:
    """One object as an API server has it, with `kind` and `apiVersion`; places are the object's fields."""
    reader = _Reader(profile, Comments((), ()))
    reader.read(served.document(value), (), value, "", "")
    return Parsed(tuple(reader.objects.values()), tuple(reader.problems), tuple(reader.refused))


class _Reader:
    def __init__(self, profile: Profile, comments: Comments) -> None:
        self.profile = profile
        self.comments = comments
        self.objects: dict[Ref, Object] = {}
        self.problems: list[Problem] = list(comments.problems)
        self.refused: list[Ref] = []

    def read(self, document: Document, where: Path, value: Any, kind: str, api_version: str) -> None:
        """One object or List. `kind` and `api_version`: those the List around it implies (its items leave
        them out)."""
        if not isinstance(value, dict):
            self.problems.append(document.problem(where, "not a Kubernetes object: it must be a mapping"))
            return
        kind, api_version = value.get("kind", kind), value.get("apiVersion", api_version)
        if not isinstance(kind, str) or not kind:
            self.problems.append(document.problem(where, "not a Kubernetes object: 'kind' is missing"))
        elif kind.endswith("List") and "items" in value:
            implied = kind.removesuffix("List")
            for at, item in self._items(document, (*where, "items"), value["items"]):
                self.read(document, at, item, implied, api_version if implied else "")
        elif finding := _kind_problem(document, where, kind, api_version):
            self.problems.append(finding)
            self._refuse(kind, value)
        else:
            self._object(document, where, value, kind)

    def _items(self, document: Document, where: Path, items: Any) -> Iterator[tuple[Path, Any]]:
        if not isinstance(items, list | None):
            self.problems.append(document.problem(where, "'items' must be a list"))
            return
        for index, item in enumerate(items or []):
            yield (*where, index), item

    def _object(self, document: Document, where: Path, value: Any, kind: str) -> None:
        found, problems = self._read_kind(document, where, kind)
        meant, doubts = ignores.annotated(document, where, value)
        self.problems += [*doubts, *(each for each in problems if not ignores.silences(meant, each))]
        if isinstance(found, Policy) and meant:
            kept = tuple(each for each in found.problems if not ignores.silences(meant, each))
            found = replace(found, problems=kept, ignored=ignores.together(found.ignored, meant))
        if found is None:
            self._refuse(kind, value)
        elif found.ref in self.objects:
            self.problems.append(
                document.problem(where, f"{kind} '{found.name}' is given twice in this file")
            )
        else:
            self.objects[found.ref] = found

    def _read_kind(self, document: Document, where: Path, kind: str) -> tuple[Object | None, list[Problem]]:
        match kind:
            case "Namespace":
                return kubernetes.read_namespace(document, where)
            case "Node":
                return kubernetes.read_node(document, where)
            case "Pod":
                return kubernetes.read_pod(document, where, self.profile)
            case "Service":
                return kubernetes.read_service(document, where, self.profile)
            case "EndpointSlice":
                return kubernetes.read_endpoint_slice(document, where)
            case "CiliumCIDRGroup":
                return cidrgroup.read_cidr_group(document, where)
            case "NetworkPolicy":
                policy, problems = networkpolicy.read_network_policy(document, where)
            case _:
                policy, problems = cnp.read_policy(document, where, kind, self.profile)
        return self._with_ignored(policy) if policy else None, problems

    def _with_ignored(self, policy: Policy) -> Policy:
        kept = tuple(each for each in policy.problems if not self.comments.silence(each))
        return replace(policy, problems=kept, ignored=self.comments.at(policy.place.line))

    def _refuse(self, kind: str, value: dict[str, Any]) -> None:
        metadata = value.get("metadata")
        if (
            kind in API_VERSIONS
            and isinstance(metadata, dict)
            and isinstance(name := metadata.get("name"), str)
        ):
            scoped = kind not in WITHOUT_NAMESPACE
            namespace = str(metadata.get("namespace") or "default") if scoped else ""
            self.refused.append((kind, namespace, name))


def _kind_problem(document: Document, where: Path, kind: str, api_version: Any) -> Problem | None:
    at = (*where, "kind")
    if kind in PASSED_OVER_KINDS:
        hint = "policy looks at Pods, Services, EndpointSlices, Nodes and Namespaces"
        message = f"{kind} is passed over"
        return document.problem(at, message, hint=hint, warning=True, code=Code.KIND_PASSED_OVER)
    if reason := REFUSED_KINDS.get(kind):
        return document.problem(at, reason)
    if kind not in API_VERSIONS:
        return document.problem(at, f"unknown kind '{kind}'", hint=did_you_mean(kind, API_VERSIONS))
    if api_version not in API_VERSIONS[kind]:
        message = f"{kind} of apiVersion '{api_version}' is not supported"
        hint = f"known here: {', '.join(API_VERSIONS[kind])}"
        return document.problem((*where, "apiVersion"), message, hint=hint)
    return None
