"""Programs of others' in the place of a node's agents: what they are told, and when they are ready.

They say nothing of themselves as ours do: such a program is ready when it accepts connections where an agent
of its kind serves. Cilium's proxy does so only after its first snapshot, some ten seconds after its start.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from acns.datapath.constants import PROXY_ADDRESS, PROXY_PORT
from lab.kernel.netns import Namespace
from lab.runtime.readiness import PortReady
from lab.runtime.supervise import Program
from lab.spec import external
from lab.spec.external import FQDNDATA_TCP
from lab.spec.plan import NodePlan
from lab.spec.topology import Agent, ExternalProgram, Node

_SERVES_AT: Final[Mapping[Agent, str]] = {"shim": "fqdndata_port", "resolver": "dns_port"}


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where an external program runs."""

    place: Namespace
    home: Path
    manifests: Path
    fqdndata_socket: Path
    environment: Mapping[str, str]


def programs(
    node: Node, plan: NodePlan, shim: Mapping[str, Any], resolver: Mapping[str, Any], around: Surroundings
) -> dict[str, Program]:
    """The node's external programs, by whose place they take. `shim`, `resolver`: the settings of ours."""
    return {
        agent: _program(agent, one, _values(node, plan, shim, resolver, around), around)
        for agent, one in node.external.programs()
    }


def _program(agent: Agent, one: ExternalProgram, values: Mapping[str, str], around: Surroundings) -> Program:
    command = [external.filled(word, values) for word in one.command]
    environment = {name: external.filled(word, values) for name, word in one.environment.items()}
    return Program(
        name=f"{around.home.name}/{agent}",
        argv=lambda _: command,
        namespace=around.place,
        log=around.home / f"{agent}.log",
        readiness=PortReady(one.ready_port or int(values[_SERVES_AT[agent]])),
        environment={**around.environment, **environment},
        ready_within_s=one.ready_within_s,
    )


def _values(
    node: Node, plan: NodePlan, shim: Mapping[str, Any], resolver: Mapping[str, Any], around: Surroundings
) -> dict[str, str]:
    """What the placeholders stand for: the addresses that ours goes by."""
    fqdndata = str(resolver["fqdndata"] if node.external.shim else shim["tcp_listen"])
    if fqdndata.startswith("unix:") or not fqdndata:
        fqdndata = FQDNDATA_TCP  # by the settings they meet at the socket
    dns_port = resolver.get("listen_port") if node.external.shim else shim.get("proxy_port")
    return {
        "node": plan.name,
        "node_address": str(plan.address),
        "fqdndata": fqdndata,
        "fqdndata_port": fqdndata.rpartition(":")[2],
        "fqdndata_socket": str(around.fqdndata_socket),
        "dns": f"{PROXY_ADDRESS}:{dns_port or PROXY_PORT}",
        "dns_port": str(dns_port or PROXY_PORT),
        "manifests": str(around.manifests),
        "home": str(around.home),
    }
