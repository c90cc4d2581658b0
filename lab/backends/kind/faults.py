"""Faults in a lab on kind: agents' containers that are killed, and links that are down until they are mended.

The cluster holds agents and servers, so what wants their processes is not there; words and options that
would do nothing are refused. What a pod's link needs to be well again is written down before it is cut: its
route goes with it, and the pod may be gone by then.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lab.backends.kind import cluster
from lab.backends.kind.objects import AGENTS
from lab.errors import AcnsError, InputError, LabNotFound
from lab.runtime.faults.model import AgentFault, LinkFault, Mending, Options
from lab.runtime.progress import Progress, silent

if TYPE_CHECKING:
    from lab.backends.kind.kind_lab import KindLab

USAGE: Final = "kill shim|resolver [--node NODE], link down|ok POD|NODE, clear"
_CUT: Final = "cut-"

KindFault = AgentFault | LinkFault | Mending


@dataclass(frozen=True, slots=True)
class _Cut:
    """A pod's link that is down: the interface on the node, and the address whose route went with it."""

    node: str
    device: str
    address: str


# --- what is meant ------------------------------------------------------------------------------------------


def parse(words: Sequence[str], options: Options, for_s: float | None = None) -> KindFault:
    """The fault that the words name. Raises InputError, also for options that it does not take."""
    wanted = _named(words, options)
    if given := _given(options, for_s, besides="--node" if isinstance(wanted, AgentFault) else ""):
        raise InputError(f"on kind `{' '.join(words)}` takes no {' and no '.join(given)}", hint=USAGE)
    return wanted


def _named(words: Sequence[str], options: Options) -> KindFault:
    match list(words):
        case ["kill", ("shim" | "resolver") as agent, *where] if len(where) < 2:
            return AgentFault("kill", agent, _one_node(where, options.node))
        case ["link", "down", place]:
            return LinkFault("down", place, options.share)
        case ["link", "ok", place]:
            return Mending("link", place)
        case ["clear"]:
            return Mending("everything")
        case _:
            raise InputError(
                f"a lab on kind knows no fault '{' '.join(words)}'",
                hint=f"{USAGE}; the others are for namespaces",
            )


def _one_node(words: Sequence[str], option: str) -> str:
    """A node may be a word or an option; "": all of them."""
    named = {one for one in (*words, option) if one}
    if len(named) > 1:
        raise InputError(f"which node, {' or '.join(sorted(named))}?", hint="say it once: --node NODE")
    return next(iter(named), "")


def _given(options: Options, for_s: float | None, *, besides: str) -> list[str]:
    """The options that say something else than what goes without saying, but for one."""
    usual = Options()
    said = (
        ("--node", options.node != usual.node),
        ("--at", options.at != usual.at),
        ("--delay", options.delay_s != usual.delay_s),
        ("--share", options.share != usual.share),
        ("--for", for_s is not None),
    )
    return [option for option, is_given in said if is_given and option != besides]


# --- doing it -----------------------------------------------------------------------------------------------


def do(lab: KindLab, wanted: KindFault, progress: Progress = silent) -> None:
    """Make it happen, or mend it; a mending may be done where nothing is wrong. Raises LabNotFound."""
    match wanted:
        case AgentFault(_, agent, node):
            _kill(lab, agent, node, progress)
        case LinkFault(_, place):
            _cut(lab, place)
            progress(f"link of {place}: down, until `invoke lab.fault clear`")
        case Mending("link", place):
            _mend(lab, place)
            progress(f"link of {place}: ok")
        case Mending():
            _mend_everything(lab)
            progress("all links: ok")


def _kill(lab: KindLab, agent: str, node: str, progress: Progress) -> None:
    """End an agent's container at once, on one node or on all. A pod that is deleted, by force too, is asked
    to end and has its time for it. What could not be killed does not keep the others alive."""
    where = _node(lab, node)
    found = {
        one["metadata"]["name"]: (one["spec"]["nodeName"], container)
        for one in lab.tools.get("pods", "-n", AGENTS)
        if one["metadata"]["name"].startswith(f"acns-{agent}-")
        and where in ("", one["spec"].get("nodeName"))
        and (container := _container(one))
    }
    if not found:
        raise LabNotFound(f"no {agent} runs on {node or 'any node'}", hint="invoke lab.status shows them")
    failed: list[AcnsError] = []
    for pod, (on, container) in found.items():
        try:
            lab.on_node(on, cluster.kill_script(container))
            progress(f"killed {pod}: the kubelet starts its container again")
        except AcnsError as error:
            failed.append(error)
    if failed:
        raise failed[0]


def _container(pod: Mapping[str, Any]) -> str:
    """The id of a pod's one container; "": it does not run."""
    running = [one for one in pod["status"].get("containerStatuses", ()) if "running" in one["state"]]
    return str(running[0]["containerID"]).rpartition("/")[2] if running else ""


def _cut(lab: KindLab, place: str) -> None:
    """Take the cable of a pod out, or that of a node."""
    if (node := _node(lab, place)) in _nodes(lab):
        lab.on_node(node, cluster.cordon_script(down=True))
        return
    file = _note(lab, place)
    wanted = _to_cut(lab, file, *lab.place(place))
    file.write_text(json.dumps(asdict(wanted)))
    lab.on_node(wanted.node, f"ip link set {wanted.device} down\n")


def _to_cut(lab: KindLab, file: Path, node: str, address: str) -> _Cut:
    """By the pod's own route. Where its link is down already that is gone, and what is left goes by a
    gateway, over the node's own link: then it is as written down."""
    (route, *_) = json.loads(lab.tools.docker("exec", node, "ip", "-j", "route", "get", address).out)
    if "gateway" not in route:
        return _Cut(node, str(route["dev"]), address)
    if file.exists() and (cut := _read(file)).address == address:
        return cut
    raise LabNotFound(f"{node} has no route to a pod with {address}", hint="invoke lab.status, and up again")


def _mend(lab: KindLab, place: str) -> None:
    if (node := _node(lab, place)) in _nodes(lab):
        lab.on_node(node, cluster.cordon_script(down=False))
    elif (file := _note(lab, place)).exists():
        _mend_cut(lab, file)


def _mend_everything(lab: KindLab) -> None:
    """Nodes first: the way to some may be what is cut."""
    for node in _nodes(lab):
        lab.on_node(node, cluster.cordon_script(down=False))
    for file in sorted(lab.store.path.glob(f"{_CUT}*")):
        _mend_cut(lab, file)


def _mend_cut(lab: KindLab, file: Path) -> None:
    """The link of a pod that is gone is gone with it, and all is well."""
    cut = _read(file)
    if cut.node in _nodes(lab):
        script = f"""set -e
ip link show {cut.device} > /dev/null 2>&1 || exit 0
ip link set {cut.device} up
ip route replace {cut.address} dev {cut.device} scope host
"""
        lab.on_node(cut.node, script)
    file.unlink()


# --- places -------------------------------------------------------------------------------------------------


def _node(lab: KindLab, name: str) -> str:
    """As the cluster calls it; what is no node of the topology's is left as it is."""
    return cluster.placing(lab.topology, lab.name, None).get(name, name)


def _nodes(lab: KindLab) -> list[str]:
    return cluster.node_names(lab.name, lab.store.nodes())


def _note(lab: KindLab, place: str) -> Path:
    """Where it is written down that a pod's link is cut."""
    return lab.store.path / f"{_CUT}{'_'.join(lab.pod(place))}.json"


def _read(file: Path) -> _Cut:
    return _Cut(**json.loads(file.read_text()))
