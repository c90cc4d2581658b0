"""A pod that may ask for a zone's names and connect to them, and a DNS server that says what a test wants.

What an answer has taught is read where it counts: in the kernel's set, and by a SYN that comes out at the
Internet or does not. Each test takes names and addresses of its own, so that none knows of another's.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from acns.fqdn import untold
from lab.capture.tap import Tap
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab
from lab.spec.topology import Topology

from .. import cluster_dns
from ..bypass.scripted import Asked, ScriptedDNS, answer
from ..pair import wire
from ..pair.wire import Wire, tapped

ZONE, REVERSE, CLUSTER = "pub.example.test", "in-addr.arpa", "default.svc.cluster.local"
OPEN, OPEN_TOO = "198.51.100.10", "198.51.100.11"
"""Addresses at which a web server answers."""
HTTPS = 443
GRACE_S, MOST_PER_NAME = 3600, 120
COLLECTION_S = 0.5  # below a second, so that a kernel timeout in whole seconds is TTL + grace
IDLE_GRACE_S, MIN_TTL_S = 1.5, 300
"""Of the first node, where `asker` is; of the second, where `patient` is, whose policy is the same."""

_POLICY = f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: asker, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: asker}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{"k8s:io.kubernetes.pod.namespace": kube-system, "k8s:k8s-app": kube-dns}}
    toPorts:
    - ports: [{{port: "53", protocol: ANY}}]
      rules:
        dns:
        - matchPattern: "**.{ZONE}"
        - matchPattern: "**.{REVERSE}"
        - matchPattern: "*.{CLUSTER}"
  - toFQDNs: [{{matchPattern: "**.{ZONE}"}}, {{matchPattern: "*.{CLUSTER}"}}]
    toPorts: [{{ports: [{{port: "443", protocol: TCP}}]}}]
  - toEndpoints: [{{matchLabels: {{tier: open}}}}]
    toPorts: [{{ports: [{{port: "443", protocol: TCP}}]}}]
"""
_WEB = {"kind": "web", "https_port": HTTPS}


def _topology(journal: Path) -> Topology:
    shim = {"profile": "cilium", "fqdn_gc_interval_s": COLLECTION_S, "agent_down_grace_s": GRACE_S}
    first = {
        "idle_grace_s": IDLE_GRACE_S,
        "max_addresses_per_name": MOST_PER_NAME,
        "journal_file": str(journal),
    }
    return Topology.model_validate(
        {
            "name": "names",
            "nodes": [
                {"name": "node1", "shim": shim | first},
                {"name": "node2", "shim": shim | {"min_ttl_s": MIN_TTL_S}},
            ],
            "pods": [
                {"name": "asker", "node": "node1", "labels": {"app": "asker"}},
                {"name": "leaver", "node": "node1", "labels": {"app": "asker"}},
                {"name": "patient", "node": "node2", "labels": {"app": "asker"}},
                {"name": "open", "node": "node1", "labels": {"tier": "open"}, "program": _WEB},
                {"name": "shut", "node": "node1", "labels": {"tier": "shut"}, "program": _WEB},
                cluster_dns.pod(),
            ],
            "services": [cluster_dns.SERVICE],
            "internet": {"names": {"web.example.net": {"a": [OPEN, OPEN_TOO]}}},
            "policies": [{"inline": _POLICY}],
        }
    )


