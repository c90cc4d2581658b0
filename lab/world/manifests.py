"""The lab as Kubernetes objects: what `kubectl get -o yaml` would print."""

from __future__ import annotations

from lab.spec.plan import Addressing
from lab.spec.topology import Topology


def manifest_files(topology: Topology, addressing: Addressing) -> dict[str, str]:
    """File name → YAML text for a shim's manifests folder, policies included; the same on every node."""
    raise NotImplementedError
