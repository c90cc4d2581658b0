"""A client in a hurry: asks for names and sends a SYN the instant each answer arrives.

Runs in a pod as a process of its own, so that nothing in the test process slows it down. A job (JSON on
stdin) lists queries, ready to send, each with the address that its name will turn out to have; the report
(JSON on stdout) has an entry per query. Before it asks, it knocks: a SYN to the address whose name was not
asked for yet. The socket of the SYN after the answer is made beforehand, so that between `recv` and
`connect` there is next to nothing.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import sys
from typing import Any

PATIENCE_S = 15.0
"""Without any event for so long, what is still open is reported as it is."""


class Client:
    """`in_flight` queries at a time, each from a socket of its own."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.port = int(job["port"])
        self.linger_s = float(job["linger_s"])
        self.queries = [bytes.fromhex(one["query"]) for one in job["queries"]]
        self.addresses = [str(one["address"]) for one in job["queries"]]
        self.report: list[dict[str, Any]] = [{} for _ in self.queries]
        self.next = 0
        self.epoll = select.epoll()
        self.asking: dict[int, tuple[socket.socket, int, socket.socket]] = {}
        self.connecting: dict[int, tuple[socket.socket, int]] = {}
        self.resolvers = [self._resolver(job["server"]) for _ in range(int(job["in_flight"]))]

    def run(self) -> list[dict[str, Any]]:
        """All queries; ends when every connection has come to something, or nothing comes any more."""
        for resolver in self.resolvers:
            self._ask(resolver)
        while self.asking or self.connecting:
            events = self.epoll.poll(PATIENCE_S if self.asking else self.linger_s)
            if not events:
                break
            for descriptor, _ in events:
                if descriptor in self.asking:
                    self._answered(descriptor)
                else:
                    self._connected(descriptor)
        return self.report

    def _resolver(self, server: str) -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        made.connect((server, 53))
        self.epoll.register(made, select.EPOLLIN)
        return made

    def _ask(self, resolver: socket.socket) -> None:
        if self.next == len(self.queries):
            self.asking.pop(resolver.fileno(), None)
            self.epoll.unregister(resolver)
            return
        index, self.next = self.next, self.next + 1
        self.report[index]["knock_port"] = self._knock(self.addresses[index])
        self.asking[resolver.fileno()] = (resolver, index, self._stream())
        resolver.send(self.queries[index])

    def _knock(self, address: str) -> int:
        """A SYN that must not get through; returns the port it came from."""
        with self._stream() as stream:
            stream.connect_ex((address, self.port))
            return int(stream.getsockname()[1])

    def _answered(self, descriptor: int) -> None:
        resolver, index, stream = self.asking[descriptor]
        answer = resolver.recv(4096)
        # The SYN leaves here. The one A record of the answer is at its end.
        code = stream.connect_ex((socket.inet_ntoa(answer[-4:]), self.port))
        self.report[index] |= {
            "answer": answer.hex(),
            "port": stream.getsockname()[1],
            "error": errno.errorcode.get(code, code),
        }
        self.connecting[stream.fileno()] = (stream, index)
        self.epoll.register(stream, select.EPOLLOUT)
        self._ask(resolver)

    def _connected(self, descriptor: int) -> None:
        stream, index = self.connecting.pop(descriptor)
        code = stream.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.report[index]["error"] = errno.errorcode.get(code, "none")
        self.epoll.unregister(stream)
        stream.close()

    @staticmethod
    def _stream() -> socket.socket:
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        return made


def main() -> int:
    json.dump(Client(json.load(sys.stdin)).run(), sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
