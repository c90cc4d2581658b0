"""What tests and commands hold in their hands: a pod, a node, the Internet, a process of a running lab."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from lab.kernel import netns, nft
from lab.runtime import readiness
from lab.runtime.enter import Place
from lab.runtime.supervise import READY_TIMEOUT_S, ProcessStatus, log_tail
from lab.spec.plan import NodePlan, PodPlan

Request = Callable[..., Any]
"""`request("hold", process=…)`: one request to the holder."""


@dataclass(frozen=True, slots=True)
class Response:
    """An agent's answer to `http_get`."""

    status: int
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class ProcessHandle:
    """A supervised process: `node1/shim`, `internet/dns`, `pod/default/web`."""

    name: str
    log_file: Path
    http_socket: Path | None
    _holder_pid: int
    _request: Request

    def status(self) -> ProcessStatus:
        """Its state, asked of the process now; the `pid` in it counts in the lab."""
        return ProcessStatus(**self._request("process_status", process=self.name))

    @property
    def pid(self) -> int | None:
        """Its pid on the machine; None when it does not run."""
        pidfd = self.status().pidfd
        if pidfd is None:
            return None
        try:
            text = Path(f"/proc/{self._holder_pid}/fdinfo/{pidfd}").read_text()
        except FileNotFoundError:
            return None
        # Without a pid the descriptor has been closed meanwhile, and is something else's by now.
        pid = next((int(line.split()[1]) for line in text.splitlines() if line.startswith("Pid:")), -1)
        return pid if pid > 0 else None

    @property
    def restarts(self) -> int:
        return self.status().restarts

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal. The supervisor starts the process again when it dies; see `hold`."""
        self._request("signal", process=self.name, number=int(number))

    def hold(self, number: int = signal.SIGKILL) -> None:
        """Kill it and keep it down until `start`; it is dead when this returns."""
        self._request("hold", process=self.name, number=int(number))

    def upgrade(self) -> None:
        """Have another process take its place, as a new version would; returns when that one is ready."""
        self._request("upgrade", process=self.name, timeout_s=2 * READY_TIMEOUT_S + 10)

    def start(self) -> None:
        """Let it run (again), without waiting for a back-off or for readiness."""
        self._request("start", process=self.name)

    def wait_ready(self, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Returns when it is ready; raises ProcessFailed with the last lines of its log after `timeout_s`."""
        patience_s = timeout_s + 10
        self._request("wait_ready", process=self.name, within_s=timeout_s, timeout_s=patience_s)

    def http_get(self, path: str = "/readyz", timeout_s: float = 5.0) -> Response:
        """GET from its unix socket (`/healthz`, `/readyz`, `/metrics`). OSError when it does not listen."""
        if self.http_socket is None:
            raise ValueError(f"{self.name} serves no HTTP")
        connection = _UnixHTTP(self.http_socket, timeout_s)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Response(response.status, response.read())
        finally:
            connection.close()

    def log_tail(self, lines: int = 20) -> list[str]:
        return log_tail(self.log_file, lines)


@dataclass(frozen=True, slots=True)
class Inside:
    """A place in which commands run and sockets open."""

    place: Place

    def run(
        self, argv: Sequence[str], timeout_s: float = 10.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a command there and wait; its output is text. `input=` is its stdin."""
        return self.place.run(argv, timeout_s, **options)

    def popen(self, argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
        """Start a command there; `options` are subprocess.Popen's. It dies with the lab at the latest."""
        return self.place.popen(argv, **options)

    def netns_fd(self) -> int:
        """A descriptor of its network namespace; the caller closes it. It keeps the namespace alive."""
        with netns.keeping(self.place.open()) as inside:
            return os.dup(inside.net)

    def open_socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """A socket that lives there, in the hands of the caller."""
        with netns.keeping(self.place.open()) as inside:
            return netns.open_socket(inside.net, family, kind, protocol)

    def ruleset(self) -> str:
        """All nftables rules there, as `nft list ruleset` prints them."""
        with netns.keeping(self.place.open()) as inside:
            return nft.listing(inside.net)


@dataclass(frozen=True, slots=True)
class PodHandle(Inside):
    """A pod. `iface` is its own interface, `node_iface` the other end of the veth, on its node."""

    plan: PodPlan
    iface: str = "eth0"

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def namespace(self) -> str:
        return self.plan.namespace

    @property
    def node(self) -> str:
        return self.plan.node

    @property
    def address(self) -> IPv4Address:
        return self.plan.address

    @property
    def address_v6(self) -> IPv6Address:
        return self.plan.address_v6

    @property
    def node_iface(self) -> str:
        return self.plan.node_interface


@dataclass(frozen=True, slots=True)
class NodeHandle(Inside):
    """A node and its agents."""

    plan: NodePlan
    shim: ProcessHandle
    resolver: ProcessHandle
    manifests: Path

    def is_current(self) -> bool:
        """Whether a shim that is up has read and judged every manifest, and the resolver has the result.

        An agent that is down, or says nothing of the kind, is as current as it can be.
        """
        try:
            state = self.shim.http_get("/readyz").json()
        except (OSError, http.client.HTTPException):
            return True
        return readiness.is_current(state, self.manifests) and self.has_joined() is not False

    def has_joined(self) -> bool | None:
        """Whether the resolver has a stream of its shim's policy; None where it cannot be asked.

        One that has just started, or whose shim has, may have none for a moment that no shim knows of.
        """
        try:
            return bool(self.resolver.http_get("/readyz").json().get("agent_connected", True))
        except (OSError, http.client.HTTPException, ValueError):
            return None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def address(self) -> IPv4Address:
        return self.plan.address


@dataclass(frozen=True, slots=True)
class InternetHandle(Inside):
    """The Internet's router with its servers."""

    dns: ProcessHandle
    web: ProcessHandle
    query_log: Path

    def queries(self) -> list[dict[str, Any]]:
        """Every query that has reached the Internet's DNS server, oldest first."""
        try:
            lines = self.query_log.read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return []
        # The last line may be half-written.
        return [json.loads(line) for line in lines if line.endswith("\n")]


class _UnixHTTP(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("lab", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
