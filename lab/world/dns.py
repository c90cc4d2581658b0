"""The Internet's DNS server: `python -m lab.world.dns`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from lab.spec.topology import InternetName


def records_text(names: Mapping[str, InternetName]) -> str:
    """The records file (JSON) for `names`; write it atomically (temporary file + rename): it is re-read on change."""
    raise NotImplementedError


def command(*, records: Path, listen: Sequence[IPv4Address], query_log: Path, ready_fd: int | None = None) -> list[str]:
    """argv without the interpreter: `[*python, *dns.command(…)]`. Writes one byte to `ready_fd` when it listens."""
    raise NotImplementedError
