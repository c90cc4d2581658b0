"""The other end of request/response tests: `python -m lab.bench.echo ADDRESS PORT` sends back what it gets.

TCP and UDP on the same port, for one long conversation and short ones beside it. Says "ready" on stdout when
it listens.
"""

from __future__ import annotations

import argparse
import socket
import threading

_BYTES = 4096
_STREAMS = 2


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.bench.echo")
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    options = parser.parse_args()
    place = (options.address, options.port)
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(place)
    with socket.create_server(place) as listener:
        for work, listened in ((_return_datagrams, datagrams), *[(_return_streams, listener)] * _STREAMS):
            threading.Thread(target=work, args=(listened,), daemon=True).start()
        print("ready", flush=True)
        threading.Event().wait()


def _return_datagrams(datagrams: socket.socket) -> None:
    while True:
        datagrams.sendto(*datagrams.recvfrom(_BYTES))


def _return_streams(listener: socket.socket) -> None:
    while True:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := connection.recv(_BYTES):
                connection.sendall(data)


if __name__ == "__main__":
    main()
