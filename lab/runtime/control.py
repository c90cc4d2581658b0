"""How commands and tests talk to the holder: JSON lines over a unix socket in the lab's folder.

A request is `{"op": …, "arguments": {…}}`; the answer is any number of `{"progress": "…"}` lines and then one
`{"result": …}` or `{"error": {"class", "message", "hint"}}`, which the client raises again as the class
it was. The first connection of a lab is a socket pair with the process that brings it up; the rest come
by path (0600).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from lab.errors import AcnsError, HolderGone, by_name
from lab.runtime.progress import Progress, silent

Handler = Callable[[dict[str, Any], Progress], Awaitable[Any]]

_MAX_LINE_BYTES = 64 << 20
"""A request may carry every manifest of a big lab."""


class Client:
    """One connection to a holder. `call` answers one request at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lines = connection.makefile("rb")

    @classmethod
    def connect(cls, path: Path) -> Client:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.connect(str(path))
        except OSError as error:
            connection.close()
            raise HolderGone(
                f"the lab's holder does not answer at {path}: {error.strerror}",
                hint="invoke lab.down removes what is left; invoke lab.up builds the lab again",
            ) from error
        return cls(connection)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def call(self, op: str, *, progress: Progress = silent, timeout_s: float = 60.0, **arguments: Any) -> Any:
        """The result of one request; the holder's error is raised here."""
        self._socket.settimeout(timeout_s)
        try:
            # A holder that failed at its start has said why before it went: read on.
            with contextlib.suppress(BrokenPipeError):
                self._socket.sendall(json.dumps({"op": op, "arguments": arguments}).encode() + b"\n")
            return self._answer(op, progress)
        except TimeoutError:
            raise HolderGone(f"the holder has not answered {op!r} within {timeout_s:g} s") from None
        except ConnectionResetError as error:
            raise HolderGone(f"the holder died while it was asked to {op}") from error

    def _answer(self, op: str, progress: Progress) -> Any:
        for line in self._lines:
            reply = json.loads(line)
            if "progress" in reply:
                progress(reply["progress"])
            elif "error" in reply:
                raise _raised(reply["error"])
            else:
                return reply["result"]
        raise HolderGone(f"the holder died while it was asked to {op}")


class Server:
    """The holder's side: answers requests with `handlers`, each connection for itself."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        self._handlers = handlers

    async def listen(self, path: Path) -> None:
        old_mask = os.umask(0o177)
        try:
            await asyncio.start_unix_server(self._serve, str(path), limit=_MAX_LINE_BYTES)
        finally:
            os.umask(old_mask)

    async def serve_connection(self, connection: socket.socket) -> None:
        """Serve one connected socket until the other side closes it."""
        reader, writer = await asyncio.open_connection(sock=connection, limit=_MAX_LINE_BYTES)
        await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # A client that goes away in the middle is its own business.
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                await self._answer(line, writer)
        writer.close()

    async def _answer(self, line: bytes, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()

        def progress(text: str) -> None:
            loop.call_soon_threadsafe(_write, writer, {"progress": text})

        try:
            request = json.loads(line)
            handler = self._handlers[request["op"]]
            reply = {"result": await handler(request["arguments"], progress)}
        except AcnsError as error:
            reply = {"error": _described(error)}
        except Exception as error:  # noqa: BLE001 - a request must not end the lab
            traceback.print_exc()
            text = f"the holder failed: {type(error).__name__}: {error}"
            reply = {"error": {"class": "Bug", "message": text, "hint": "the traceback is in holder.log"}}
        # After the progress lines that are queued.
        loop.call_soon(_write, writer, reply)
        await asyncio.sleep(0)
        await writer.drain()


def _write(writer: asyncio.StreamWriter, value: Mapping[str, Any]) -> None:
    writer.write(json.dumps(value).encode() + b"\n")


def error_line(error: AcnsError) -> bytes:
    """An error as the answer to whatever is asked."""
    return json.dumps({"error": _described(error)}).encode() + b"\n"


def _described(error: AcnsError) -> dict[str, str]:
    return {"class": type(error).__name__, "message": error.message, "hint": error.hint}


def _raised(error: Mapping[str, str]) -> AcnsError:
    return by_name(error["class"])(error["message"], hint=error["hint"])
