"""Where a lab's programs run, and what all of them are given."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import acns
import lab
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


def base_environment() -> dict[str, str]:
    """The environment of everything in a lab: of the caller's only search paths and our own variables; never
    a proxy."""
    packages = [_root_of(package) for package in (acns, lab)]
    also = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    ours = {name: value for name, value in os.environ.items() if name.startswith("ACNS_")}
    return {
        **ours,
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(packages + also)),
    }


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


def _root_of(package: Any) -> str:
    """The folder from which a package is imported."""
    return str(Path(next(iter(package.__path__))).parent)
