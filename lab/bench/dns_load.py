"""Load that dnsperf cannot make: `python -m lab.bench.dns_load KIND …` in a pod's namespace, JSON on stdout.

* `fresh`: each query from a socket of its own, as a pod's resolver does it, so many at once.
* `new`: each query a name that nobody asked for before. The moment its answer is there, a datagram goes to
  the address in it: whoever counts them knows whether an answer came before its address was open.
* `pods`: so many pods at once, each with its own address and interface, each at its own steady rate.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from lab.bench import dns_names
from lab.bench.dns_names import PROBE_PORT

_LOST_S: Final = 2.0
_SLOW_S: Final = 10.0
"""A new name waits for its commit, in line with others."""
_BINDTODEVICE: Final = getattr(socket, "SO_BINDTODEVICE", 25)


@dataclass(slots=True)
class Outcome:
    """What one run found. `answered`: by pod, where there are several."""

    sent: int = 0
    answered: int = 0
    wrong: int = 0
    """Answers that are none: another code than NOERROR."""
    took_s: float = 0.0
    by_pod: list[int] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return self.answered / self.took_s if self.took_s else 0.0


def query(name: str, ident: int) -> bytes:
    """A query for the A record."""
    labels = b"".join(bytes((len(label),)) + label.encode() for label in name.split("."))
    return struct.pack("!6H", ident, 0x0100, 1, 0, 0, 0) + labels + b"\0\0\1\0\1"


def fresh(server: str, names: int, at_once: int, seconds: float) -> Outcome:
    """A new socket for every query."""
    known = [query(dns_names.known(number), number) for number in range(names)]
    outcome, number = Outcome(), 0
    open_sockets: dict[int, tuple[socket.socket, float]] = {}
    poll = select.epoll()
    started = now = time.monotonic()
    while now < started + seconds or open_sockets:
        while len(open_sockets) < at_once and now < started + seconds:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.connect((server, 53))
            poll.register(made.fileno(), select.EPOLLIN)
            made.send(known[number % names])
            number += 1
            open_sockets[made.fileno()] = made, now
        for descriptor, _ in poll.poll(0.1):
            made, _ = open_sockets.pop(descriptor)
            _count(outcome, made.recv(4096))
            made.close()
        now = time.monotonic()
        for descriptor in [key for key, (_, since) in open_sockets.items() if since + _LOST_S < now]:
            open_sockets.pop(descriptor)[0].close()
    outcome.sent, outcome.took_s = number, now - started
    return outcome


def new(server: str, first: int, count: int, at_once: int) -> Outcome:
    """`count` new names, from number `first` on."""
    pod = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    pod.connect((server, 53))
    pod.settimeout(_SLOW_S)
    probe = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    outcome = Outcome()
    started = time.monotonic()

    def ask() -> None:
        if outcome.sent < count:
            pod.send(query(dns_names.new(first + outcome.sent), outcome.sent & 0xFFFF))
            outcome.sent += 1

    for _ in range(at_once):
        ask()
    while outcome.answered + outcome.wrong < outcome.sent:
        try:
            answer = pod.recv(4096)
        except TimeoutError:
            break
        if _count(outcome, answer):
            probe.sendto(b"x", (socket.inet_ntoa(answer[-4:]), PROBE_PORT))
        ask()
    outcome.took_s = time.monotonic() - started
    return outcome


def pods(server: str, addresses: list[str], rate: float, seconds: float, names: int) -> Outcome:
    """Each of these addresses asks `rate` times a second, in turn."""
    sockets = [_of_pod(number, address, server) for number, address in enumerate(addresses)]
    outcome = Outcome(by_pod=[0] * len(sockets))
    numbers = {made.fileno(): number for number, made in enumerate(sockets)}
    poll = select.epoll()
    for made in sockets:
        poll.register(made.fileno(), select.EPOLLIN)
    total, gap_s = round(len(sockets) * rate * seconds), 1 / (len(sockets) * rate)
    started = now = time.monotonic()
    last = started + total * gap_s + _LOST_S
    while outcome.answered + outcome.wrong < total and now < last:
        while outcome.sent < total and started + outcome.sent * gap_s <= now:
            name = dns_names.known(outcome.sent * 7 % names)
            sockets[outcome.sent % len(sockets)].send(query(name, outcome.sent & 0xFFFF))
            outcome.sent += 1
        for descriptor, _ in poll.poll(0.001):
            number = numbers[descriptor]
            outcome.by_pod[number] += _count(outcome, sockets[number].recv(4096))
        now = time.monotonic()
    outcome.took_s = now - started
    return outcome


def _of_pod(number: int, address: str, server: str) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, _BINDTODEVICE, dns_names.pod_interface(number).encode())
    made.bind((address, 0))
    made.connect((server, 53))
    return made


def _count(outcome: Outcome, answer: bytes) -> bool:
    good = len(answer) > 3 and not answer[3] & 0xF
    outcome.answered += good
    outcome.wrong += not good
    return good


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m lab.bench.dns_load")
    parser.add_argument("kind", choices=("fresh", "new", "pods"))
    parser.add_argument("server")
    for name, kind in (("names", int), ("first", int), ("count", int), ("at-once", int)):
        parser.add_argument(f"--{name}", type=kind, default=0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--rate", type=float, default=0.0)
    options = parser.parse_args()
    kinds: dict[str, Callable[[], Outcome]] = {
        "fresh": lambda: fresh(options.server, options.names, options.at_once, options.seconds),
        "new": lambda: new(options.server, options.first, options.count, options.at_once),
        "pods": lambda: pods(
            options.server, json.load(sys.stdin), options.rate, options.seconds, options.names
        ),
    }
    found = kinds[options.kind]()
    json.dump({name: getattr(found, name) for name in Outcome.__dataclass_fields__}, sys.stdout)


if __name__ == "__main__":
    main()
