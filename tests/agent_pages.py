"""The pages of an agent at its unix socket, by the standard library's client."""

from __future__ import annotations

import asyncio
import http.client
import socket
from pathlib import Path


async def get(path: Path, page: str) -> tuple[int, str]:
    """Status and body."""
    return await asyncio.to_thread(_asked, path, page)


def _asked(path: Path, page: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("agent")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(10)
    connection.sock.connect(str(path))
    try:
        connection.request("GET", page)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()
