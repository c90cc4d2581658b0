"""What idle CPUs do while something is measured.

A virtual CPU without work is given back to its host, and waking it takes tens of µs, more where the host is
busy. Of two processes that wait for each other in turn this is much of what is measured, and nothing that
either could change. A request to the kernel's PM QoS for no latency keeps idle CPUs polling; it stands as
long as the file is open (Linux, Documentation/power/pm_qos_interface.rst; cyclictest measures so).
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lab.errors import EnvironmentFault

_REQUESTS: Final = Path("/dev/cpu_dma_latency")
_DRIVER: Final = Path("/sys/devices/system/cpu/cpuidle/current_driver")
_LATENCY: Final = struct.Struct("=i")
"""The longest time to wake up, in µs."""


@contextlib.contextmanager
def kept_awake(wanted: bool = True, *, requests: Path = _REQUESTS, driver: Path = _DRIVER) -> Iterator[None]:
    """No CPU sleeps during the block, if that is `wanted`. Raises EnvironmentFault where that cannot be."""
    if not wanted:
        yield
        return
    if not _is_idle_driven(driver):
        raise EnvironmentFault(
            "idle CPUs cannot be kept awake: this kernel has no cpuidle driver",
            hint="measure without --awake",
        )
    try:
        opened = requests.open("r+b", buffering=0)
    except OSError as error:
        raise EnvironmentFault(
            f"idle CPUs cannot be kept awake: {requests}: {error.strerror}",
            hint="run as root, or measure without --awake",
        ) from error
    with opened:
        opened.write(_LATENCY.pack(0))
        yield


def are_kept_awake(requests: Path = _REQUESTS, driver: Path = _DRIVER) -> bool:
    """Whether anybody has requested that CPUs do not sleep."""
    try:
        return _is_idle_driven(driver) and _LATENCY.unpack(requests.read_bytes()[: _LATENCY.size]) == (0,)
    except (OSError, struct.error):
        return False


def _is_idle_driven(driver: Path) -> bool:
    """Whether requests are heeded: a kernel without a driver halts an idle CPU whatever is requested."""
    try:
        return driver.read_text().strip() not in ("", "none")
    except OSError:
        return False
