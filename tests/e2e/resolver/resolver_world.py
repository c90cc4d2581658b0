"""A pod, a node and a DNS server as three namespaces, with every peer of the resolver played by the test.

The test holds the sockets: it asks as the pod, answers as the DNS server, and is the agent that streams
policy and confirms mappings. Only the resolver and the kernel are real. The rules are the smallest that
redirect (the `acns` ruleset has tests of its own).
"""

from __future__ import annotations

import contextlib
import ctypes
import http.client
import json
import os
import queue
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rrset
import grpc

from acns import settings
from acns.api import fqdndata_pb2 as pb
from acns.api import fqdndata_pb2_grpc as rpc
from acns.datapath import constants, rules

from ...waiting import until as until

POD, SERVER, OTHER_SERVER, GONE_SERVER = "10.244.0.5", "10.96.0.10", "10.96.0.11", "10.96.0.12"
NODE_SERVER = "172.18.0.1"  # one of the node itself
PORT = 10053
ENDPOINT, POD_IDENTITY, DNS_IDENTITY = 7, 4321, 999
WAIT_S = 5.0
START_S = 30.0  # a process reads its imports, on a machine that may have other things to do
QUIET_S = 0.15  # how long nothing must come where nothing may come

RULES = f"""
table inet x {{
  set pods {{ type ipv4_addr; elements = {{ {POD} }} }}
  chain raw_pre {{ type filter hook prerouting priority raw; policy accept;
    ip saddr @pods meta l4proto {{tcp,udp}} th dport 53 notrack
  }}
  chain tp {{ type filter hook prerouting priority mangle; policy accept;
    ip saddr @pods udp dport 53 tproxy ip to 127.0.0.1:{PORT} meta mark set 0x200 accept
    ip saddr @pods tcp dport 53 tproxy ip to 127.0.0.1:{PORT} meta mark set 0x200 accept
    ip saddr @pods meta l4proto {{tcp,udp}} th dport 53 drop
  }}
  chain raw_out {{ type filter hook output priority raw; policy accept;
    ip daddr @pods meta mark and 0xf00 == 0xb00 notrack
    ip daddr @pods meta mark and 0xf00 != 0xb00 counter comment "answer without the mark"
  }}
}}
"""

T = TypeVar("T")
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace that lives as long as its sleeping process."""

    def __init__(self) -> None:
        # It ends with us even where we are killed: nobody is left to stop it then.
        until_our_end = ("setpriv", "--pdeathsig", "KILL", "sleep", "1000")
        self.process = subprocess.Popen(["unshare", "--net", *until_our_end])
        own = os.stat("/proc/self/ns/net").st_ino
        until(lambda: os.stat(f"/proc/{self.process.pid}/ns/net").st_ino != own, "namespace")
        self.command = ["nsenter", f"--net=/proc/{self.process.pid}/ns/net"]
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *argv: str, text: str | None = None) -> str:
        done = subprocess.run([*self.command, *argv], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (argv, done.stderr)
        return done.stdout

    def inside(self, make: Callable[[], T]) -> T:
        """`make()` in a thread that has entered the namespace: sockets made there belong to it."""

        def enter() -> T:
            with open(f"/proc/{self.process.pid}/ns/net") as namespace:
                assert _libc.setns(namespace.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            return make()

        with futures.ThreadPoolExecutor(1) as thread:
            return thread.submit(enter).result()

    def udp(self, address: str = "", port: int = 0) -> socket.socket:
        def make() -> socket.socket:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((address, port))
            made.settimeout(WAIT_S)
            return made

        return self.inside(make)

    def listen(self, address: str, port: int) -> socket.socket:
        def make() -> socket.socket:
            made = socket.create_server((address, port))
            made.settimeout(WAIT_S)
            return made

        return self.inside(make)

    def connect(self, address: str, port: int = 53, source: tuple[str, int] | None = None) -> socket.socket:
        return self.inside(
            lambda: socket.create_connection((address, port), timeout=WAIT_S, source_address=source)
        )

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


class World:
    """The three namespaces, wired; redirection loaded."""

    def __init__(self) -> None:
        self.pod, self.node, self.dns = Namespace(), Namespace(), Namespace()
        self._link(self.pod, "vethpod", "10.244.0.1/24", f"{POD}/24", "10.244.0.1")
        self._link(self.dns, "vethdns", "172.18.0.1/24", "172.18.0.9/24", "172.18.0.1")
        for address in (SERVER, OTHER_SERVER, GONE_SERVER):
            self.dns.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        self.node.run("ip", "route", "add", "10.96.0.0/24", "via", "172.18.0.9")
        self.node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.node.run("nft", "-f", "-", text=RULES)
        self.node.run("ip", "rule", "add", "fwmark", "0x200/0xf00", "lookup", "2005", "pref", "9")
        self.node.run("ip", "route", "add", "local", "default", "dev", "lo", "table", "2005")

    def divert_answers(self) -> None:
        """For transparent mode: by the ruleset's very rule. And a way back from the server to the pod."""
        self.node.run("nft", "add", "rule", "inet", "x", "tp", rules.answers_a_socket(constants.MARK_AS_POD))
        self.dns.run("ip", "route", "add", "10.244.0.0/24", "via", NODE_SERVER)

    def sockets_as_pod(self) -> int:
        """UDP sockets of the node's that ask with the pod's address."""
        return len(self.node.run("ss", "-Hun", "src", POD).splitlines())

    def _link(
        self, inner: Namespace, name: str, outer_address: str, inner_address: str, gateway: str
    ) -> None:
        self.node.run(
            "ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", str(inner.process.pid)
        )
        self.node.run("ip", "address", "add", outer_address, "dev", name)
        self.node.run("ip", "link", "set", name, "up")
        inner.run("ip", "address", "add", inner_address, "dev", "eth0")
        inner.run("ip", "link", "set", "eth0", "up")
        inner.run("ip", "route", "add", "default", "via", gateway)

    def end(self) -> None:
        for namespace in (self.pod, self.node, self.dns):
            namespace.end()


