"""Where a lab's programs run, and what all of them are given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.backends.environment import base_environment
from lab.backends.order import Order
from lab.kernel.netns import Namespace
from lab.runtime.readiness import DescriptorReady
from lab.runtime.state import LabFolder
from lab.runtime.supervise import Program
from lab.world.certs import Certificates


@dataclass(frozen=True, slots=True)
class Site:
    """Where a lab's programs run: its order, its files, its namespaces."""

    order: Order
    folder: LabFolder
    namespaces: Mapping[str, Namespace]
    certificates: Certificates


def pod_environment(authority: str) -> dict[str, str]:
    """Clients in pods trust the lab's certificate authority (curl and OpenSSL know it by different names)."""
    return {**base_environment(), "CURL_CA_BUNDLE": authority, "SSL_CERT_FILE": authority}


def ready_by_descriptor(
    name: str,
    command: Callable[[int], Sequence[str]],
    place: Namespace,
    log: Path,
    files: Mapping[Path, str] | None = None,
) -> Program:
    """`files`: what it reads at its start."""
    return Program(name, command, place, log, DescriptorReady(), base_environment(), files=files or {})


def python(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, *arguments]
