"""The lab's own DNS server: `python -m lab.world.dns`.

Scripted, since tests need answers that no ordinary server gives: a name that hands out its addresses one
at a time, late, truncated or refused answers, records that change under a running lab, every question
counted. The rest is as an
authoritative server does it: a CNAME chain in one answer, NXDOMAIN and NODATA with SOA, the question
echoed byte for byte (0x20 case), EDNS answered with EDNS, UDP answers that do not fit truncated with the
question kept (dnslib's own truncation drops it, and forwarders then drop the answer), many queries on one
TCP connection.

The records file is JSON and re-read when it changes; a broken one is reported and the old records stay.
The query log has one JSON object a line, written before the answer is sent, so that a test that got its
answer can count.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import TYPE_CHECKING

import dnslib
import dnslib.server

from lab.world import zone
from lab.world.ready import say_ready

if TYPE_CHECKING:
    from lab.spec.topology import InternetName

UDP_SIZE_BYTES = 1232
"""What this server accepts and sends over UDP (DNS flag day 2020); 512 to a client without EDNS."""


def records_text(names: Mapping[str, InternetName]) -> str:
    """The records file (JSON) for `names`. Write it atomically (temporary file, rename): it is re-read."""
    records = {name: value.model_dump(mode="json") for name, value in names.items()}
    return json.dumps({"version": 1, "names": records}, indent=1) + "\n"


def command(
    *,
    records: Path,
    listen: Sequence[IPv4Address],
    query_log: Path,
    port: int = 53,
    ready_fd: int | None = None,
) -> list[str]:
    """argv without the interpreter: `[*python, *dns.command(…)]`.

    Writes one byte to `ready_fd` when it listens.
    """
    addresses = [argument for address in listen for argument in ("--listen", str(address))]
    ready = [] if ready_fd is None else ["--ready-fd", str(ready_fd)]
    files = ["--records", str(records), "--query-log", str(query_log), "--port", str(port)]
    return ["-m", "lab.world.dns", *files, *addresses, *ready]


class Records:
    """The records file, as it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._seen: tuple[int, int, int] | None = None
        self._zone = zone.Zone.from_json(path.read_text())
        self._turns: dict[str, int] = {}

    def lookup(self, name: str, qtype: int) -> zone.Answer:
        with self._lock:
            self._refresh()
            return self._zone.lookup(name, qtype, self._turns)

    def _refresh(self) -> None:
        try:
            status = self._path.stat()
            now = (status.st_ino, status.st_mtime_ns, status.st_size)
            if now == self._seen:
                return
            self._seen = now
            self._zone = zone.Zone.from_json(self._path.read_text())
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            print(f"records file {self._path} not taken: {error!r}", file=sys.stderr, flush=True)


class QueryLog:
    """One line per query, in the file before the answer leaves."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, request: dnslib.DNSRecord, handler: dnslib.server.DNSHandler, rcode: int) -> None:
        entry = {
            "time": round(time.time(), 6),
            "client": handler.client_address[0],
            "client_port": handler.client_address[1],
            "transport": handler.protocol,
            "id": request.header.id,
            "name": str(request.q.qname),
            "type": str(dnslib.QTYPE.get(request.q.qtype, request.q.qtype)),
            "rcode": str(dnslib.RCODE.get(rcode, rcode)),
        }
        os.write(self._descriptor, json.dumps(entry).encode() + b"\n")


class Resolver(dnslib.server.BaseResolver):  # type: ignore[misc]
    """From a question to a whole reply."""

    def __init__(self, records: Records, log: QueryLog) -> None:
        self._records = records
        self._log = log

    def resolve(self, request: dnslib.DNSRecord, handler: dnslib.server.DNSHandler) -> dnslib.DNSRecord:
        reply = request.reply(ra=0)
        answer = self._records.lookup(str(request.q.qname), request.q.qtype)
        reply.header.rcode = answer.rcode
        owner = request.q.qname
        for record in answer.records:
            reply.add_answer(_resource(record, owner))
            owner = dnslib.DNSLabel(record.data) if record.type == "CNAME" else owner
        if answer.soa_owner:
            reply.add_auth(_soa(answer.soa_owner))
        if edns_size(request) is not None:
            reply.add_ar(dnslib.EDNS0(udp_len=UDP_SIZE_BYTES))
        reply.header.tc = int(answer.truncate and handler.protocol == "udp")
        self._log.write(request, handler, answer.rcode)
        time.sleep(answer.delay_s)  # in the thread of this one query
        return reply


class Handler(dnslib.server.DNSHandler):  # type: ignore[misc]
    """dnslib's handler, plus many queries per TCP connection, FORMERR, truncation with the question."""

    def handle(self) -> None:
        if self.server.socket_type == socket.SOCK_DGRAM:
            self.protocol = "udp"
            packet, sock = self.request
            if reply := self.get_reply(packet):
                sock.sendto(reply, self.client_address)
            return
        self.protocol = "tcp"
        while (head := self._exactly(2)) and (packet := self._exactly(struct.unpack("!H", head)[0])):
            if not (reply := self.get_reply(packet)):
                return
            self.request.sendall(struct.pack("!H", len(reply)) + reply)

    def get_reply(self, data: bytes) -> bytes:
        try:
            request = dnslib.DNSRecord.parse(data)
            if len(request.questions) != 1:
                return format_error(data)
        except (dnslib.DNSError, ValueError):
            return format_error(data)
        reply = self.server.resolver.resolve(request, self)
        packet: bytes = reply.pack()
        if reply.header.tc:
            return _truncated(reply)
        limit = min(max(edns_size(request) or 512, 512), UDP_SIZE_BYTES)
        return packet if self.protocol == "tcp" or len(packet) <= limit else _truncated(reply)

    def _exactly(self, size: int) -> bytes:
        """`size` bytes of the connection; empty when it ends before."""
        received = b""
        while len(received) < size:
            if not (part := self.request.recv(size - len(received))):
                return b""
            received += part
        return received


