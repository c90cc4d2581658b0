"""A lab from outside: bring it up, look at it, use it, take it down. Tests and commands use the same API.

`Lab.up` is convergent: what is there and right is left alone, what is there and wrong is repaired or
rebuilt, and whatever happens to the caller, `Lab.down` (or the next `Lab.up`) finds either a whole lab or
one to sweep away.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.backends.environment import base_environment
from lab.backends.kind import store as on_kind
from lab.backends.order import Agents, Order
from lab.backends.programs import RECORDER
from lab.backends.settled import settled
from lab.backends.site import pod_environment
from lab.errors import HolderGone, LabNotFound, ProcessFailed
from lab.kernel import userns
from lab.runtime import control, early, enter, state, truth
from lab.runtime.ending import all_labs, known, listed, must_be_a_labs, take_down, waiting
from lab.runtime.enter import Place
from lab.runtime.faults import at_start
from lab.runtime.handles import Inside, InternetHandle, NodeHandle, PodHandle, ProcessHandle
from lab.runtime.progress import Progress, silent
from lab.runtime.state import HolderRecord, LabFolder
from lab.runtime.supervise import ProcessStatus, log_tail
from lab.spec.expect import Row
from lab.spec.load import find_topology, load_topology
from lab.spec.status import Status
from lab.spec.topology import InternetName, Topology
from lab.world import manifests

_BUILD_TIMEOUT_S = 300.0
_SETTLE_TIMEOUT_S = 20.0
_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class LabSummary:
    """One line of `lab.list`."""

    name: str
    state: str
    """`up`, `on kind`, or `broken`: a folder whose holder is dead or never finished."""
    topology: str
    created_at_s: float
    """0 where that is not known."""


class Lab:
    """A running lab."""

    def __init__(self, folder: LabFolder, record: HolderRecord, order: Order) -> None:
        """Use `Lab.up` or `Lab.attach`."""
        self.folder = folder
        self.record = record
        self.order = order
        self.addressing = order.addressing

    @classmethod
    def up(
        cls,
        topology: Topology | Path | str,
        name: str | None = None,
        progress: Progress = silent,
        *,
        agents: Agents | None = None,
        is_tied: bool = False,
    ) -> Lab:
        """The lab of that topology, made or changed as far as needed; `progress` gets a line per step.

        `topology` may be a model, a file, or the name of a shipped topology. The lab's name is the topology's
        unless given. One that is tied ends with the thread that makes it, however that ends.
        """
        wanted, agents = _topology(topology), agents or Agents()
        folder = state.folder_of(wanted.name if name is None else name)
        with state.locked(folder, lambda: progress(waiting(folder))) as lock:
            if running := cls._running(folder):
                early.dismiss()
                userns.enter(running.record)
                return running._converge(_order(settled(wanted, running.topology), agents), progress)
            _sweep(folder, progress)
            with _left_no_folder(folder):
                userns.enter()
            return cls._build(folder, _order(wanted, agents), lock, progress, is_tied=is_tied)

    @classmethod
    def plan(
        cls, topology: Topology | Path | str, name: str | None = None, *, agents: Agents | None = None
    ) -> list[str]:
        """What `up` would do, a line per change; nothing is changed. No lines: nothing would be."""
        wanted, agents = _topology(topology), agents or Agents()
        folder = state.folder_of(wanted.name if name is None else name)
        if running := cls._running(folder):
            order = _order(settled(wanted, running.topology), agents)
            ends_faults = bool(running.topology.faults)
            return list(running.request("plan", order=order.to_json(), ends_faults=ends_faults))
        from lab.backends import converging

        order = _order(wanted, agents)
        return [
            *([_left_by_the_dead(folder)] if folder.exists() and any(folder.path.iterdir()) else []),
            *converging.from_nothing(order, folder),
        ]

    @classmethod
    def attach(cls, name: str | None = None) -> Lab:
        """The running lab of that name; without one, the only lab there is. Raises LabNotFound."""
        on_kind.refuse_here(name)
        folder = _only_folder() if name is None else state.folder_of(name)
        record = folder.record() if folder.exists() else None
        if record is None or not record.ready or not record.alive():
            raise _not_up(folder)
        try:
            order = Order.from_json(json.loads(folder.topology_file.read_text()))
        except ValueError as error:
            raise LabNotFound(
                f"lab {folder.name} was made by another version of the lab ({error})",
                hint="invoke lab.up rebuilds it, invoke lab.down ends it",
            ) from error
        userns.enter(record)
        return cls(folder, record, order)

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def topology(self) -> Topology:
        return self.order.topology

    def down(self) -> None:
        """End the lab; nothing of it is left when this returns."""
        take_down(self.name)

    def pod(self, name: str) -> PodHandle:
        """The pod called `name` or `namespace/name`."""
        try:
            plan = self.addressing.pod(name)
        except KeyError:
            known = listed("pods", (pod.key for pod in self.addressing.pods))
            raise LabNotFound(f"no pod {name} in lab {self.name}", hint=known) from None
        environment = pod_environment(self.record.authority)
        return PodHandle(Place(f"pod/{plan.key}", self.record, environment), plan)

    @property
    def pods(self) -> list[PodHandle]:
        return [self.pod(plan.key) for plan in self.addressing.pods]

    def node(self, name: str) -> NodeHandle:
        try:
            plan = self.addressing.node(name)
        except KeyError:
            known = listed("nodes", (node.name for node in self.addressing.nodes))
            raise LabNotFound(f"no node {name} in lab {self.name}", hint=known) from None
        place = Place(f"node/{name}", self.record, base_environment())
        shim, resolver = self.process(f"{name}/shim"), self.process(f"{name}/resolver")
        return NodeHandle(place, plan, shim, resolver, self.folder.manifests(name))

    @property
    def nodes(self) -> list[NodeHandle]:
        return [self.node(plan.name) for plan in self.addressing.nodes]

    @property
    def internet(self) -> InternetHandle:
        place = Place("internet", self.record, pod_environment(self.record.authority))
        servers = self.process("internet/dns"), self.process("internet/web")
        return InternetHandle(place, *servers, self.folder.query_log)

    def inside(self, name: str) -> Inside:
        """A pod, a node or `internet`, by name; pods first."""
        if name in (pod.name for pod in self.addressing.pods) or "/" in name:
            return self.pod(name)
        if name in (node.name for node in self.addressing.nodes):
            return self.node(name)
        return self.internet if name == "internet" else self.pod(name)

    def existing_log(self, process: str) -> Path:
        """The log of a supervised process, by its whole name or, where that is plain, by its last part."""
        known = [one.name for one in self.processes()]
        exact = [name for name in known if name == process]
        found = exact or [name for name in known if name.endswith(f"/{process}")]
        if len(found) != 1:
            wrong = "several processes" if found else "no process"
            hint = listed("processes", iter(found or known))
            raise LabNotFound(f"{wrong} {process} in lab {self.name}", hint=hint)
        return self.process(found[0]).log_file

    def process(self, name: str) -> ProcessHandle:
        """The supervised process of that name (`node1/shim`, `internet/dns`, `pod/default/web`)."""
        log, http_socket = self._files_of(name)
        return ProcessHandle(name, log, http_socket, self.record.pid, self.request)

    def processes(self) -> list[ProcessStatus]:
        """The state of every process, asked now."""
        return [ProcessStatus(**status) for status in self.request("status")]

    def status(self) -> Status:
        return truth.status(self)

    def check(self) -> list[Row]:
        """The truth table: what each pod was expected to do, and what it does now."""
        return truth.check(self)

    def write_manifest(self, filename: str, text: str) -> None:
        """Put a manifest into the folder of every node's shim, in one step each."""
        self.request("write_manifest", filename=filename, text=text)

    def remove_manifest(self, filename: str) -> None:
        self.request("remove_manifest", filename=filename)

    def set_names(self, names: Mapping[str, InternetName]) -> None:
        """Replace the Internet's DNS records; addresses that are new to it are its own from now on."""
        values = {name: value.model_dump(mode="json") for name, value in names.items()}
        # Addresses wait for a lock that all namespaces of the machine share.
        self.request("set_names", names=values, timeout_s=_BUILD_TIMEOUT_S)

    def wait_settled(self, timeout_s: float = _SETTLE_TIMEOUT_S) -> None:
        """Wait until every process that is not held is ready, and every agent goes by the newest manifests.

        What is not so in time is the error.
        """
        deadline = time.monotonic() + timeout_s
        while unready := [one for one in self.processes() if one.state not in ("ready", "held")]:
            if time.monotonic() > deadline:
                self.process(unready[0].name).wait_ready(timeout_s=0.1)
            time.sleep(_POLL_S)
        while stale := [node.name for node in self.nodes if not node.is_current()]:
            if time.monotonic() > deadline:
                raise ProcessFailed(
                    f"the agents of {', '.join(stale)} still go by older manifests after {timeout_s:g} s",
                    hint=f"invoke lab.logs {stale[0]}/shim",
                )
            time.sleep(_POLL_S)

    def request(self, op: str, **arguments: Any) -> Any:
        """One request to the holder; `timeout_s` bounds the wait for its answer."""
        with control.Client.connect(self.folder.control_socket) as client:
            return client.call(op, **arguments)

    @classmethod
    def _running(cls, folder: LabFolder) -> Lab | None:
        """The lab in that folder, if it is up and this code can change it."""
        record = folder.record() if folder.exists() else None
        if record is None or not record.ready or not record.alive():
            return None
        with contextlib.suppress(OSError, ValueError, KeyError):
            return cls(folder, record, Order.from_json(json.loads(folder.topology_file.read_text())))
        return None

    def _converge(self, order: Order, progress: Progress) -> Lab:
        at_start.mend(self)
        with control.Client.connect(self.folder.control_socket) as client:
            changed = client.call(
                "converge", progress=progress, timeout_s=_BUILD_TIMEOUT_S, order=order.to_json()
            )
        if not changed:
            progress(f"lab {self.name} is up already and as it should be: nothing changed")
        record = self.folder.record()
        assert record is not None
        lab = Lab(self.folder, record, order)
        at_start.inflict(lab, progress)
        return lab

    @classmethod
    def _build(cls, folder: LabFolder, order: Order, lock: int, progress: Progress, *, is_tied: bool) -> Lab:
        started_s = time.monotonic()
        folder.save_order(order.to_json())  # first of all: from now on it is known for a lab's
        for path in (folder.control_socket.parent, folder.internet):
            path.mkdir()
        with _maker(folder, lock, is_tied=is_tied) as client:
            client.call("build", progress=progress, timeout_s=_BUILD_TIMEOUT_S, order=order.to_json())
            client.call("commit", is_tied=is_tied)
        record = folder.record()
        assert record is not None
        progress(f"lab {folder.name} is up ({time.monotonic() - started_s:.1f} s)")
        lab = cls(folder, record, order)
        at_start.inflict(lab, progress)
        return lab

    def _files_of(self, process: str) -> tuple[Path, Path | None]:
        if process == RECORDER:
            return self.folder.path / "recorder.log", None
        owner, _, rest = process.partition("/")
        if owner == "internet":
            return self.folder.internet / f"{rest}.log", None
        if owner == "pod":
            return self.folder.pod(rest) / "program.log", None
        # A change that failed may have left a node of which nothing else is known.
        index = next((node.index for node in self.addressing.nodes if node.name == owner), None)
        http_socket = None if index is None else self.folder.socket(index, rest)
        return self.folder.node(owner) / f"{rest}.log", http_socket