# --- the agent, scripted -------------------------------------------------------------------------------


Behaviour = Callable[[pb.FQDNMapping, grpc.ServicerContext], pb.UpdateMappingResponse]


def confirm(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
    return pb.UpdateMappingResponse(response=pb.RESPONSE_CODE_NO_ERROR)


class ScriptedAgent(rpc.FQDNDataServicer):
    """FQDNData as the contract says, with what it does to a mapping in the test's hands."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.behaviour: Behaviour = confirm
        self.mappings: queue.Queue[pb.FQDNMapping] = queue.Queue()
        self.acks: queue.Queue[pb.PolicyStateResponse] = queue.Queue()
        self.streams = 0
        self._changed = threading.Condition()
        self._version = 0
        self._latest = pb.PolicyState()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        rpc.add_FQDNDataServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{self.path}")
        self._server.start()

    def stop(self) -> None:
        """As a process that dies: streams break, the socket goes."""
        if self._server:
            self._server.stop(None).wait()
            self._server = None

    def publish(self, state: pb.PolicyState) -> None:
        with self._changed:
            self._latest = state
            self._version += 1
            self._changed.notify_all()

    def take_ack(self) -> pb.PolicyStateResponse:
        return self.acks.get(timeout=WAIT_S)

    def take_mapping(self) -> pb.FQDNMapping:
        return self.mappings.get(timeout=WAIT_S)

    def StreamPolicyState(
        self, request_iterator: Any, context: grpc.ServicerContext
    ) -> Iterator[pb.PolicyState]:
        self.streams += 1
        sent = 0
        while context.is_active():
            with self._changed:
                if self._version == sent:
                    self._changed.wait(timeout=0.1)
                state, version = self._latest, self._version
            if version == sent or not context.is_active():
                continue
            sent = version
            yield state
            try:
                self.acks.put(next(request_iterator))
            except (StopIteration, grpc.RpcError):
                return

    def UpdateMappingRequest(
        self, request: pb.FQDNMapping, context: grpc.ServicerContext
    ) -> pb.UpdateMappingResponse:
        self.mappings.put(request)
        return self.behaviour(request, context)


def policy(*patterns: str, endpoint: int = ENDPOINT, request_id: str = "one") -> pb.PolicyState:
    """The pod may ask SERVER, GONE_SERVER and NODE_SERVER, under one identity, for these names."""
    rule = pb.DNSPolicy(source_endpoint_id=endpoint, dns_pattern=patterns)
    for protocol in (6, 17):
        rule.dns_servers.add(dns_server_identity=DNS_IDENTITY, dns_server_port=53, dns_server_proto=protocol)
    state = pb.PolicyState(request_id=request_id, egress_l7_dns_policy=[rule] if patterns else [])
    pods = state.identity_to_endpoint_mapping.add(identity=POD_IDENTITY)
    pods.endpoint_info.add(id=ENDPOINT, ip=[socket.inet_aton(POD)])
    servers = state.identity_to_prefix_mapping.add(identity=DNS_IDENTITY)
    known = (SERVER, GONE_SERVER, NODE_SERVER)
    servers.prefix.extend(socket.inet_aton(address) + b"\x20" for address in known)
    return state


# --- the resolver, real --------------------------------------------------------------------------------


@dataclass
class Resolver:
    process: subprocess.Popen[bytes]
    http_socket: Path
    log_file: Path
    journal_file: Path

    def get(self, path: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("localhost", timeout=WAIT_S)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(WAIT_S)
        try:
            connection.sock.connect(str(self.http_socket))
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (FileNotFoundError, ConnectionRefusedError):
            return 0, ""
        finally:
            connection.close()

    def wait_ready(self) -> None:
        until(lambda: self.get("/readyz")[0] == 200, f"ready; log:\n{self.log_file.read_text()}", START_S)

    def metric(self, line_start: str) -> float:
        lines = [line for line in self.get("/metrics")[1].splitlines() if line.startswith(line_start)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)

    def journal(self, event: str) -> list[dict[str, Any]]:
        lines = map(json.loads, self.journal_file.read_text().splitlines())
        return [line for line in lines if line["event"] == event]

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=WAIT_S)


@dataclass
class Bench:
    """One test's set-up: world, agent, resolver, and the sockets that the test plays with."""

    world: World
    agent: ScriptedAgent
    folder: Path
    resolver: Resolver = field(init=False)
    started_by: tuple[str, ...] = ()
    """A program that starts the resolver, with its arguments."""
    _cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self, **changed: object) -> Resolver:
        """Start the resolver, with settings that differ from the defaults."""
        self.resolver = Resolver(
            process=None,  # type: ignore[arg-type]
            http_socket=self.folder / "http.sock",
            log_file=self.folder / "resolver.log",
            journal_file=self.folder / "journal.jsonl",
        )
        path = self.folder / "resolver.toml"
        values: dict[str, Any] = {
            "fqdndata": f"unix:{self.agent.path}",
            "http_socket": str(self.resolver.http_socket),
            "listen_port": PORT,
            "takeover": False,
            "handover_socket": str(self.folder / "handover.sock"),
            "state_dir": str(self.folder / "state"),
            "log_file": str(self.resolver.log_file),
            "journal_file": str(self.resolver.journal_file),
            **changed,
        }
        path.write_text(settings.render(values))
        self.resolver.log_file.touch()
        self.resolver.process = subprocess.Popen(
            [
                *self.world.node.command,
                *self.started_by,
                sys.executable,
                "-m",
                "acns.resolver",
                "--settings",
                str(path),
            ]
        )
        return self.resolver

    def serving(self, *patterns: str, **changed: object) -> Bench:
        """The agent up with this policy, the resolver ready."""
        self.agent.publish(policy(*patterns))
        self.agent.start()
        self.start(**changed)
        self.resolver.wait_ready()
        assert self.agent.take_ack().response == pb.RESPONSE_CODE_NO_ERROR
        until(lambda: '"agent_connected": true' in self.resolver.get("/readyz")[1], "connected")
        return self

    def keep(self, made: socket.socket) -> socket.socket:
        """`made`, closed at the end of the test."""
        return self._cleanup.enter_context(made)

    def pod_socket(self) -> socket.socket:
        return self.keep(self.world.pod.udp())

    def server_socket(self, address: str = SERVER) -> socket.socket:
        return self.keep(self.world.dns.udp(address, 53))

    def end(self) -> None:
        self._cleanup.close()
        if hasattr(self, "resolver") and self.resolver.process.poll() is None:
            self.resolver.process.kill()
            self.resolver.process.wait()
        self.agent.stop()


