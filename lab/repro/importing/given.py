"""What the operator says of a capture: policies, pods, DNS servers, flows of Hubble, what no packet shows."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

import pydantic

from acns import located, textfile
from acns.errors import InputError, Problem
from acns.policy import manifests
from acns.policy.objects import CIDRBlocks, SelectedEndpoints, Spec
from acns.policy.objects import Policy as PolicyObject
from acns.policy.profiles import Profile
from acns.policy.selectors import NAMESPACE_KEY, Operator, Selector
from lab.policy_tools.inputs import files_of
from lab.repro.scenario.model import FIRST_NODE, Pod, Policy, Step

KUBE_DNS: Final = {"k8s-app": "kube-dns"}
_MAX_FLOWS_BYTES: Final = 256 << 20
_MAX_LINE: Final = 1 << 20
_DNS_PORT: Final = 53


@dataclass(frozen=True, slots=True)
class Given:
    """`pods`: by their address in the capture. `also`: steps that a capture cannot show."""

    pods: Mapping[IPv4Address, Pod] = field(default_factory=dict)
    dns: frozenset[IPv4Address] = frozenset()
    policies: tuple[Policy, ...] = ()
    objects: tuple[PolicyObject, ...] = ()
    also: tuple[Step, ...] = ()
    span_s: tuple[float, float] = (0.0, math.inf)
    """What of the capture is taken, from its first packet on."""
    shim: Mapping[str, Any] = field(default_factory=dict)
    resolver: Mapping[str, Any] = field(default_factory=dict)
    assumptions: tuple[str, ...] = ()
    nodes: tuple[str, ...] = (FIRST_NODE,)
    """In the order of their pod networks."""

    def is_outside(self, address: IPv4Address) -> bool:
        """Whether a policy speaks of it as of an address outside the cluster."""
        return any(address in network for network in self.networks())

    def networks(self) -> Iterator[IPv4Network]:
        """The CIDRs of its policies that do not mean everybody."""
        for _, peer in self._peers():
            if isinstance(peer, CIDRBlocks):
                yield from (one for one in peer.networks if one.prefixlen)

    def server(self) -> tuple[str, dict[str, str]]:
        """Namespace and labels of the DNS server that policies name; else those that every cluster has."""
        for rule, peer in self._peers():
            dns = any(one.first <= _DNS_PORT <= one.last for block in rule.ports or () for one in block.ports)
            if dns and isinstance(peer, SelectedEndpoints):
                namespace, labels = _exact(peer.selector)
                if labels:
                    return namespace or "kube-system", labels
        return "kube-system", dict(KUBE_DNS)

    def subjects(self) -> list[tuple[str, dict[str, str]]]:
        """Whom its policies select, each by a namespace and labels."""
        return [_exact(spec.subject) for spec in self._specs()]

    def _specs(self) -> Iterator[Spec]:
        for policy in self.objects:
            yield from policy.specs

    def _peers(self) -> Iterator[tuple[Any, Any]]:
        return ((rule, peer) for spec in self._specs() for rule in spec.rules for peer in rule.peers or ())


def policies(paths: Sequence[str]) -> tuple[tuple[Policy, ...], tuple[PolicyObject, ...]]:
    """Files and folders. Raises InputError with all that is wrong in them."""
    found: list[Policy] = []
    for path in files_of(paths):
        name = _file_name(path, {one.name for one in found})
        found.append(Policy(name=name, text=textfile.read(path)))
    return tuple(found), objects_of(found)


def objects_of(found: Iterable[Policy]) -> tuple[PolicyObject, ...]:
    """What policies say. Raises InputError."""
    objects: list[PolicyObject] = []
    problems: list[Problem] = []
    for one in found:
        parsed = manifests.parse(one.text, one.name, Profile.ACNS)
        problems += [problem for problem in parsed.problems if not problem.warning]
        objects += [each for each in parsed.objects if isinstance(each, PolicyObject)]
    if problems:
        raise InputError(problems)
    return tuple(objects)


def pods(texts: Iterable[str]) -> dict[IPv4Address, Pod]:
    """`IP=NAME`, `IP=NAMESPACE/NAME`, with labels behind a colon: `IP=NAME:app=web,tier=front`."""
    found: dict[IPv4Address, Pod] = {}
    for text in texts:
        address, _, rest = text.partition("=")
        called, _, labels = rest.partition(":")
        namespace, _, name = called.rpartition("/")
        pairs = [pair.partition("=") for pair in labels.split(",") if pair]
        try:
            pod = Pod(name=name, namespace=namespace or "default", labels={k: v for k, _, v in pairs})
            known = found.setdefault(IPv4Address(address), pod)
        except ValueError as error:
            hint = "--pod 10.244.0.5=frontend, or 10.244.0.5=shop/frontend:app=frontend"
            raise InputError(f"'{text}' names no pod", hint=hint) from error
        if known != pod:
            raise InputError(
                f"{address} is given to two pods, {known.name} and {name}", hint="one --pod for each"
            )
    return found


def span(begin_s: float, end_s: float) -> tuple[float, float]:
    """What of a capture is taken. Raises InputError."""
    if not 0 <= begin_s < end_s:
        text = f"nothing begins from {begin_s:g} s on and before {end_s:g} s"
        raise InputError(text, hint="--begin and --end are seconds from the first packet")
    return begin_s, end_s


def addresses(texts: Iterable[str]) -> frozenset[IPv4Address]:
    """Raises InputError."""
    try:
        return frozenset(map(IPv4Address, texts))
    except ValueError as error:
        raise InputError(f"{error}", hint="--dns takes an IPv4 address") from error


def hubble_pods(path: Path) -> dict[IPv4Address, Pod]:
    """The pods in flows that `hubble observe -o jsonpb` has written. Raises InputError."""
    found: dict[IPv4Address, Pod] = {}
    try:
        if path.stat().st_size > _MAX_FLOWS_BYTES:
            raise InputError(f"{path}: larger than {_MAX_FLOWS_BYTES >> 20} MiB")
        with path.open("rb") as file:
            while line := file.readline(_MAX_LINE):
                for address, pod in _pods_in(line):
                    found.setdefault(address, pod)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if not found:
        raise InputError(f"{path}: no flow in it names a pod", hint="hubble observe -o jsonpb > hubble.jsonl")
    return found


def also(path: Path) -> tuple[Step, ...]:
    """Steps that no packet shows, `at_ms` from the first one: policies that come and go, agents that die."""

    class Also(pydantic.BaseModel):
        model_config = pydantic.ConfigDict(extra="forbid")
        steps: tuple[Step, ...]

    documents = located.load(textfile.read(path), str(path))
    if len(documents) != 1:
        raise InputError(f"{path}: is one YAML mapping with 'steps'")
    steps = located.validate(Also, documents[0]).steps
    for index, step in enumerate(steps):
        if step.kind not in ("apply", "remove", "fault"):
            what = "only policies that come or go and faults of agents are no packets"
            raise InputError([documents[0].problem(("steps", index), what)])
    return steps


def labelled(given: Given, pods: Mapping[IPv4Address, Pod]) -> tuple[dict[IPv4Address, Pod], list[str]]:
    """Pods with the labels that policies select by, where only one pod can be meant; and what was assumed."""
    result, assumed = dict(pods), []
    bare = [address for address, pod in pods.items() if not pod.labels]
    subjects = [(namespace, labels) for namespace, labels in given.subjects() if labels]
    for address in bare:
        pod = pods[address]
        named = [one for one in subjects if pod.name in one[1].values()]
        meant = subjects if len(bare) == 1 == len(pods) else named
        labels = {key: value for _, each in reversed(meant) for key, value in each.items()}
        if not labels:
            if subjects:
                assumed.append(f"no policy selects pod {pod.name}: it has no labels; --pod IP=NAME:KEY=VALUE")
            continue
        namespace = next((one for one, _ in meant if one), pod.namespace)
        shown = ", ".join(f"{key}={value}" for key, value in labels.items())
        assumed.append(f"pod {pod.name} is whom the policies select: it is in {namespace} and has {shown}")
        result[address] = pod.model_copy(update={"labels": labels, "namespace": namespace})
    return result, assumed


def with_pods(given: Given, more: Mapping[IPv4Address, Pod]) -> Given:
    """What was said first counts."""
    return replace(given, pods={**more, **given.pods})


def _exact(selector: Selector) -> tuple[str, dict[str, str]]:
    """The namespace and the labels that it asks for by value."""
    exact = {
        one.key.name: one.values[0]
        for one in selector.requirements
        if one.operator is Operator.IN and one.values
    }
    return exact.pop(NAMESPACE_KEY, ""), exact


def _file_name(path: Path, taken: set[str]) -> str:
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", path.stem).lstrip("-_.")[:80] or "policy"
    name, number = f"{stem}.yaml", 2
    while name in taken:
        name, number = f"{stem}-{number}.yaml", number + 1
    return name


def _pods_in(line: bytes) -> Iterator[tuple[IPv4Address, Pod]]:
    try:
        value = json.loads(line)
        flow = value.get("flow", value)
        for end in ("source", "destination"):
            about = flow.get(end) or {}
            if about.get("pod_name"):
                labels = dict(_labels(about.get("labels") or ()))
                pod = Pod(name=about["pod_name"], namespace=about.get("namespace", "default"), labels=labels)
                yield IPv4Address(flow["IP"][end]), pod
    except (ValueError, AttributeError, KeyError, TypeError):
        return  # not a flow: hubble writes other lines too


def _labels(texts: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for text in texts:
        source, _, rest = str(text).partition(":")
        key, _, value = rest.partition("=")
        if source == "k8s" and not key.startswith("io.kubernetes.pod.") and not key.startswith("io.cilium."):
            yield key, value
