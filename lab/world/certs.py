"""The lab's certificate authority and the one certificate of all its web servers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from lab.spec.topology import Topology


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in the lab's state folder: `ca` is what clients trust, `chain` and `key` what servers use."""

    ca: Path
    chain: Path
    key: Path


def certified_names(topology: Topology) -> list[str]:
    """Every name and address a web server of this topology can be asked for over HTTPS."""
    raise NotImplementedError


def ensure(folder: Path, names: Iterable[str]) -> Certificates:
    """Certificates in `folder` that cover `names`; existing ones that do are left as they are."""
    raise NotImplementedError
