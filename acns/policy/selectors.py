"""Labels and what selects them, as Cilium has them.

A label is `source:key=value`. A pod's identity is its set of labels, and selectors see nothing else of it, so
which labels count is decided here: the pod's own (without those that differ between pods of one workload,
`pod-template-hash` and the like, as in Cilium's default label filter), its namespace's name and labels, its
service account, its cluster. A selector's key without a source matches any source.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

NAMESPACE_KEY = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS_PREFIX = "io.cilium.k8s.namespace.labels."
NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""The API server gives each namespace its name as a label."""
NAMESPACE_NAME_KEY = f"{NAMESPACE_LABELS_PREFIX}{NAMESPACE_NAME_LABEL}"
SERVICE_ACCOUNT_KEY = "io.cilium.k8s.policy.serviceaccount"
CLUSTER_KEY = "io.cilium.k8s.policy.cluster"
CLUSTER_NAME = "default"

ANY, K8S, RESERVED = "any", "k8s", "reserved"
SOURCES = (ANY, K8S, RESERVED)

Triples = frozenset[tuple[str, str, str]]
"""Labels as (source, key, value)."""


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A label key with its source; source `any` stands for every source."""

    source: str
    name: str

    def __str__(self) -> str:
        return f"{self.source}:{self.name}"


NAMESPACE = Key(K8S, NAMESPACE_KEY)
"""The key under which Cilium limits a selector to a namespace."""


class Operator(StrEnum):
    """The operators of `matchExpressions`."""

    IN = "In"
    NOT_IN = "NotIn"
    EXISTS = "Exists"
    DOES_NOT_EXIST = "DoesNotExist"


@dataclass(frozen=True, slots=True, order=True)
class Requirement:
    """One condition on one key. `matchLabels` entries are In with a single value."""

    key: Key
    operator: Operator
    values: tuple[str, ...] = ()

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return str(self.key)
            case Operator.DOES_NOT_EXIST:
                return f"!{self.key}"
            case Operator.IN if len(self.values) == 1:
                return f"{self.key}={self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(self.values)})"

    @property
    def needs_label(self) -> bool:
        """Whether it fails where the key is absent."""
        return self.operator in (Operator.IN, Operator.EXISTS)

    def holds(self, labels: Labels) -> bool:
        """NotIn and DoesNotExist hold where the key is absent, as in Kubernetes."""
        found = labels.values(self.key)
        match self.operator:
            case Operator.EXISTS:
                return bool(found)
            case Operator.DOES_NOT_EXIST:
                return not found
            case Operator.IN:
                return any(value in self.values for value in found)
        return not any(value in self.values for value in found)


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements must hold; none at all selects everything. Sorted, so equal meaning is equal value."""

    requirements: tuple[Requirement, ...] = ()

    @classmethod
    def of(cls, requirements: Iterable[Requirement]) -> Selector:
        unique = {
            Requirement(each.key, each.operator, tuple(sorted(set(each.values)))) for each in requirements
        }
        return cls(tuple(sorted(unique)))

    @property
    def key(self) -> str:
        """The canonical text."""
        return ",".join(map(str, self.requirements)) or "*"

    def names_namespace(self) -> bool:
        """Whether it says itself which namespaces it means: Cilium then adds none (getEndpointSelector)."""
        return any(
            each.key.name == NAMESPACE_KEY or each.key.name.startswith(NAMESPACE_LABELS_PREFIX)
            for each in self.requirements
        )

    def only_excludes_namespaces(self) -> bool:
        """Whether it says which namespaces it does not mean, and asks for no label that pods have."""
        return self.names_namespace() and not any(each.needs_label for each in self.requirements)

    def asks_for_no_namespace(self) -> bool:
        """Whether it asks for pods without a namespace, or in one without a name: there are none."""
        return any(
            each.operator is Operator.DOES_NOT_EXIST and each.key.name in (NAMESPACE_KEY, NAMESPACE_NAME_KEY)
            for each in self.requirements
        )

    def other_namespaces(self, namespace: str) -> Iterator[Requirement]:
        """The requirements on the namespace's name that a pod of `namespace` does not meet."""
        labels = Labels.of([(K8S, NAMESPACE_KEY, namespace)])
        return (
            each for each in self.requirements if each.key.name == NAMESPACE_KEY and not each.holds(labels)
        )

    def reserved(self) -> Iterator[Requirement]:
        """The requirements on Cilium's own labels (`reserved:host`), which no pod carries."""
        return (each for each in self.requirements if each.key.source == RESERVED)

    def within(self, namespace: str) -> Selector:
        """The same, limited to pods of `namespace`."""
        return Selector.of((*self.requirements, Requirement(NAMESPACE, Operator.IN, (namespace,))))

    def matches(self, labels: Labels) -> bool:
        return all(each.holds(labels) for each in self.requirements)


