"""What runs in a lab: the Internet's servers, the pods' programs, an agent pair on each node.

Each becomes a supervised program: command line, namespace, log file, and the condition under which it is
ready.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import acns
import lab
from acns import settings as settings_files
from lab.backends import external_agents
from lab.backends.external_agents import Surroundings
from lab.backends.network import INTERNET, node_place, pod_place
from lab.backends.order import Order
from lab.kernel.netns import Namespace
from lab.runtime.readiness import DescriptorReady, HttpReady, PortReady
from lab.runtime.state import LabFolder
from lab.runtime.supervise import Program
from lab.spec.external import FQDNDATA_TCP
from lab.spec.plan import NodePlan, PodPlan
from lab.spec.topology import DNSProgram, Node, Pod, WebProgram
from lab.world import cluster_dns, dns, web
from lab.world.certs import Certificates

INTERNET_DNS = "internet/dns"
INTERNET_WEB = "internet/web"


@dataclass(frozen=True, slots=True)
class Site:
    """Where a lab's programs run: its order, its files, its namespaces."""

    order: Order
    folder: LabFolder
    namespaces: Mapping[str, Namespace]
    certificates: Certificates


def internet(site: Site) -> list[Program]:
    """The DNS server and the web server of the Internet."""
    folder, place = site.folder, site.namespaces[INTERNET]

    def dns_command(ready_fd: int) -> list[str]:
        return _python(
            dns.command(
                records=folder.records_file,
                listen=[site.order.topology.internet.dns],
                query_log=folder.query_log,
                ready_fd=ready_fd,
            )
        )

    web_command = _web_command(WebProgram(kind="web"), site.certificates)
    return [
        _ready_by_descriptor(INTERNET_DNS, dns_command, place, folder.internet / "dns.log"),
        _ready_by_descriptor(INTERNET_WEB, web_command, place, folder.internet / "web.log"),
    ]


def pods(site: Site) -> list[Program]:
    """The programs of the pods that have one."""
    planned = zip(site.order.topology.pods, site.order.addressing.pods, strict=True)
    return [_pod(site, pod, plan, pod.program) for pod, plan in planned if pod.program]


def agents(site: Site) -> list[Program]:
    """The agents of every node."""
    planned = zip(site.order.topology.nodes, site.order.addressing.nodes, strict=True)
    return [program for node, plan in planned for program in _pair(site, node, plan)]


def base_environment() -> dict[str, str]:
    """The environment of everything in a lab: of the caller's only search paths and our own variables; never
    a proxy."""
    packages = [_root_of(package) for package in (acns, lab)]
    also = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    ours = {name: value for name, value in os.environ.items() if name.startswith("ACNS_")}
    return {
        **ours,
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(packages + also)),
    }


def pod_environment(authority: str) -> dict[str, str]:
    """Clients in pods trust the lab's certificate authority (curl and OpenSSL know it by different names)."""
    return {**base_environment(), "CURL_CA_BUNDLE": authority, "SSL_CERT_FILE": authority}


def _pod(site: Site, pod: Pod, plan: PodPlan, what: WebProgram | DNSProgram) -> Program:
    name, home = pod_place(plan.key), site.folder.pod(plan.key)
    place, log = site.namespaces[name], home / "program.log"
    if isinstance(what, WebProgram):
        return _ready_by_descriptor(name, _web_command(what, site.certificates), place, log)
    config = home / "dnsmasq.conf"
    files = {config: cluster_dns.config_text(site.order.topology, pod)}
    command = list(cluster_dns.command(config))
    ready = PortReady(what.port)
    return Program(name, lambda _: command, place, log, ready, base_environment(), files=files)


def _web_command(what: WebProgram, certificates: Certificates) -> Callable[[int], list[str]]:
    def command(ready_fd: int) -> list[str]:
        return _python(
            web.command(
                http_port=what.http_port,
                https_port=what.https_port,
                certificates=certificates,
                ready_fd=ready_fd,
            )
        )

    return command


def _pair(site: Site, node: Node, plan: NodePlan) -> list[Program]:
    """The two; where one of them is not ours, ours meets it on TCP."""
    home = site.folder.node(node.name)
    fqdndata = site.folder.socket(plan.index, "fqdndata")
    shim = {
        "node": node.name,
        "manifests": str(site.folder.manifests(node.name)),
        "state_dir": str(home / "shim-state"),
        "fqdndata_socket": str(fqdndata),
        "http_socket": str(site.folder.socket(plan.index, "shim")),
        "flow_log_file": str(home / "flows.jsonl"),
        "flow_log": "all",
        **({"tcp_listen": FQDNDATA_TCP} if node.external.resolver else {}),
        **node.shim,
    }
    resolver = {
        "fqdndata": FQDNDATA_TCP if node.external.shim else f"unix:{fqdndata}",
        "http_socket": str(site.folder.socket(plan.index, "resolver")),
        "state_dir": str(home / "resolver-state"),
        "handover_socket": str(site.folder.socket(plan.index, "handover")),
        "shim_ledger": str(Path(shim["state_dir"]) / "ledger.log"),
        "takeover": not node.external.shim,
        "journal_file": str(home / "resolver-journal.jsonl"),
        **node.resolver,
    }
    modules = site.order.agents
    wanted = (("shim", modules.shim, shim), ("resolver", modules.resolver, resolver))
    place = site.namespaces[node_place(node.name)]
    around = Surroundings(place, home, site.folder.manifests(node.name), fqdndata, base_environment())
    others = external_agents.programs(node, plan, shim, resolver, around)
    return [
        others.get(agent) or _agent(home, agent, module, settings, place)
        for agent, module, settings in wanted
        if module
    ]


def _agent(home: Path, agent: str, module: str, settings: dict[str, Any], place: Namespace) -> Program:
    file = home / f"{agent}.toml"
    command = _python(["-m", module, "--settings", str(file)])
    ready, log = HttpReady(Path(settings["http_socket"])), home / f"{agent}.log"
    return Program(
        name=f"{home.name}/{agent}",
        argv=lambda _: command,
        namespace=place,
        log=log,
        readiness=ready,
        environment=base_environment(),
        # The shim needs none: started anew, it adopts what the kernel has.
        successor=("--takeover",) if agent == "resolver" else None,
        files={file: settings_files.render(settings)},
    )


def _ready_by_descriptor(
    name: str, command: Callable[[int], Sequence[str]], place: Namespace, log: Path
) -> Program:
    return Program(name, command, place, log, DescriptorReady(), base_environment())


def _python(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, *arguments]


def _root_of(package: Any) -> str:
    """The folder from which a package is imported."""
    return str(Path(next(iter(package.__path__))).parent)
