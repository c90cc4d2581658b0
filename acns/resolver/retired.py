"""What becomes of a resolver that has handed over, where whoever started it would start it again.

A kubelet restarts a container that ends, whatever its exit code, for as long as the pod is there; and in a
rolling update the old pod is there until the new one is ready. Started again, it would ask for everything
back, and so on in turns. So it stays, with nothing of what it had, until it is told to end; or until nobody
serves at the port any more (the next one has died, and its pod is gone): then it ends to be started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from acns.datapath import constants
from acns.resolver.settings import ResolverSettings
from acns.telemetry import log as logs
from acns.telemetry.http import HealthServer, Readiness

log = logs.named(__name__)

LOOKS_S: Final = 1.0
PATIENCE: Final = 3
"""So many looks in a row find nobody: a successor's successor may be starting."""
_UDP_SOCKETS: Final = Path("/proc/net/udp")


async def until_needed(settings: ResolverSettings, told_to_end: asyncio.Event) -> None:
    """Returns when this process is to end. It is alive meanwhile, and not ready."""
    http = HealthServer(settings.http_socket, CollectorRegistry(), _handed_over)
    await http.start()
    log.info("retired: the next resolver serves")
    unserved = 0
    try:
        while unserved < PATIENCE:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(told_to_end.wait(), LOOKS_S)
                return
            unserved = 0 if is_served(settings.listen_port) else unserved + 1
        log.warning("nobody serves any more: ending, to be started again")
    finally:
        await http.stop()


def is_served(port: int) -> bool:
    """Whether anybody has that UDP port of the proxy's address."""
    (number,) = struct.unpack("=I", socket.inet_aton(constants.PROXY_ADDRESS))
    return f" {number:08X}:{port:04X} " in _UDP_SOCKETS.read_text()


def _handed_over() -> Readiness:
    return Readiness(("handed over to the next resolver",))