@dataclass(frozen=True, slots=True)
class Labels:
    """A label set, arranged for lookups. `texts` are `source:key=value`."""

    texts: frozenset[str]
    by_name: Mapping[str, Mapping[str, str]]  # key name → source → value

    @classmethod
    def of(cls, labels: Iterable[tuple[str, str, str]]) -> Labels:
        """From (source, key, value) triples; a later value of the same source and key wins."""
        by_name: dict[str, dict[str, str]] = {}
        for source, name, value in labels:
            by_name.setdefault(name, {})[source] = value
        texts = frozenset(
            f"{source}:{name}={value}" for name, values in by_name.items() for source, value in values.items()
        )
        return cls(texts, by_name)

    @property
    def triples(self) -> Triples:
        """Which labels these are. `texts` do not say it of keys that no API server takes: `a=b` with value
        `c` reads like `a` with value `b=c`."""
        return frozenset(
            (source, name, value) for name, values in self.by_name.items() for source, value in values.items()
        )

    def values(self, key: Key) -> tuple[str, ...]:
        found = self.by_name.get(key.name, {})
        if key.source == ANY:
            return tuple(found.values())
        return (found[key.source],) if key.source in found else ()


def parse_key(text: str) -> Key:
    """`k8s:app` → (k8s, app); a key without source gets `any`. Raises ValueError for what is no label key."""
    source, colon, name = text.partition(":")
    if not colon:
        source, name = ANY, text
    if source not in SOURCES:
        raise ValueError(f"unknown label source '{source}:' (known here: {', '.join(SOURCES)})")
    if not is_label_key(name):
        raise ValueError(f"'{name}' is not a label key")
    return Key(source, name)


def is_label_key(text: str) -> bool:
    """Whether Kubernetes takes it for the key of a label: `[DNS name/]name`."""
    prefix, slash, name = text.rpartition("/")
    return _NAME.fullmatch(name) is not None and (not slash or _PREFIX.fullmatch(prefix) is not None)


def is_label_value(text: str) -> bool:
    """Whether Kubernetes takes it for the value of a label; the empty text is one."""
    return not text or _NAME.fullmatch(text) is not None


_NAME = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"(?=.{1,253}$)[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")

# Cilium's default label filter (pkg/labelsfilter): labels that tell pods of one workload apart, or that
# Kubernetes sets for its own use, are no part of an identity.
_LEFT_OUT = re.compile(
    r"io\.kubernetes|kubernetes\.io|.*beta\.kubernetes\.io|k8s\.io|statefulset\.kubernetes\.io/pod-name"
    r"|apps\.kubernetes\.io/pod-index|batch\.kubernetes\.io/(job-completion-index|controller-uid)"
    r"|pod-template-generation|pod-template-hash|controller-revision-hash|controller-uid|annotation|etcd_node"
)
# What Cilium says about a pod is never taken from the pod itself.
_DERIVED = re.compile(
    "|".join(map(re.escape, (NAMESPACE_KEY, NAMESPACE_LABELS_PREFIX, SERVICE_ACCOUNT_KEY, CLUSTER_KEY)))
)


def is_identity_label(key: str) -> bool:
    """Whether a pod's own label is part of its identity."""
    return not _LEFT_OUT.match(key) and not _DERIVED.match(key)


def pod_labels(
    labels: Mapping[str, str], namespace: str, service_account: str, namespace_labels: Mapping[str, str]
) -> Labels:
    """The label set of a pod, as its identity has it."""
    own = [(K8S, key, value) for key, value in labels.items() if is_identity_label(key)]
    inherited = [(K8S, NAMESPACE_LABELS_PREFIX + key, value) for key, value in namespace_labels.items()]
    account = [(K8S, SERVICE_ACCOUNT_KEY, service_account)] if service_account else []
    place = [(K8S, NAMESPACE_KEY, namespace), (K8S, CLUSTER_KEY, CLUSTER_NAME)]
    return Labels.of([*own, *inherited, *account, *place])
