"""On what it was measured: numbers of another machine say little without it."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

from lab.bench import idle


@dataclass(frozen=True, slots=True)
class Machine:
    """`load_average`: of the last minute, when the run began: others at work make numbers worse.
    `kept_awake`: idle CPUs did not sleep (`idle`)."""

    kernel: str
    cpu: str
    cpus: int
    memory_gib: float
    python: str
    nft: str
    iperf3: str
    load_average: float
    kept_awake: bool = False


def facts() -> Machine:
    """This machine, now."""
    return Machine(
        kernel=platform.release(),
        cpu=_field("/proc/cpuinfo", "model name"),
        cpus=os.cpu_count() or 0,
        memory_gib=round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / (1 << 20), 1),
        python=f"{platform.python_implementation()} {platform.python_version()}",
        nft=_version("nft"),
        iperf3=_version("iperf3"),
        load_average=os.getloadavg()[0],
        kept_awake=idle.are_kept_awake(),
    )


def _field(path: str, name: str) -> str:
    """What stands behind `name :` in such a file; "?" when it is not there."""
    lines = (line.partition(":") for line in Path(path).read_text().splitlines())
    return next((value.strip() for key, _, value in lines if key.strip() == name), "?")


def _version(program: str) -> str:
    """The first line that it says of itself; "missing" without it."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return "missing"
    return (done.stdout.splitlines() or ["?"])[0].strip()
