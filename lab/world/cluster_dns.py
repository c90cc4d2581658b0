"""The cluster's DNS server: dnsmasq's configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.spec.topology import Pod, Topology


def config_text(topology: Topology, pod: Pod) -> str:
    """dnsmasq.conf for `pod` (its program is `dnsmasq`): listens on all the pod's addresses."""
    raise NotImplementedError


def command(config: Path) -> Sequence[str]:
    """The command line; it stays in the foreground and logs to stderr. Ready when port 53 answers."""
    raise NotImplementedError