def edns_size(request: dnslib.DNSRecord) -> int | None:
    """The UDP size in the query's OPT record; None without one."""
    return next((record.rclass for record in request.ar if record.rtype == dnslib.QTYPE.OPT), None)


def format_error(packet: bytes) -> bytes:
    """FORMERR with the asker's ID and no question; empty (no answer) where there is no header or no query."""
    if len(packet) < 12 or packet[2] & 0x80:
        return b""
    return packet[:2] + bytes([0x80 | packet[2] & 0x79, 1]) + bytes(8)


def _truncated(reply: dnslib.DNSRecord) -> bytes:
    reply.header.tc = 1
    reply.rr, reply.auth = [], []
    packed: bytes = reply.pack()
    return packed


def _resource(record: zone.Record, owner: dnslib.DNSLabel) -> dnslib.RR:
    if kind := {"A": dnslib.A, "AAAA": dnslib.AAAA, "CNAME": dnslib.CNAME}.get(record.type):
        data = kind(record.data)
    else:
        data = dnslib.RR.fromZone(f"x. 60 IN {record.type} {record.data}")[0].rdata
    return dnslib.RR(owner, getattr(dnslib.QTYPE, record.type), rdata=data, ttl=record.ttl_s)


def _soa(owner: str) -> dnslib.RR:
    times = (1, 3600, 600, 86_400, zone.NEGATIVE_TTL_S)
    above = owner.lstrip(".")  # of the root nothing
    data = dnslib.SOA(f"ns.{above}", f"hostmaster.{above}", times)
    return dnslib.RR(owner, dnslib.QTYPE.SOA, rdata=data, ttl=zone.NEGATIVE_TTL_S)


def serve(records: Path, listen: Sequence[str], port: int, query_log: Path) -> list[dnslib.server.DNSServer]:
    """Servers on UDP and TCP of every address, running in threads of their own."""
    resolver = Resolver(Records(records), QueryLog(query_log))
    silent = dnslib.server.DNSLogger(log="", prefix=False, logf=lambda _: None)
    servers = [
        dnslib.server.DNSServer(resolver, address=address, port=port, tcp=tcp, logger=silent, handler=Handler)
        for address in listen
        for tcp in (False, True)
    ]
    for server in servers:
        server.start_thread()
    return servers


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="lab.world.dns", description="The lab's Internet DNS server.")
    parser.add_argument(
        "--records", type=Path, required=True, help="JSON file of names; re-read when it changes"
    )
    parser.add_argument("--listen", action="append", required=True, help="address to listen on (repeatable)")
    parser.add_argument("--port", type=int, default=53)
    parser.add_argument(
        "--query-log", type=Path, required=True, help="one JSON line per query is appended here"
    )
    parser.add_argument("--ready-fd", type=int, help="descriptor that gets a byte when the server listens")
    arguments = parser.parse_args(argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    serve(arguments.records, arguments.listen, arguments.port, arguments.query_log)
    say_ready(arguments.ready_fd)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    return 0


if __name__ == "__main__":
    sys.exit(main())
