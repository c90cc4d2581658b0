"""What many objects have in common exists once in this process: texts, label sets, ports of workloads.

A cluster's pods are few workloads many times over; without this each would bring copies of its own.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from dataclasses import replace

from acns.policy.objects import NamedPort, Pod

_WORKLOADS = 16_384
"""So many are remembered, the last ones used; pods of the others have copies."""


def text(one: str) -> str:
    return sys.intern(one) if type(one) is str else one


def pod(one: Pod) -> Pod:
    """The same, made of shared parts."""
    return replace(
        one,
        namespace=text(one.namespace),
        name=text(one.name),
        labels=_labels(tuple(one.labels.items())),
        node_name=text(one.node_name),
        phase=text(one.phase),
        service_account=text(one.service_account),
        named_ports=_ports(one.named_ports),
    )


@functools.lru_cache(_WORKLOADS)
def _labels(pairs: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return {text(name): text(value) for name, value in pairs}


@functools.lru_cache(_WORKLOADS)
def _ports(ports: tuple[NamedPort, ...]) -> tuple[NamedPort, ...]:
    return ports
