"""What runs in a lab: the Internet's servers, the pods' programs, an agent pair on each node.

Each becomes a supervised program: command line, namespace, log file, and the condition under which it is
ready.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from acns import settings as settings_files
from lab.backends import dns_servers, external_agents
from lab.backends.environment import base_environment
from lab.backends.external_agents import Surroundings
from lab.backends.network import BRIDGE as UNDERLAY
from lab.backends.network import INTERNET, node_place, pod_place
from lab.backends.site import Site, pod_environment, python, ready_by_descriptor
from lab.capture import recorder
from lab.kernel.netns import Namespace
from lab.runtime.readiness import HttpReady, PortReady, RunningReady
from lab.runtime.supervise import Program
from lab.spec.external import FQDNDATA_TCP
from lab.spec.plan import NodePlan, PodPlan
from lab.spec.topology import CommandProgram, DNSProgram, Node, Pod, ShellProgram, WebProgram
from lab.world import web
from lab.world.certs import Certificates

Runs = WebProgram | DNSProgram | CommandProgram | ShellProgram
INTERNET_WEB = "internet/web"
RECORDER = "lab/recorder"


def internet(site: Site) -> list[Program]:
    """The DNS servers and the web server of the Internet."""
    web_command = _web_command(WebProgram(kind="web"), site.certificates)
    place, log = site.namespaces[INTERNET], site.folder.internet / "web.log"
    return [*dns_servers.internet(site), ready_by_descriptor(INTERNET_WEB, web_command, place, log)]


def recording(site: Site) -> Program:
    """What listens to the links of every node and of the Internet."""
    folder = site.folder

    def command(ready_fd: int) -> list[str]:
        return python(recorder.command(folder.recorder_socket, folder.recorded_places, ready_fd))

    return ready_by_descriptor(
        RECORDER, command, site.namespaces[UNDERLAY], site.folder.path / "recorder.log"
    )


def pods(site: Site) -> list[Program]:
    """The programs of the pods that have one."""
    planned = zip(site.order.topology.pods, site.order.addressing.pods, strict=True)
    return [_pod(site, pod, plan, pod.program) for pod, plan in planned if pod.program]


def everything(site: Site) -> list[Program]:
    """All that is kept running."""
    return [recording(site), *internet(site), *agents(site), *pods(site)]


def agents(site: Site) -> list[Program]:
    """The agents of every node."""
    planned = zip(site.order.topology.nodes, site.order.addressing.nodes, strict=True)
    return [program for node, plan in planned for program in _pair(site, node, plan)]


def _pod(site: Site, pod: Pod, plan: PodPlan, what: Runs) -> Program:
    if isinstance(what, DNSProgram):
        return dns_servers.of_pod(site, pod, plan, what)
    name, home = pod_place(plan.key), site.folder.pod(plan.key)
    place, log = site.namespaces[name], home / "program.log"
    if isinstance(what, WebProgram):
        return ready_by_descriptor(name, _web_command(what, site.certificates), place, log)
    command = ["/bin/sh", "-c", what.script] if isinstance(what, ShellProgram) else list(what.command)
    ready = PortReady(what.ready_port) if what.ready_port else RunningReady()
    environment = pod_environment(str(site.certificates.ca))
    return Program(name, lambda _: command, place, log, ready, environment)


def _web_command(what: WebProgram, certificates: Certificates) -> Callable[[int], list[str]]:
    def command(ready_fd: int) -> list[str]:
        return python(
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
        "journal_file": str(home / "shim-journal.jsonl"),
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
    command = python(["-m", module, "--settings", str(file)])
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
