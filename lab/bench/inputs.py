"""What the shim is fed: the generated cluster, a policy of the measured pod's own, and what names resolve to.

The measured pod is an ordinary one of the cluster. Its additional policy opens a name of its own, whose
address the server on its wire owns, for the ports that traffic is measured on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns import pattern
from acns.dns.name import Name
from acns.dns.pattern import FQDNSelector
from acns.policy import manifests
from acns.policy.cluster import Cluster
from acns.policy.objects import Object
from acns.policy.profiles import Profile
from acns.policy.resolve import Resolver
from lab.bench.cluster import NAMESPACE, NODE, BenchCluster, Scale
from lab.bench.traffic import BULK_PORT, PORT
from lab.errors import Bug

MEASURED_POD = 0
SERVER = IPv4Address("203.0.113.77")
"""What the measured name resolves to."""
MEASURED = pattern.match_name("measured.example.com")
PROFILE = Profile.CILIUM
TTL_S = 3_600

_MEASURED_POLICY = f"""\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: measured, namespace: {NAMESPACE}}}
spec:
  endpointSelector: {{matchLabels: {{app: app-{MEASURED_POD}}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{k8s:io.kubernetes.pod.namespace: kube-system, k8s-app: kube-dns}}
    toPorts:
    - ports: [{{port: "53", protocol: ANY}}]
      rules: {{dns: [{{matchName: {MEASURED.text}}}]}}
  - toFQDNs: [{{matchName: {MEASURED.text}}}]
    toPorts:
    - ports: [{{port: "{PORT}", protocol: ANY}}, {{port: "{BULK_PORT}", protocol: TCP}}]
"""

Files = Mapping[str, str]


def files(scale: Scale) -> Files:
    """File name → manifest text."""
    return {**BenchCluster(scale).manifests(), "measured.yaml": _MEASURED_POLICY}


def files_with_more_elsewhere(scale: Scale, factor: int) -> Files:
    """The same, and so many times as many policies for all endpoints but the measured one."""
    larger = replace(scale, policies=scale.policies * factor, selectors=scale.selectors * factor)
    cluster = BenchCluster(larger)
    others = [
        index
        for index in range(scale.policies, larger.policies)
        if index % cluster.workloads != MEASURED_POD % cluster.workloads
    ]
    return {**files(scale), **{f"more-{index}.yaml": cluster.policy(index) for index in others}}


def read(path: str, text: str) -> tuple[Object, ...]:
    """The objects of one manifest, which has no errors."""
    parsed = manifests.parse(text, path, PROFILE)
    if not parsed.ok:
        raise Bug(f"the generated manifests are wrong: {parsed.problems[0]}")
    return tuple(parsed.objects)


def read_all(texts: Files) -> dict[str, tuple[Object, ...]]:
    """File name → objects."""
    return {path: read(path, text) for path, text in texts.items()}


def answers(scale: Scale) -> Iterator[tuple[Name, list[bytes]]]:
    """What every name resolves to, the measured one's last."""
    for answer in BenchCluster(scale).answers():
        yield names.from_text(answer.name), [address.packed for address in answer.addresses]
    yield names.from_text(MEASURED.text), [SERVER.packed]


def selectors(objects: Iterable[Object]) -> frozenset[FQDNSelector]:
    """All `toFQDNs` selectors that the node's endpoints have."""
    return Resolver(NODE).resolve(Cluster.of(objects)).fqdn_selectors()


def flat(objects: Mapping[str, Iterable[Object]]) -> tuple[Object, ...]:
    """All objects of all files."""
    return tuple(one for found in objects.values() for one in found)
