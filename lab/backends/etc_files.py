"""The files under /etc that pods, nodes and the Internet see as their own: what is in them, where they lie.

They lie in the lab's folder and are bound over those of the machine, each in its mount namespace. A bound
file is the file, not its path: one that changes is written in place.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lab.backends.network import INTERNET, EtcFiles, node_place, pod_place
from lab.backends.order import Order
from lab.runtime.state import LabFolder
from lab.world import pod_files


@dataclass(frozen=True, slots=True)
class EtcTexts:
    """/etc/resolv.conf and /etc/hosts of one place."""

    resolv_conf: str
    hosts: str


def texts(order: Order) -> dict[str, EtcTexts]:
    """Of every place."""
    topology, addressing = order.topology, order.addressing
    outside = f"nameserver {topology.internet.dns}\n"
    found = {INTERNET: EtcTexts(outside, "127.0.0.1 localhost\n")}
    for node in addressing.nodes:
        hosts = f"127.0.0.1 localhost\n{node.address} {node.name}\n"
        found[node_place(node.name)] = EtcTexts(outside, hosts)
    for pod, plan in zip(topology.pods, addressing.pods, strict=True):
        resolv_conf, hosts = pod_files.resolv_conf(topology, pod), pod_files.hosts(pod, plan.address)
        found[pod_place(plan.key)] = EtcTexts(resolv_conf, hosts)
    return found


def write(folder: LabFolder, wanted: Mapping[str, EtcTexts]) -> dict[str, EtcFiles]:
    """The files of those places, with that content from now on."""
    nsswitch = folder.path / "nsswitch.conf"
    if not nsswitch.exists():
        nsswitch.write_text(_nsswitch_text())
    return {place: _written(home(folder, place), text, nsswitch) for place, text in wanted.items()}


def home(folder: LabFolder, place: str) -> Path:
    """The folder of a place."""
    kind, _, name = place.partition("/")
    return {"node": folder.node, "pod": folder.pod}[kind](name) if name else folder.internet


def _written(where: Path, text: EtcTexts, nsswitch: Path) -> EtcFiles:
    where.mkdir(parents=True, exist_ok=True)
    files = EtcFiles(where / "resolv.conf", where / "hosts", nsswitch)
    files.resolv_conf.write_text(text.resolv_conf)
    files.hosts.write_text(text.hosts)
    return files


def _nsswitch_text() -> str:
    """The machine's nsswitch.conf, but names come from /etc/hosts and DNS alone: `resolve` and `mymachines`
    would ask daemons of the machine, past the pod's own DNS server."""
    text = "passwd: files\ngroup: files\nhosts: files dns\n"
    with contextlib.suppress(OSError):
        text = Path("/etc/nsswitch.conf").read_text()
    return re.sub(r"(?m)^\s*hosts:.*$", "hosts: files dns", text)