# --- messages ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def stopped(bench: Bench) -> Iterator[None]:
    """What comes meanwhile is there all at once afterwards."""
    bench.resolver.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        bench.resolver.process.send_signal(signal.SIGCONT)


def padded_query(name: str, ident: int, octets: int) -> bytes:
    """A TXT query with an EDNS option of so many octets that says nothing (RFC 7830)."""
    asked = dns.message.make_query(name, "TXT", use_edns=0, id=ident)
    asked.use_edns(0, options=[dns.edns.GenericOption(dns.edns.OptionType.PADDING, bytes(octets))])
    return asked.to_wire(max_size=65_535)


def query(name: str, rdtype: str = "A", ident: int = 0x1234) -> bytes:
    made = dns.message.make_query(dns.name.from_text(name), rdtype)
    made.id = ident
    return made.to_wire()


def answer(asked: bytes, *addresses: str, ttl: int = 300) -> bytes:
    """A server's answer to a query as it arrived there."""
    message = dns.message.from_wire(asked)
    response = dns.message.make_response(message)
    if addresses:
        response.answer = [dns.rrset.from_text(message.question[0].name, ttl, "IN", "A", *addresses)]
    return response.to_wire()


def rcode(packet: bytes) -> int:
    return packet[3] & 0xF


def send_framed(stream: socket.socket, *packets: bytes) -> None:
    stream.sendall(b"".join(struct.pack("!H", len(packet)) + packet for packet in packets))


def receive_framed(stream: socket.socket) -> bytes:
    (length,) = struct.unpack("!H", _exactly(stream, 2))
    return _exactly(stream, length)


def _exactly(stream: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        assert more, "closed"
        data += more
    return data


def quiet(receiver: socket.socket, for_s: float = QUIET_S) -> bool:
    """Whether nothing comes."""
    receiver.settimeout(for_s)
    try:
        receiver.recv(1, socket.MSG_PEEK)
    except TimeoutError:
        return True
    else:
        return False
    finally:
        receiver.settimeout(WAIT_S)


class Gate:
    """A behaviour that waits for the test's word before it confirms."""

    def __init__(self) -> None:
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def __call__(self, mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
        self._open.wait(WAIT_S)
        return confirm(mapping, context)
