"""The environment of everything in a lab."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import acns
import lab


def base_environment() -> dict[str, str]:
    """Of the caller's only search paths and our own variables; never a proxy."""
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


def _root_of(package: Any) -> str:
    """The folder from which a package is imported."""
    return str(Path(next(iter(package.__path__))).parent)
