"""Making a fault happen in a running lab, and mending it. A mending may be done where nothing is wrong.

Nothing is needed of the kernel but nftables: packets are lost by its random numbers, and a DNS server's bad
day is a relay before it. All of it lives in the lab's namespaces, in tables of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

from lab.errors import InputError, LabNotFound, ProcessFailed
from lab.kernel import impair, netns, nft
from lab.runtime.events import EventLog, LabEvent
from lab.runtime.faults.model import AgentFault, Fault, LinkFault, Mending, UpstreamFault
from lab.runtime.handles import Inside, ProcessHandle
from lab.runtime.lab import Lab
from lab.spec.topology import AGENTS, DNSProgram
from lab.world import dns_fault

UPSTREAM_TABLE, LINK_TABLES = "lab_fault_upstream", "lab_fault_"
INTERNET = "internet"
RELAY_ENDS_S = 5.0


def resolved(lab: Lab, fault: Fault) -> Fault:
    """The fault with its place written out, and the place looked up. Raises LabNotFound, InputError."""
    match fault:
        case AgentFault(action, agent, node):
            return AgentFault(action, agent, lab.node(node).name if node else _only_node(lab))
        case UpstreamFault(mode, place, delay_s, share):
            return UpstreamFault(mode, _dns_place(lab, place), delay_s, share)
        case LinkFault(mode, place, share):
            _link(lab, place)
            return fault


def inflict(lab: Lab, fault: Fault) -> None:
    """Make it happen; `resolved` came before. Raises InputError where there is nothing to hit."""
    if isinstance(fault, AgentFault) and fault.action in ("kill", "hang"):
        _check_running(lab, fault)
    EventLog(lab.folder.events_file).record(LabEvent.FAULT_BEGINS, fault=str(fault))
    match fault:
        case AgentFault():
            _to_agent(lab, fault)
        case UpstreamFault():
            _upstream(lab, fault)
        case LinkFault(mode, place, share):
            inside, interface = _link(lab, place)
            lost = 1.0 if mode == "down" else share
            _load(inside, impair.loss_rules(LINK_TABLES + interface, interface, lost))


def mend(lab: Lab, fault: Fault | Mending) -> None:
    """Have it well again."""
    EventLog(lab.folder.events_file).record(LabEvent.FAULT_MENDED, fault=str(fault))
    _mend(lab, fault)


def _mend(lab: Lab, fault: Fault | Mending) -> None:
    match fault:
        case AgentFault(_, agent, node):
            _continue(_process(lab, node, agent))
        case UpstreamFault(_, place) | Mending("upstream", place):
            _end_upstream(lab, _dns_place(lab, place))
        case LinkFault(_, place) | Mending("link", place):
            inside, interface = _link(lab, place)
            _load(inside, impair.without(LINK_TABLES + interface))
        case Mending():
            _mend_everything(lab)


# --- agents -------------------------------------------------------------------------------------------------


def _to_agent(lab: Lab, fault: AgentFault) -> None:
    process = _process(lab, fault.node, fault.agent)
    match fault.action:
        case "kill":
            process.kill()
        case "stop":
            process.hold(signal.SIGTERM)
        case "hang":
            process.kill(signal.SIGSTOP)
        case "cont":
            _continue(process)
        case "upgrade":
            process.upgrade()


def _check_running(lab: Lab, fault: AgentFault) -> None:
    found = _process(lab, fault.node, fault.agent).status()
    if found.pid is None:
        raise InputError(f"{found.name} is {found.state}: it has no process", hint="`cont` has it started")


def _continue(process: ProcessHandle) -> None:
    process.kill(signal.SIGCONT)
    process.start()


def _process(lab: Lab, node: str, agent: str) -> ProcessHandle:
    return lab.process(f"{node}/{agent}")


def _only_node(lab: Lab) -> str:
    names = [node.name for node in lab.nodes]
    if len(names) > 1:
        raise InputError("which node?", hint=f"--node {' or '.join(names)}")
    return names[0]


# --- DNS servers --------------------------------------------------------------------------------------------


def _dns_place(lab: Lab, place: str) -> str:
    """The key of a pod that is a DNS server, or `internet`; the only such pod where none is named."""
    servers = {
        plan.key: plan
        for pod, plan in zip(lab.topology.pods, lab.addressing.pods, strict=True)
        if isinstance(pod.program, DNSProgram)
    }
    if place == INTERNET or (not place and not servers):
        return INTERNET
    if not place and len(servers) == 1:
        return next(iter(servers))
    found = [key for key, plan in servers.items() if place in (key, plan.name)]
    if len(found) != 1:
        known = ", ".join((*servers, INTERNET))
        raise LabNotFound(f"no DNS server '{place}' in lab {lab.name}", hint=f"--at one of: {known}")
    return found[0]


def _upstream(lab: Lab, fault: UpstreamFault) -> None:
    control = _control_file(lab, fault.place)
    runs_already = dns_fault.is_running(control)
    _write(control, dns_fault.control_text(fault.mode, delay_s=fault.delay_s, share=fault.share))
    inside, address = _server(lab, fault.place)
    if not runs_already:
        _start_relay(inside, control, address)
    _load(inside, _relay_rules())


def _start_relay(inside: Inside, control: Path, address: str) -> None:
    """It outlives this program, and ends when its control file goes or the lab ends."""
    ready, its_end = os.pipe()
    command = [sys.executable, *dns_fault.command(control, address, ready_fd=its_end)]
    log_file = control.with_suffix(".log")
    try:
        with log_file.open("ab") as log:
            inside.popen(command, stdout=log, stderr=log, pass_fds=(its_end,), start_new_session=True)
    finally:
        os.close(its_end)
    with os.fdopen(ready, "rb") as stream:
        if not stream.read(1):
            control.unlink(missing_ok=True)
            raise ProcessFailed(f"the relay before {address} did not start", hint=f"its log: {log_file}")


def _end_upstream(lab: Lab, place: str) -> None:
    _load(_server(lab, place)[0], impair.without(UPSTREAM_TABLE))
    _end_relay(_control_file(lab, place))


def _end_relay(control: Path) -> None:
    control.unlink(missing_ok=True)
    deadline = time.monotonic() + RELAY_ENDS_S
    while dns_fault.is_running(control):
        if time.monotonic() > deadline:
            raise ProcessFailed(f"a relay does not end: {control.stem}", hint=f"its log: {control.stem}.log")
        time.sleep(0.01)


def _server(lab: Lab, place: str) -> tuple[Inside, str]:
    """Where the server is, and its address."""
    if place == INTERNET:
        return lab.internet, str(lab.topology.internet.dns)
    pod = lab.pod(place)
    return pod, str(pod.address)


def _control_file(lab: Lab, place: str) -> Path:
    return lab.folder.path / f"fault-{place.replace('/', '_')}.json"


def _write(path: Path, text: str) -> None:
    """In one step: the relay reads it when it likes."""
    temporary = path.with_suffix(".new")
    temporary.write_text(text)
    temporary.rename(path)


def _relay_rules() -> str:
    return f"""{impair.without(UPSTREAM_TABLE)}
