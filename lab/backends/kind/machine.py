"""What this machine needs for a lab on kind; each lack is one clear line, before anything is made."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Final

from acns.shim.preflight import OLDEST
from lab.backends.kind import tools
from lab.errors import EnvironmentFault

NODE_BYTES: Final = 1 << 30
"""Of memory, for each node; a control plane alone takes most of it."""
DISK_BYTES: Final = 6 << 30
"""The node image unpacked, ours, and what containers write."""


def check(nodes: int, version: str = "") -> None:
    """Raises EnvironmentFault."""
    if version:
        image(version)
    if lacking := tools.missing():
        first = lacking[0]
        others = f" (nor {', '.join(lacking[1:])})" if lacking[1:] else ""
        raise EnvironmentFault(f"{first} is not on PATH{others}", hint=tools.PROGRAMS[first])
    tools.checked(["docker", "version"])
    info = json.loads(tools.checked(["docker", "info", "--format", "{{json .}}"]).out)
    memory, wanted = int(info.get("MemTotal") or 0), nodes * NODE_BYTES
    if memory and memory < wanted:
        raise EnvironmentFault(
            f"too little memory: Docker has {memory >> 20} MiB, {nodes} nodes want {wanted >> 20}",
            hint="fewer nodes (--nodes), or give Docker more",
        )
    _disk(Path(str(info.get("DockerRootDir") or "")))


def _disk(root: Path) -> None:
    if not root.is_absolute() or not root.exists():
        return  # Docker is elsewhere: in a virtual machine, say
    free = shutil.disk_usage(root).free
    if free < DISK_BYTES:
        raise EnvironmentFault(
            f"too little disk: {free >> 20} MiB free in {root}, {DISK_BYTES >> 20} are wanted",
            hint="docker system prune, or a larger disk",
        )


def image(version: str) -> str:
    """kind's node image of that Kubernetes. Raises EnvironmentFault for one that is too old or is none."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", version)
    if not found:
        raise EnvironmentFault(
            f"'{version}' is not a Kubernetes version", hint="all three numbers: --k8s-version 1.33.1"
        )
    if (int(found[1]), int(found[2])) < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EnvironmentFault(
            f"Kubernetes {version} is older than {oldest}, which ACNS wants", hint=f"{oldest}.0 or newer"
        )
    return f"kindest/node:v{'.'.join(found.groups())}"
