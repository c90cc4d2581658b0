"""A node of the recorded kind cluster: links and sysctls as recorded, the recorded rules of kube-proxy, our
agents beside them. What is not the node (the other node, its pods, the Internet) is one namespace more.

Differences from the recording: the containers' own DNS server (127.0.0.11, on ports as recorded) is ours.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rrset

from acns import settings
from lab.capture.tap import Tap

from ..resolver.resolver_world import Namespace, until

DATA = Path(__file__).parents[2] / "data" / "kind-node"

CLIENT, FREE, NODE, GATEWAY = "10.244.1.3", "10.244.1.4", "172.18.0.2", "172.18.0.1"
CONTROL_PLANE, DNS_POD, KUBE_DNS, WEB_POD = "172.18.0.3", "10.244.0.3", "10.96.0.10", "10.244.0.2"
CONTAINERS_DNS = ("127.0.0.11", 48784)
NO_ENDPOINTS = ("10.96.98.37", 80)
PATIENCE_S = 2.0
START_S = 90.0  # a machine may have other things to do
EXT, ADDRESS = "ext.test.", "198.51.100.7"

SYSCTLS = (
    "net.ipv4.ip_forward=1",
    "net.ipv4.conf.all.rp_filter=1",
    "net.ipv4.conf.default.rp_filter=1",
    "net.ipv4.conf.all.route_localnet=1",
    "net.ipv6.conf.all.disable_ipv6=1",
    "net.ipv6.conf.default.disable_ipv6=1",
)
RULES = {
    "nftables": ("kube-proxy-nftables.txt", ("nft", "-f", "-")),
    "iptables": ("kube-proxy-iptables.txt", ("iptables-nft-restore",)),
}


class KindNode:
    """The namespaces, and the agents on the node."""

    def __init__(self, mode: str, folder: Path) -> None:
        self.node, self.rest = Namespace(), Namespace()
        self.pods = {CLIENT: Namespace(), FREE: Namespace()}
        self.folder = folder
        self._agents: dict[str, subprocess.Popen[bytes]] = {}
        self._serving = contextlib.ExitStack()
        self.asked: list[tuple[str, str, str]] = []
        """(server's address, client's address, transport) of what the DNS servers were asked."""
        self._wire()
        file, command = RULES[mode]
        self.node.run(*command, text=(DATA / file).read_text())
        for where, address in ((self.rest, DNS_POD), (self.node, CONTAINERS_DNS[0])):
            self._serve_dns(where, address)

    def _wire(self) -> None:
        for one in SYSCTLS:
            self.node.run("sysctl", "-qw", one)
        self._link(self.rest, "eth0", "eth0")
        self.node.run("ip", "address", "add", f"{NODE}/16", "dev", "eth0")
        for address in (f"{GATEWAY}/16", f"{CONTROL_PLANE}/16"):
            self.rest.run("ip", "address", "add", address, "dev", "eth0")
        for address in (DNS_POD, WEB_POD, ADDRESS):
            self.rest.run("ip", "address", "add", f"{address}/32", "dev", "lo")
        self.rest.run("ip", "route", "add", "10.244.1.0/24", "via", NODE)
        self.node.run("ip", "route", "add", "default", "via", GATEWAY)
        self.node.run("ip", "route", "add", "10.244.0.0/24", "via", CONTROL_PLANE)
        for number, (address, pod) in enumerate(self.pods.items()):
            self.add_pod(pod, address, f"veth{number:08x}")

    def add_pod(self, pod: Namespace, address: str, name: str) -> None:
        """As the plugin `ptp` does it: a route of its own, the gateway's address on each veth."""
        self._link(pod, name, "eth0")
        self.node.run("ip", "address", "add", "10.244.1.1/32", "dev", name)
        self.node.run("ip", "route", "add", address, "dev", name, "scope", "host")
        pod.run("ip", "address", "add", f"{address}/24", "dev", "eth0", "noprefixroute")
        pod.run("ip", "route", "add", "10.244.1.1", "dev", "eth0", "scope", "link")
        pod.run("ip", "route", "add", "default", "via", "10.244.1.1")

    def _link(self, other: Namespace, ours: str, theirs: str) -> None:
        peer = ("peer", "name", theirs, "netns", str(other.process.pid))
        self.node.run("ip", "link", "add", ours, "type", "veth", *peer)
        self.node.run("ip", "link", "set", ours, "up")
        other.run("ip", "link", "set", theirs, "up")

    # --- agents ------------------------------------------------------------------------------------------

    def start(self, **shim: object) -> None:
        """Both agents, until they are ready."""
        manifests = self.folder / "manifests"
        manifests.mkdir(exist_ok=True)
        (manifests / "cluster.yaml").write_text((DATA / "cluster.yaml").read_text())
        self._start(
            "shim",
            node="demo-worker",
            manifests=str(manifests),
            state_dir=str(self.folder / "shim"),
            fqdndata_socket=str(self.folder / "fqdndata.sock"),
            http_socket=str(self.folder / "shim-http.sock"),
            **shim,
        )
        self._start(
            "resolver",
            fqdndata=f"unix:{self.folder / 'fqdndata.sock'}",
            state_dir=str(self.folder / "resolver"),
            shim_ledger=str(self.folder / "shim" / "ledger.log"),
            http_socket=str(self.folder / "resolver-http.sock"),
            journal_file=str(self.folder / "resolver-journal.jsonl"),
            handover_socket="",
        )
        until(lambda: "chain f_" in self.node.run("nft", "list", "ruleset"), "rules", START_S)
        until(lambda: ":10053" in self.node.run("ss", "-Hlun"), "listening", START_S)

    def _start(self, agent: str, **values: object) -> None:
        file = self.folder / f"{agent}.toml"
        file.write_text(settings.render({"log_file": str(self.folder / f"{agent}.log"), **values}))
        command = [*self.node.command, sys.executable, "-m", f"acns.{agent}", "--settings", str(file)]
        self._agents[agent] = subprocess.Popen(command)

    def stop(self, agent: str) -> None:
        """As by SIGKILL; what is in the kernel stays."""
        process = self._agents.pop(agent)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        process.wait()
        until(lambda: not any(Path(f"/proc/{child}").exists() for child in children), "its writer ends too")

    def counted(self, name: str) -> int:
        """Packets of a counter of ours."""
        words = self.node.run("nft", "list", "counter", "inet", "acns", name).split()
        return int(words[words.index("packets") + 1])

    # --- traffic -----------------------------------------------------------------------------------------

    def ask(self, pod: str, server: str, name: str = EXT, *, tcp: bool = False) -> dns.message.Message:
        """What the pod's query is answered. Raises dns.exception.Timeout."""
        query = dns.message.make_query(name, "A")
        where = self.pods[pod]
        if tcp:
            with where.connect(server, 53) as stream:
                return dns.query.tcp(query, server, sock=stream, timeout=PATIENCE_S)
        with where.udp() as one:
            one.setblocking(False)
            return dns.query.udp(query, server, sock=one, timeout=PATIENCE_S)

    def connects(self, pod: str, address: str, port: int, within_s: float = 1.5) -> bool:
        """Whether the connection comes about."""

        def attempt() -> bool:
            with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=within_s):
                return True
            return False

        return self.pods[pod].inside(attempt)

    @contextlib.contextmanager
    def listening(self, where: Namespace, address: str, port: int) -> Iterator[None]:
        with where.listen(address, port):
            yield

    @contextlib.contextmanager
    def tap(self) -> Iterator[Tap]:
        """All that crosses the node's uplink."""
        with open(f"/proc/{self.rest.process.pid}/ns/net") as file, Tap(file.fileno(), "eth0") as tap:
            yield tap

    def _serve_dns(self, where: Namespace, address: str) -> None:
        port = 53 if where is self.rest else CONTAINERS_DNS[1]
        datagrams, listener = (
            where.udp(address, port),
            where.listen(address, 53 if where is self.rest else 34253),
        )
        for one in (datagrams, listener):
            one.settimeout(None)
            self._serving.callback(_end, one)

        def answer_datagrams() -> None:
            with contextlib.suppress(OSError):
                while True:
                    data, client = datagrams.recvfrom(512)
                    if not data:
                        return
                    self.asked.append((address, client[0], "udp"))
                    datagrams.sendto(_answer(dns.message.from_wire(data)).to_wire(), client)

        def answer_streams() -> None:
            with contextlib.suppress(OSError):
                while True:
                    stream, client = listener.accept()
                    with stream:
                        query, _ = dns.query.receive_tcp(stream)
                        self.asked.append((address, client[0], "tcp"))
                        dns.query.send_tcp(stream, _answer(query))

        for work in (answer_datagrams, answer_streams):
            thread = threading.Thread(target=work, daemon=True)
            thread.start()
            self._serving.callback(thread.join, 5)
            self._serving.callback(_end, datagrams if work is answer_datagrams else listener)

    def end(self) -> None:
        for agent in list(self._agents):
            self.stop(agent)
        self._serving.close()
        for namespace in (self.node, self.rest, *self.pods.values()):
            namespace.end()


def _end(one: socket.socket) -> None:
    """Whoever waits there is woken."""
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()


def _answer(query: dns.message.Message) -> dns.message.Message:
    reply = dns.message.make_response(query)
    reply.answer.append(dns.rrset.from_text(query.question[0].name, 60, "IN", "A", ADDRESS))
    return reply