table inet {UPSTREAM_TABLE} {{
  chain relay {{ type nat hook prerouting priority dstnat; policy accept;
    iifname != "lo" meta l4proto {{ tcp, udp }} th dport 53 redirect to :{dns_fault.PORT}
  }}
}}
"""


# --- links --------------------------------------------------------------------------------------------------


def _link(lab: Lab, place: str) -> tuple[Inside, str]:
    """Where packets of the link are lost, and its interface there."""
    node_names = [node.name for node in lab.nodes]
    if place in node_names:
        return lab.node(place), "eth0"
    pod = lab.pod(place)
    return lab.node(pod.node), pod.node_iface


# --- everything ---------------------------------------------------------------------------------------------


def _mend_everything(lab: Lab) -> None:
    """Of a lab whose last change failed, some places and programs may be gone: nothing is wrong with them."""
    there = lab.record.namespaces
    for place in (*(node.name for node in lab.nodes), *(pod.plan.key for pod in lab.pods)):
        if _link(lab, place)[0].place.name in there:
            _mend(lab, Mending("link", place))
    for node in lab.nodes:
        for agent in AGENTS:
            with contextlib.suppress(LabNotFound):
                _continue(_process(lab, node.name, agent))
    for inside in (lab.internet, *lab.pods):
        if inside.place.name in there:
            _load(inside, impair.without(UPSTREAM_TABLE))
    for control in lab.folder.path.glob("fault-*.json"):
        _end_relay(control)


def _load(inside: Inside, text: str) -> None:
    with netns.keeping(inside.place.open()) as place:
        nft.load(place.net, text)
