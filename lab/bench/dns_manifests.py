"""The manifests that the pair is fed with: a node, its pods, and one policy that opens the measured names."""

from __future__ import annotations

from lab.bench import dns_names
from lab.bench.cluster import NAMESPACE, NODE, NODE_ADDRESS

_PATTERNS = f'[{{matchPattern: "*.{dns_names.ZONE}"}}, {{matchPattern: "*.{dns_names.NEW_ZONE}"}}]'
_CLUSTER = f"""\
apiVersion: v1
kind: Namespace
metadata: {{name: {NAMESPACE}, labels: {{kubernetes.io/metadata.name: {NAMESPACE}}}}}
---
apiVersion: v1
kind: Node
metadata: {{name: {NODE}}}
status: {{addresses: [{{type: InternalIP, address: {NODE_ADDRESS}}}]}}
---
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: measured, namespace: {NAMESPACE}}}
spec:
  endpointSelector: {{matchLabels: {{app: measured}}}}
  egress:
  - toCIDR: [{dns_names.SERVER}/32]
    toPorts:
    - ports: [{{port: "53", protocol: ANY}}]
      rules: {{dns: {_PATTERNS}}}
  - toFQDNs: {_PATTERNS}
    toPorts:
    - ports: [{{port: "{dns_names.PROBE_PORT}", protocol: UDP}}]
"""


def manifests(pods: int) -> dict[str, str]:
    """File name → text."""
    return {"cluster.yaml": _CLUSTER, "pods.yaml": "---\n".join(map(_pod, range(pods)))}


def _pod(number: int) -> str:
    address = dns_names.pod(number)
    return f"""\
apiVersion: v1
kind: Pod
metadata: {{name: pod-{number}, namespace: {NAMESPACE}, labels: {{app: measured}}}}
spec: {{nodeName: {NODE}, containers: [{{name: app}}]}}
status: {{phase: Running, podIP: {address}, podIPs: [{{ip: {address}}}]}}
"""