@dataclass(frozen=True, slots=True)
class Scene:
    """All that the tests of one session share."""

    lab: Lab
    rng: random.Random
    asker: Wire
    server: ScriptedDNS
    internet: Tap
    journal: Path
    drawn: set[str] = field(default_factory=set)
    """Addresses that some test has had."""

    @property
    def node(self) -> NodeHandle:
        return self.lab.node("node1")

    @property
    def cluster_ip(self) -> str:
        return self.asker.cluster_dns

    def clear(self) -> None:
        self.internet.clear()
        self.asker.tap.clear()
        self.server.check()
        self.server.asked.clear()

    def id16(self) -> int:
        return self.rng.getrandbits(16)

    def name(self) -> str:
        """A name that the pod may ask for, and nobody has."""
        return f"{wire.fresh_label(self.rng)}.{ZONE}"

    def addresses(self, count: int) -> list[str]:
        """Addresses of which nobody has heard."""
        found: set[str] = set()
        while len(found) < count:
            found |= {wire.fresh_address(self.rng)} - self.drawn
        self.drawn.update(found)
        return sorted(found)

    def ask(self, name: str, transport: str = "udp", *, qtype: int | str = "A") -> bytes:
        message = wire.query(name, qtype, ident=self.id16())
        return self.asker.ask_over(transport, self.cluster_ip, message)

    def says(self, name: str, *records: str, rcode: int = 0, **sections: tuple[str, ...]) -> list[bytes]:
        """From now on the server says this, whole lines, about the name; what it has sent is kept."""
        said: list[bytes] = []

        def script(asked: Asked) -> None:
            said.append(answer(asked.message, *records, rcode=rcode, **sections))
            asked.answer(said[-1])

        self.server.script(name, script)
        return said

    # --- what came of it ----------------------------------------------------------------------------------

    def timeouts(self, node: str = "node1") -> dict[str, int]:
        """Address → its timeout in the kernel less the grace, in whole seconds: what it was learned with."""
        listed = json.loads(self.lab.node(node).run(["nft", "-j", "list", "table", "inet", "acns"]).stdout)
        sets = {one["set"]["name"]: one["set"] for one in listed["nftables"] if "set" in one}
        elements = [element["elem"] for element in sets["learned"].get("elem", ())]
        return {element["val"]["concat"][-1]: element["timeout"] - GRACE_S for element in elements}

    def learned(self, *candidates: str, node: str = "node1") -> dict[str, int]:
        """Those of these addresses that are in the kernel's set."""
        held = self.timeouts(node)
        return {one: held[one] for one in candidates if one in held}

    @staticmethod
    def kept_s(ttl_s: int) -> int:
        """What `learned` says of an answer with this TTL: the shim keeps it for longer (ADR 10)."""
        return round(ttl_s + untold.kept_s(ttl_s))

    def names(self, address: str) -> set[str]:
        """The names under which the shim knows an address."""
        return {one["name"] for one in self._known() if one["address"] == address}

    def known_names(self) -> set[str]:
        return {one["name"] for one in self._known()}

    def stay(self, address: str) -> str:
        """Why an address that the shim knows under one name is still there."""
        (found,) = (one["stay"] for one in self._known() if one["address"] == address)
        return str(found)

    def _known(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.node.shim.http_get("/cache").json()["addresses"]
        return found

    def gone(self, address: str) -> list[dict[str, Any]]:
        """What the journal says of an address's going, oldest first."""
        lines = self.journal.read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("\n")]
        return [one for one in entries if one["event"] == "address.gone" and one["address"] == address]

    def assert_open(self, address: str) -> None:
        wire.wait_for(self.internet, wire.is_syn(self.asker.syn(address, HTTPS)))

    def assert_closed(self, address: str) -> None:
        sequence = self.asker.syn(address, HTTPS)
        self.asker.fence()
        assert wire.seen(self.asker.tap, wire.is_syn(sequence)), "it was never sent"
        assert wire.seen(self.internet, wire.is_syn(sequence)) == []


@contextmanager
def up(journal: Path) -> Iterator[Scene]:
    rng = wire.seeded()
    lab = Lab.up(_topology(journal), name=f"t{os.getpid()}-names")
    with ExitStack() as stack:
        stack.callback(lab.down)
        server = ScriptedDNS(lab.pod("kube-dns"))
        stack.callback(server.close)
        asker = stack.enter_context(Wire(lab, "asker", rng))
        internet = stack.enter_context(tapped(lab.internet))
        lab.wait_settled()
        yield Scene(lab, rng, asker, server, internet, journal)
