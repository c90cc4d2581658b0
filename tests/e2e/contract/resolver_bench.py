"""A real resolver whose policy comes from a scripted agent, and whose pod and DNS servers are the test's."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from acns import settings

from ..resolver.resolver_world import PORT, Resolver, World, answer, query, rcode
from . import plain_wire as wire
from .peers import Relay, ScriptedAgent, confirm, until

POD, OTHER_POD = "10.244.0.5", "10.244.0.6"
SERVER, OTHER_SERVER = "10.96.0.10", "10.96.0.11"
ENDPOINT, OTHER_ENDPOINT, IDENTITY, DNS_IDENTITY = 7, 8, 4321, 999
FQDNDATA = ("127.0.0.1", 10095)
FORWARDED, REFUSED, SERVFAIL = 0, 5, 2


def snapshot(
    *patterns: str,
    identity: int = DNS_IDENTITY,
    prefixes: tuple[str, ...] = (f"{SERVER}/32",),
    **more: object,
) -> wire.Snapshot:
    """The pod may ask the servers in these networks for these names."""
    return wire.Snapshot(
        rules=(rule(*patterns, identity=identity),),
        endpoints={IDENTITY: {ENDPOINT: [wire.raw(POD)], OTHER_ENDPOINT: [wire.raw(OTHER_POD)]}},
        prefixes={identity: [wire.prefix(one) for one in prefixes]},
        **more,  # type: ignore[arg-type]
    )


def rule(*patterns: str, endpoint: int = ENDPOINT, identity: int = DNS_IDENTITY) -> wire.Rule:
    return wire.Rule(endpoint, patterns, ((identity, 53, wire.UDP), (identity, 53, wire.TCP)))


@dataclass
class Bench:
    """A resolver and its agent; tests that change no setting share the resolver."""

    world: World
    folder: Path
    on_tcp: bool
    agent: ScriptedAgent = field(init=False)
    resolver: Resolver = field(init=False)
    _changed: bool = True
    _starts: int = 0
    _sockets: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _cleanup: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self, published: wire.Snapshot | bytes, *, fresh: bool = False, **changed: object) -> None:
        """Back when the resolver goes by `published`; one that has just been started where it is `fresh`."""
        if fresh or changed or self._changed:
            self._start_both(published, changed)
        else:
            self.agent.acknowledgements.queue.clear()
            self.agent.publish(published)
        until(lambda: not self.agent.acknowledgements.empty(), "the policy is acknowledged")

    def _start_both(self, published: wire.Snapshot | bytes, changed: dict[str, object]) -> None:
        self.end()
        self._changed = bool(changed)
        self._starts += 1
        self.agent = ScriptedAgent(self.folder / f"agent{self._starts}.sock")
        self.agent.publish(published)
        self.agent.start()
        if self.on_tcp:
            relay = Relay(self.world.node.listen(*FQDNDATA), self._to_agent)
            self._cleanup.callback(relay.close)
        self._run_resolver(changed)
        until(lambda: self.resolver.get("/readyz")[0] == HTTPStatus.OK, "the resolver is ready")
        self.wait_connected()

    def test_is_over(self) -> None:
        """Leave nothing of one test to the next."""
        self._sockets.close()
        if not self._starts:
            return
        self.agent.behaviour = confirm
        self.agent.reports.queue.clear()
        if not self.agent.is_running or not self.agent.waits_for_acknowledgement:
            self._changed = True

    def wait_connected(self) -> None:
        until(lambda: '"agent_connected": true' in self.resolver.get("/readyz")[1], "connected")

    def outcome(self, name: str, server: str = SERVER, pod: str = POD) -> int:
        """What the pod hears about a name; a query that the server gets counts as FORWARDED."""
        with self.world.pod.udp(pod) as client, self.world.dns.udp(server, 53) as upstream:
            client.sendto(query(name), (server, 53))
            for one in (client, upstream):
                one.setblocking(False)

            def heard() -> list[int]:
                with contextlib.suppress(BlockingIOError):
                    upstream.recv(4096)
                    return [FORWARDED]
                with contextlib.suppress(BlockingIOError):
                    return [rcode(client.recv(4096))]
                return []

            return until(heard, f"an outcome of {name}")[0]

    def resolved(self, name: str, *addresses: str, ttl: int = 300) -> socket.socket:
        """The pod has asked, its server has answered; the pod's socket, on which the answer is to come."""
        client = self._sockets.enter_context(self.world.pod.udp(POD))
        with self.world.dns.udp(SERVER, 53) as upstream:
            client.sendto(query(name), (SERVER, 53))
            asked, resolver = upstream.recvfrom(4096)
            upstream.sendto(answer(asked, *addresses, ttl=ttl), resolver)
        return client

    def end(self) -> None:
        if hasattr(self, "resolver"):
            self.resolver.process.kill()
            self.resolver.process.wait()
            self.agent.end_streams.set()
            self.agent.stop()
        self._cleanup.close()

    def _to_agent(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX)
        made.connect(str(self.agent.path))
        return made

    def _run_resolver(self, changed: dict[str, object]) -> None:
        file, log = self.folder / "resolver.toml", self.folder / "resolver.log"
        http, journal = self.folder / f"http{self._starts}.sock", self.folder / "journal.jsonl"
        values = {
            "fqdndata": "{}:{}".format(*FQDNDATA) if self.on_tcp else f"unix:{self.agent.path}",
            "http_socket": str(http),
            "listen_port": PORT,
            "takeover": False,
            "handover_socket": "",
            "state_dir": str(self.folder / "state"),
            "log_file": str(log),
            "journal_file": str(journal),
            **changed,
        }
        file.write_text(settings.render(values))
        log.touch()
        process = subprocess.Popen(
            [*self.world.node.command, sys.executable, "-m", "acns.resolver", "--settings", str(file)]
        )
        self.resolver = Resolver(process, http, log, journal)
