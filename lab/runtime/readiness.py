"""When a process of the lab is ready: a condition to wait for, never a time to sleep.

Its `/readyz` says so over a unix socket, its port accepts a connection, or it writes a byte to the descriptor
it was given; of a program that can do none of these, that it runs. Each probe answers with what is still
missing, so that a time-out can say it.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from acns.shim.sources import listing
from lab.errors import ProcessFailed
from lab.kernel import netns

_PROBE_TIMEOUT_S = 2.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class HttpReady:
    """GET /readyz over a unix socket answers 200."""

    socket: Path


@dataclass(frozen=True, slots=True)
class PortReady:
    """TCP connects to `port` of an address inside the process's namespace."""

    port: int
    address: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class DescriptorReady:
    """The process writes a byte to the descriptor whose number is in its command line."""


@dataclass(frozen=True, slots=True)
class RunningReady:
    """It runs: nothing more is known of it."""


Readiness = HttpReady | PortReady | DescriptorReady | RunningReady


async def missing(readiness: Readiness, namespace: netns.Namespace, ready_end: int) -> str:
    """What is missing for the process to be ready; empty when it is."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            if isinstance(readiness, HttpReady):
                return await http_missing(readiness.socket)
            if isinstance(readiness, RunningReady):
                return ""
            if isinstance(readiness, PortReady):
                return await _port_missing(readiness, namespace)
            return _descriptor_missing(ready_end)
    except TimeoutError:
        return f"no answer within {_PROBE_TIMEOUT_S:g} s"
    except OSError as error:
        return error.strerror or str(error)


async def process_that_answers(readiness: Readiness) -> int | None:
    """The pid, as it says itself, of the agent that answers; None where none does, or says no such thing."""
    if not isinstance(readiness, HttpReady):
        return None
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            _, body = await _readyz(readiness.socket)
        pid = json.loads(body)["pid"]
    except (OSError, TimeoutError, ValueError, KeyError, TypeError):
        return None
    return pid if isinstance(pid, int) else None


def is_current(said: Mapping[str, Any], manifests: Path) -> bool:
    """Whether a shim that says this has read and judged every manifest, and its resolvers have the result.

    One that says nothing of the kind is as current as it can be.
    """
    if "manifests" not in said:
        return True
    try:
        on_disk = {name: str(stamp.mtime_ns) for name, stamp in listing.stamps(manifests).items()}
    except OSError:  # the folder is away: nothing newer can be read
        on_disk = said["manifests"]
    return bool(
        on_disk == said["manifests"]
        and not said.get("policy_streams_behind")
        and not said.get("problems_pending")
    )


async def wait_current(shim: Path, manifests: Path, within_s: float = 20.0) -> None:
    """Returns when the shim with that socket goes by the newest manifests, or answers no more. Raises
    ProcessFailed."""
    deadline = time.monotonic() + within_s
    while True:
        try:
            async with asyncio.timeout(_PROBE_TIMEOUT_S):
                _, body = await _readyz(shim)
            said = json.loads(body)
        except TimeoutError:
            said = None  # it is busy, with what was written for it perhaps
        except (OSError, ValueError):
            return
        if said is not None and is_current(said, manifests):
            return
        if time.monotonic() > deadline:
            raise ProcessFailed(f"the shim at {shim} still goes by older manifests after {within_s:g} s")
        await asyncio.sleep(_POLL_S)


async def http_missing(path: Path) -> str:
    """Ask `/readyz`."""
    head, body = await _readyz(path)
    status = head.split(b" ", 2)[1:2]
    return "" if status == [b"200"] else _reasons(body) or f"/readyz answers {head[:80]!r}"


async def _readyz(path: Path) -> tuple[bytes, bytes]:
    """Head and body. HTTP/1.0, so that the answer ends with the connection."""
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(b"GET /readyz HTTP/1.0\r\nHost: lab\r\n\r\n")
        await writer.drain()
        # To the end: head and body may come apart.
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return head, body
    finally:
        writer.close()


def _reasons(body: bytes) -> str:
    """Why an agent is not ready, in its own words."""
    try:
        return "; ".join(map(str, json.loads(body)["reasons"]))
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:500]


async def _port_missing(wanted: PortReady, namespace: netns.Namespace) -> str:
    opened = netns.open_socket(namespace, socket.AF_INET, socket.SOCK_STREAM)
    with opened:
        opened.setblocking(False)
        await asyncio.get_running_loop().sock_connect(opened, (wanted.address, wanted.port))
    return ""


def _descriptor_missing(ready_end: int) -> str:
    try:
        return "" if os.read(ready_end, 1) else "it closed its ready descriptor"
    except BlockingIOError:
        return "it has not said that it is ready"
