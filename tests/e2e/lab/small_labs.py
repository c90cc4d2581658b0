"""A small topology, and waiting for a condition."""

from __future__ import annotations

from typing import Any

from lab.spec.topology import Topology


def topology(name: str, **more: Any) -> Topology:
    """Two nodes; pods `a` and `b` on the first, `web` on the second; two names on the Internet."""
    return Topology.model_validate(
        {
            "name": name,
            "nodes": [{"name": "n1"}, {"name": "n2"}],
            "pods": [
                {"name": "a", "node": "n1"},
                {"name": "b", "node": "n1", "namespace": "other"},
                {"name": "web", "node": "n2", "labels": {"app": "web"}, "program": {"kind": "web"}},
            ],
            "services": [
                {
                    "name": "web",
                    "cluster_ip": "10.96.0.20",
                    "selector": {"app": "web"},
                    "ports": [{"name": "http", "port": 80}],
                }
            ],
            "internet": {
                "names": {"api.example.com": {"a": ["198.51.100.10"], "aaaa": ["2001:db8::10"]}},
            },
            **more,
        }
    )


def tiny(name: str, **more: Any) -> Topology:
    """One node with two idle pods, one name on the Internet: quick to build."""
    value = {
        "name": name,
        "nodes": [{"name": "n1"}],
        "pods": [{"name": "a", "node": "n1"}, {"name": "b", "node": "n1"}],
        "internet": {"names": {"api.example.com": {"a": ["198.51.100.10"]}}},
    }
    return Topology.model_validate({**value, **more})