def list_labs() -> list[LabSummary]:
    """Every lab that has a state folder."""
    return [_summary(folder) for folder in all_labs()]


def _summary(folder: LabFolder) -> LabSummary:
    record = folder.record()
    is_up = record is not None and record.ready and record.alive()
    topology = ""
    with contextlib.suppress(OSError, ValueError, KeyError):
        topology = json.loads(folder.topology_file.read_text())["topology"]["name"]
    return LabSummary(
        folder.name, "up" if is_up else "broken", topology, record.created_at_s if record else 0.0
    )


def _topology(topology: Topology | Path | str) -> Topology:
    if isinstance(topology, Topology):
        return topology
    return load_topology(topology if isinstance(topology, Path) else find_topology(topology))


def _order(topology: Topology, agents: Agents) -> Order:
    draft = Order(topology, {}, agents)
    return Order(topology, manifests.manifest_files(topology, draft.addressing), agents)


def _sweep(folder: LabFolder, progress: Progress) -> None:
    """Remove what stands in the way of a new lab, saying why. Raises InputError where that is no lab's."""
    must_be_a_labs(folder)
    record = folder.record()
    if record is not None and record.ready and record.alive():
        progress(f"lab {folder.name} was made by another version of the lab: rebuilding it")
    elif any(folder.path.iterdir()):
        progress(_left_by_the_dead(folder))
    state.empty(folder, enter.collect)


