"""The lab's own servers as processes on loopback, started by their commands and ready when they say so."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


@contextlib.contextmanager
def running(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """`python *arguments --ready-fd N`, once its byte has come; terminated afterwards, with exit code 0."""
    read_end, write_end = os.pipe()
    command = [sys.executable, *arguments, "--ready-fd", str(write_end)]
    process = subprocess.Popen(command, pass_fds=[write_end], stderr=subprocess.DEVNULL)
    os.close(write_end)
    try:
        with os.fdopen(read_end, "rb") as ready:
            assert ready.read(1), f"{command} ended with {process.wait()} before it was ready"
        yield process
    finally:
        process.terminate()
        code = process.wait(timeout=10)
    assert code == 0
