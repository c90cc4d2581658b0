"""The DNS server behind everything that is measured: `python -m lab.bench.dns_upstream ADDRESS`.

Scripted, so that it is never the limit: what it has answered once it answers again from a dictionary, under
the new ID. A name whose first label is a letter and a number has one address, which follows from the number;
all others do not exist. UDP and TCP on port 53. Says "ready" on stdout when it listens.
"""

from __future__ import annotations

import argparse
import contextlib
import selectors
import socket
import struct
import threading
from ipaddress import IPv4Address
from typing import Final

PORT: Final = 53
FIRST_ADDRESS: Final = int(IPv4Address("100.64.0.0"))  # RFC 6598
TTL_S: Final = 300
_HEADER, _ID = 12, 2
_ANSWERED = struct.pack("!5H", 0x8180, 1, 1, 0, 0)
_NAME_ERROR = struct.pack("!5H", 0x8183, 1, 0, 0, 0)
_REMEMBERED = 20_000
_BUFFER_BYTES = 4 << 20


def address_of(number: int) -> bytes:
    """What the name `n<number>.…` resolves to."""
    return (FIRST_ADDRESS + number).to_bytes(4, "big")


class Script:
    """From a query to its answer, both without their IDs."""

    def __init__(self) -> None:
        self._known: dict[bytes, bytes] = {}

    def answer(self, query: bytes) -> bytes:
        rest = query[_ID:]
        found = self._known.get(rest)
        if found is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            found = self._known[rest] = _made(query)
        return query[:_ID] + found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.bench.dns_upstream")
    parser.add_argument("address")
    place = (parser.parse_args().address, PORT)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with contextlib.suppress(OSError):
        datagrams.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), _BUFFER_BYTES)
    datagrams.bind(place)
    with socket.create_server(place, backlog=1024) as listener:
        threading.Thread(target=_streams, args=(listener,), daemon=True).start()
        print("ready", flush=True)
        script = Script()
        receive, send, answer = datagrams.recvfrom, datagrams.sendto, script.answer
        while True:
            query, source = receive(4096)
            send(answer(query), source)


def _made(query: bytes) -> bytes:
    """The answer's octets behind the ID."""
    end = query.index(b"\0", _HEADER) + 5
    label = query[_HEADER + 2 : _HEADER + 1 + query[_HEADER]]
    if not label.isdigit():
        return _NAME_ERROR + query[_HEADER:end]
    record = struct.pack("!3HIH", 0xC00C, 1, 1, TTL_S, 4) + address_of(int(label))
    return _ANSWERED + query[_HEADER:end] + record


def _streams(listener: socket.socket) -> None:
    """Everything that comes over TCP, on one thread."""
    script, waiting = Script(), dict[int, bytes]()
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is listener:
                    stream = listener.accept()[0]
                    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(stream, selectors.EVENT_READ)
                    continue
                assert isinstance(key.fileobj, socket.socket)
                if not _serve(key.fileobj, script, waiting):
                    selector.unregister(key.fileobj)
                    waiting.pop(key.fd, None)
                    key.fileobj.close()


def _serve(stream: socket.socket, script: Script, waiting: dict[int, bytes]) -> bool:
    """Answer every whole query that is there; whether the connection goes on."""
    try:
        data = stream.recv(65_536)
        if not data:
            return False
        data = waiting.pop(stream.fileno(), b"") + data
        answers, offset = [], 0
        while len(data) >= offset + 2 and len(data) >= (end := offset + 2 + _length(data, offset)):
            answer = script.answer(data[offset + 2 : end])
            answers.append(len(answer).to_bytes(2, "big") + answer)
            offset = end
        waiting[stream.fileno()] = data[offset:]
        stream.sendall(b"".join(answers))
    except OSError:
        return False
    return True


def _length(data: bytes, offset: int) -> int:
    return data[offset] << 8 | data[offset + 1]


if __name__ == "__main__":
    main()