@contextlib.contextmanager
def _maker(folder: LabFolder, lock: int, *, is_tied: bool) -> Iterator[control.Client]:
    """A holder that builds; it and everything it made are gone when the block fails. One that is tied is
    a descendant for good, to be collected when it ends.
    """
    with folder.holder_log.open("ab") as log:
        told = ["--folder", str(folder.path), "--lock-fd", str(lock)]
        early_one = early.taken(folder.path, lock, log.fileno())
        between, ours = early_one or early.spawned(told, [lock], log.fileno())
    try:
        with control.Client(ours) as client:
            yield client
        if is_tied:
            enter.own(between)
        else:
            between.wait()
    except BaseException as error:
        between.kill()
        between.wait()
        explained = _explained(folder, error)
        state.remove(folder)
        raise explained from error


@contextlib.contextmanager
def _left_no_folder(folder: LabFolder) -> Iterator[None]:
    """Who fails before there is anything in the folder leaves none."""
    try:
        yield
    except BaseException:
        state.remove(folder)
        raise


def _explained(folder: LabFolder, error: BaseException) -> BaseException:
    """A holder that died has said why in its log; all logs go with the folder."""
    if isinstance(error, ProcessFailed):
        return ProcessFailed(error.message, hint="its log went with the lab, which is taken down again")
    if not isinstance(error, HolderGone):
        return error
    tail = "\n".join(f"    {line}" for line in log_tail(folder.holder_log))
    return HolderGone(f"{error.message}; the last lines it wrote:\n{tail}", hint=error.hint)


def _not_up(folder: LabFolder) -> LabNotFound:
    """What has become of it. Who brings one up has its folder locked."""
    up = f"lab.up --name {folder.name}; {known()}"
    if folder not in all_labs():
        return LabNotFound(f"no lab {folder.name} is up", hint=f"invoke {up}")
    with state.locked_if_free(folder) as is_free:
        if not is_free:
            return LabNotFound(f"lab {folder.name} is still being brought up", hint=f"invoke {up}")
    return LabNotFound(f"lab {folder.name} has died", hint=f"invoke lab.gc removes what it left; {up}")


def _only_folder() -> LabFolder:
    up = [folder for folder in state.all_folders() if (record := folder.record()) and record.alive()]
    if len(up) == 1:
        return up[0]
    if not up:
        raise LabNotFound("no lab is up", hint="invoke lab.up")
    raise LabNotFound("several labs are up: say which", hint=f"--name; {known()}")


def _left_by_the_dead(folder: LabFolder) -> str:
    return f"removing what an unfinished or dead lab {folder.name} left"
