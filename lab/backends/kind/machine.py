"""What this machine needs for a lab on kind; each lack is one clear line, before anything is made."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Final

from acns.shim.preflight import OLDEST
from lab.backends.kind import tools
from lab.errors import EnvironmentFault, InputError

_BUILD: Final = {"PIP_INDEX_URL": "PIP_INDEX_URL", "BASE": "ACNS_BASE_IMAGE"}
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
    """kind's node image of that Kubernetes; what names an image itself is that one. Raises EnvironmentFault
    for a version that is too old or is none."""
    own = "/" in version
    numbers = _numbers(version.partition("@")[0].rpartition(":")[2] if own else version)
    if numbers is None:
        what = f"the image {version} has no tag that says its Kubernetes version" if own else None
        raise EnvironmentFault(
            what or f"'{version}' is not a Kubernetes version",
            hint="all three numbers: --k8s-version 1.33.1; or an image with a tag: kindest/node:v1.33.1",
        )
    if numbers[:2] < OLDEST:
        oldest = ".".join(map(str, OLDEST))
        raise EnvironmentFault(
            f"Kubernetes {version} is older than {oldest}, which ACNS wants", hint=f"{oldest}.0 or newer"
        )
    return version if own else "kindest/node:v" + ".".join(map(str, numbers))


def build_arguments() -> list[str]:
    """Where this machine gets what the images are made of, if it says so: a Python package index and a base
    image of one's own."""
    given = {argument: os.environ.get(variable) for argument, variable in _BUILD.items()}
    return [
        part for argument, value in given.items() if value for part in ("--build-arg", f"{argument}={value}")
    ]


def refuse_other_version(wanted: str, running: str) -> None:
    """`running`: of a cluster that is there, as its nodes say it. Raises InputError where `wanted`, a version
    or an image, is another."""
    if not wanted:
        return
    tag = image(wanted).partition("@")[0].rpartition(":")[2]
    if _numbers(tag) != _numbers(running):
        raise InputError(
            f"the cluster that is there runs Kubernetes {running}, and not {tag}",
            hint="invoke lab.down first, or leave --k8s-version out",
        )


def _numbers(text: str) -> tuple[int, int, int] | None:
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2]), int(found[3])) if found else None
