"""Beside each node, and beside the Internet, a container with the lab's recorder: in that one's network, and
in nothing else of it.

A node is a container, so what is put into its network sees its links, pods' among them, and needs nothing of
the node or of the cluster: no program, no pod, no right at the API server. CAP_NET_RAW is all it has. It is
there from `lab.up` to `lab.down`, as on namespaces, with rings of the same size
(docs/adr/0027-recorders-beside-the-nodes.md).
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from lab.backends.kind import cluster, tools
from lab.backends.kind.objects import PODS_IMAGE
from lab.backends.network import INTERNET, node_place
from lab.capture.relay import command
from lab.errors import EnvironmentFault
from lab.runtime.progress import Progress, silent

if TYPE_CHECKING:
    from lab.backends.kind.kind_lab import KindLab

LABEL: Final = "acns-lab/recorder"
_CONTROL, _PLACES = "/run/recorder.sock", "/run/places"
_OWN_NETWORK: Final = "/proc/self/ns/net"
_TRIES, _RETRY_S = 60, 0.5
_RIGHTS: Final = (
    *("--user", "0", "--cap-drop", "ALL", "--cap-add", "NET_RAW", "--security-opt", "no-new-privileges"),
    *("--read-only", "--tmpfs", "/run", "--pids-limit", "64", "--restart", "unless-stopped"),
)


def places(lab: KindLab) -> dict[str, str]:
    """Where it is recorded → the container whose network that is."""
    nodes = cluster.node_names(lab.name, lab.store.nodes())
    return {INTERNET: lab.internet, **{node_place(node): node for node in nodes}}


def container(recorded: str) -> str:
    """The one beside it."""
    return f"{recorded}-recorder"


def start(lab: KindLab, progress: Progress = silent) -> None:
    """Those that are there and hear what they should are left alone: what they have recorded stays."""
    wanted = places(lab)
    image = lab.tools.docker("image", "inspect", "--format", "{{.Id}}", PODS_IMAGE).out.strip()
    fresh = {place for place, recorded in wanted.items() if _hears(recorded, image)}
    for place, recorded in wanted.items():
        if place not in fresh:
            progress(f"starting the recorder of {recorded}")
            tools.run(["docker", "rm", "--force", container(recorded)])
            lab.tools.docker(*_run(lab.name, place, recorded))
    _remove(lab.name, besides={container(recorded) for recorded in wanted.values()})
    for place in wanted.keys() - fresh:
        _wait(lab, place)


def end(name: str) -> None:
    """Of that lab, whatever nodes it has had."""
    _remove(name)


def ask(lab: KindLab, place: str, request: Mapping[str, Any]) -> bytes:
    """What it answers: a JSON line, then blocks. Raises EnvironmentFault where nobody answers."""
    recorded = places(lab)[place]
    argv = ["docker", "exec", container(recorded), "python3", *command(_CONTROL, json.dumps(request))]
    done, out = tools.run_for_bytes(argv)
    if not done.ok or not out:
        failed = tools.failure(argv, done)
        if isinstance(failed, EnvironmentFault):
            raise failed
        raise EnvironmentFault(
            f"the recorder of {recorded} does not answer: {failed.message}",
            hint=f"docker logs {container(recorded)}; invoke lab.up --backend kind again starts it",
        )
    return out


def _run(name: str, place: str, recorded: str) -> list[str]:
    said = json.dumps({"places": {place: _OWN_NETWORK}})
    recorder = f"exec python3 -m lab.capture.recorder --control {_CONTROL} --places {_PLACES}"
    script = f"printf %s {shlex.quote(said)} > {_PLACES} && {recorder}"
    where = (
        "--name",
        container(recorded),
        "--label",
        f"{LABEL}={name}",
        "--network",
        f"container:{recorded}",
    )
    return ["run", "--detach", *where, *_RIGHTS, PODS_IMAGE, "sh", "-c", script]


def _hears(recorded: str, image: str) -> bool:
    """Whether one runs, of this image, that has been started after its container: a container that is started
    anew has another network."""
    form = "{{.State.StartedAt}} {{.State.Running}} {{.Image}}"
    done = tools.run(["docker", "inspect", "--format", form, recorded, container(recorded)])
    said = [line.split() for line in done.out.splitlines()]
    if not done.ok or len(said) != 2:
        return False
    (theirs, *_), (ours, running, made_of) = said
    return (running, made_of) == ("true", image) and ours > theirs


def _remove(name: str, besides: set[str] | frozenset[str] = frozenset()) -> None:
    listing = ["docker", "ps", "--all", "--filter", f"label={LABEL}={name}", "--format", "{{.Names}}"]
    if found := sorted(set(tools.run(listing).out.split()) - besides):
        tools.run(["docker", "rm", "--force", *found])


def _wait(lab: KindLab, place: str) -> None:
    for attempt in range(_TRIES):
        try:
            ask(lab, place, {"op": "status"})
            return
        except EnvironmentFault:
            if attempt + 1 == _TRIES:
                raise
            time.sleep(_RETRY_S)
