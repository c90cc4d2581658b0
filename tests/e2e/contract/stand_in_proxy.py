"""A stand-in for Cilium's standalone DNS proxy, as an external program: it behaves as that one is described.

It connects over TCP, and late; it binds its port on 127.0.0.1 only after the first snapshot; it leaves
request_id empty; it reports every query with ttl 4294967295 and every answer with its addresses as text; its
sockets have the proxy's marks, towards the servers with the pod's identity in the upper half; it answers UDP
from a raw socket with the server's address. It knows nothing of this project.
"""

from __future__ import annotations

import argparse
import fnmatch
import queue
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from concurrent import futures

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import grpc
import plain_wire as wire

IP_PKTINFO, IP_TRANSPARENT, IP_RECVORIGDSTADDR = 8, 19, 20
FROM_PROXY = 0xB00
WORKERS = 16


class Policy:
    """The newest snapshot."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._acks: queue.Queue[bytes] = queue.Queue()
        self._snapshots = channel.stream_stream(wire.STREAM)(iter(self._acks.get, None))
        self.newest = self._next()
        threading.Thread(target=self._follow, daemon=True).start()

    def allows(self, pod: str, server: tuple[str, int], protocol: int, name: str) -> bool:
        found = self.newest.patterns_for(pod, server[0], server[1], protocol)
        return any(
            not patterns or any(fnmatch.fnmatch(name.lower(), one) for one in patterns) for patterns in found
        )

    def _next(self) -> wire.Snapshot:
        snapshot = wire.Snapshot.decoded(next(self._snapshots))
        self._acks.put(wire.acknowledgement())
        print(f"snapshot with {len(snapshot.rules)} rules", flush=True)
        return snapshot

    def _follow(self) -> None:
        while True:
            self.newest = self._next()


class Proxy:
    """What becomes of a query, whatever it came over."""

    def __init__(self, policy: Policy, channel: grpc.Channel) -> None:
        self._policy = policy
        self._update = channel.unary_unary(wire.UPDATE)

    def answer(self, packet: bytes, pod: str, server: tuple[str, int], protocol: int) -> bytes:
        message = dns.message.from_wire(packet)
        name = message.question[0].name.to_text()
        allowed = self._policy.allows(pod, server, protocol, name)
        self._report(name, pod, wire.NEVER)
        if not allowed:
            refusal = dns.message.make_response(message)
            refusal.set_rcode(dns.rcode.REFUSED)
            return refusal.to_wire()
        ask = self._ask_tcp if protocol == wire.TCP else self._ask_udp
        answer = ask(packet, pod, server)
        self._learn(name, pod, dns.message.from_wire(answer))
        return answer

    def _learn(self, name: str, pod: str, answer: dns.message.Message) -> None:
        sets = [one for one in answer.answer if one.rdtype == dns.rdatatype.A]
        addresses = [record.address for one in sets for record in one]
        ttl = min((one.ttl for one in sets), default=0)
        self._report(name, pod, ttl, *addresses, rcode=answer.rcode())

    def _report(self, name: str, pod: str, ttl: int, *addresses: str, rcode: int = 0) -> None:
        report = wire.Report(
            name, wire.texts(addresses), ttl, pod.encode(), self._identity(pod), rcode, wire.METRICS_DATA
        )
        self._update(report.encoded(), timeout=5)

    def _identity(self, pod: str) -> int:
        return self._policy.newest.identity_of(pod)

    def _ask_udp(self, packet: bytes, pod: str, server: tuple[str, int]) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as upstream:
            self._prepare(upstream, pod)
            upstream.connect(server)
            upstream.send(packet)
            return upstream.recv(65_535)

    def _ask_tcp(self, packet: bytes, pod: str, server: tuple[str, int]) -> bytes:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as upstream:
            self._prepare(upstream, pod)
            upstream.connect(server)
            upstream.sendall(framed(packet))
            return next(frames(upstream))

    def _prepare(self, upstream: socket.socket, pod: str) -> None:
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, self._identity(pod) << 16 | FROM_PROXY)
        upstream.settimeout(5)


def serve_udp(proxy: Proxy, port: int) -> None:
    listener = listening(socket.SOCK_DGRAM, port)
    listener.setsockopt(socket.SOL_IP, IP_RECVORIGDSTADDR, 1)
    replies = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    replies.setsockopt(socket.SOL_IP, IP_TRANSPARENT, 1)
    replies.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, FROM_PROXY)
    pool = futures.ThreadPoolExecutor(WORKERS)

    def work(packet: bytes, pod: tuple[str, int], server: tuple[str, int]) -> None:
        answer = proxy.answer(packet, pod[0], server, wire.UDP)
        header = struct.pack("!HHHH", server[1], pod[1], 8 + len(answer), 0)
        source = struct.pack("=I4s4x", 0, socket.inet_aton(server[0]))
        replies.sendmsg([header, answer], [(socket.SOL_IP, IP_PKTINFO, source)], 0, (pod[0], 0))

    while True:
        packet, ancillary, _, pod = listener.recvmsg(65_535, socket.CMSG_SPACE(16))
        (value,) = [data for _, kind, data in ancillary if kind == IP_RECVORIGDSTADDR]
        server_port, address = struct.unpack_from("!2xH4s", value)
        pool.submit(logged(work), packet, pod, (socket.inet_ntoa(address), server_port))


def serve_tcp(proxy: Proxy, port: int) -> None:
    listener = listening(socket.SOCK_STREAM, port)
    listener.listen()
    pool = futures.ThreadPoolExecutor(WORKERS)

    def work(connection: socket.socket) -> None:
        with connection:
            connection.settimeout(5)
            pod, server = connection.getpeername()[0], connection.getsockname()
            for packet in frames(connection):
                connection.sendall(framed(proxy.answer(packet, pod, server, wire.TCP)))

    while True:
        pool.submit(logged(work), listener.accept()[0])


def listening(kind: int, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, kind)
    for level, option, value in (
        (socket.SOL_IP, IP_TRANSPARENT, 1),
        (socket.SOL_SOCKET, socket.SO_MARK, FROM_PROXY),
        (socket.SOL_SOCKET, socket.SO_REUSEADDR, 1),
        (socket.SOL_SOCKET, socket.SO_REUSEPORT, 1),
    ):
        listener.setsockopt(level, option, value)
    listener.bind(("127.0.0.1", port))
    return listener


def framed(packet: bytes) -> bytes:
    return struct.pack("!H", len(packet)) + packet


def frames(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as stream:
        while len(head := stream.read(2)) == 2:
            yield stream.read(struct.unpack("!H", head)[0])


def logged(work):  # type: ignore[no-untyped-def]
    """A pool keeps errors to itself."""

    def run(*arguments: object) -> None:
        try:
            work(*arguments)
        except Exception as error:  # noqa: BLE001 - said, and the next query is served
            print(f"error: {error!r}", file=sys.stderr, flush=True)

    return run


def connected(agent: str, every_s: float) -> tuple[grpc.Channel, Policy]:
    """The first try is late, and so is each further one."""
    while True:
        time.sleep(every_s)
        channel = grpc.insecure_channel(agent)
        try:
            return channel, Policy(channel)
        except grpc.RpcError as error:
            print(f"no policy from {agent}: {error.code().name}", flush=True)
            channel.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--agent", required=True, help="host:port of FQDNData")
    parser.add_argument("--dns-port", type=int, required=True)
    parser.add_argument("--connect-after", type=float, default=10.0, help="seconds; the real one's")
    options = parser.parse_args()
    print(f"started; connecting to {options.agent} in {options.connect_after:g} s", flush=True)
    channel, policy = connected(options.agent, options.connect_after)
    proxy = Proxy(policy, channel)
    threading.Thread(target=serve_udp, args=(proxy, options.dns_port), daemon=True).start()
    serve_tcp(proxy, options.dns_port)


if __name__ == "__main__":
    main()
