"""The namespace back end: from an order to a running lab, in the holder.

The order of things is what a cluster's is: network, Service translation, files, the Internet and the
agents, and only then the pods' programs, so that a policy is in force before the pods it binds do
anything. Every step says what it did and how long it took. A step that fails ends the holder, and the
kernel cleans up: nothing here undoes anything.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from acns import textfile
from lab.backends import converging, dns_servers, etc_files, programs
from lab.backends.converging import Places, ProgramChanges, Step
from lab.backends.etc_files import EtcTexts
from lab.backends.impairments import Impairments
from lab.backends.network import INTERNET, EtcFiles, Network, node_place, pod_place
from lab.backends.order import Order
from lab.backends.site import Site
from lab.capture import places
from lab.capture.places import PodLink
from lab.errors import InputError
from lab.kernel import nft
from lab.kernel.netns import Namespace
from lab.runtime import readiness
from lab.runtime.state import LabFolder
from lab.runtime.supervise import Program, Supervisor
from lab.spec.topology import InternetName
from lab.world import certs, dns, kubeproxy

Progress = Callable[[str], None]
Action = Callable[[], Awaitable[None]]
Choice = Callable[[str], bool]
"""Whether a program of that name is meant."""


class NetnsLab:
    """A lab under construction, and then the lab itself: its namespaces, files and processes."""

    def __init__(self, folder: LabFolder, supervisor: Supervisor) -> None:
        self.folder = folder
        self.supervisor = supervisor
        self.network = Network()
        self._impairments = Impairments(self.network)
        self.authority = ""
        self._order: Order | None = None
        self._etc: dict[str, EtcTexts] = {}
        self._services: dict[str, str] = {}
        """The translation table that each node has."""

    @property
    def order(self) -> Order:
        """What it was last built or changed for."""
        if self._order is None:
            raise RuntimeError("the lab has not been built")
        return self._order

    def build_network(self, order: Order) -> None:
        """The lab's namespaces with their links, from nothing."""
        addressing, etc = order.addressing, self._write_etc(etc_files.texts(order))
        self.network.begin(addressing, etc[INTERNET])
        self.network.add(addressing.nodes, addressing.pods, etc)
        self._impairments.apply(order)

    async def build(self, order: Order, progress: Progress) -> None:
        """Everything from nothing. Raises when a part cannot be made or does not come up."""
        self._order = order
        steps = Steps(progress)
        topology = order.topology
        with steps.step(f"network: {len(topology.nodes)} nodes, {len(topology.pods)} pods, the Internet"):
            await asyncio.to_thread(self.build_network, order)
            self._record()
        with steps.step(f"Services: {len(topology.services)}, translated as kube-proxy does"):
            await asyncio.to_thread(self._load_services, _services(order))
        with steps.step("certificates, DNS records, manifests"):
            await asyncio.to_thread(self._write_files, order)
        site = self._site(order)
        self.authority = str(site.certificates.ca)
        pairs = programs.agents(site)
        with steps.step(f"the Internet ({len(topology.internet.names)} names), agents: {_names(pairs)}"):
            # The agents first: they take longest.
            await self.supervisor.start([*pairs, programs.recording(site), *programs.internet(site)])
        running = programs.pods(site)
        with steps.step(f"programs of pods: {_names(running)}"):
            await self.supervisor.start(running)

    async def plan(self, order: Order, *, ends_faults: bool = False) -> list[str]:
        """What `converge` would do, in lines; changes nothing. `ends_faults`: what faults hold down now will
        be up by then."""
        return [line for step in await self._steps(order, ends_faults=ends_faults) for line in step.lines]

    async def converge(self, order: Order, progress: Progress) -> int:
        """Make the lab what `order` asks for; what need not change is not touched. Returns how many changes
        `progress` was told of."""
        told = 0
        for step in await self._steps(order):
            await step.do()
            for line in step.lines:
                progress(line)
            told += len(step.lines)
        self._order = order
        return told

    def write_manifest(self, filename: str, text: str) -> bool:
        """The same file for every node's shim, whole at once. False when all had it so already."""
        changed = [_write_if_different(folder / filename, text) for folder in self._manifest_folders()]
        return any(changed)

    def remove_manifest(self, filename: str) -> None:
        for folder in self._manifest_folders():
            if not _is_folder(folder / filename):  # the lab makes none there, and this one may hold anything
                (folder / filename).unlink(missing_ok=True)

    def set_names(self, names: Mapping[str, InternetName]) -> None:
        """Replace the Internet's DNS records; its router owns their addresses from now on."""
        added: dict[IPv4Address | IPv6Address, None] = {}
        for name in names.values():
            added.update(dict.fromkeys((*name.a, *name.aaaa)))
        self.network.own_more(added)
        self._write_records(self.order, names)

    def _write_records(self, order: Order, names: Mapping[str, InternetName]) -> None:
        for path, text in self._records(order, names).items():
            _write_if_different(path, text)

    def _records(self, order: Order, names: Mapping[str, InternetName]) -> dict[Path, str]:
        """The files of the Internet's server, and of those in pods that have the same names."""
        texts = {self.folder.records_file: dns.records_text(names)}
        for key in dns_servers.scripted_pods(order):
            records = self.folder.pod(key) / dns_servers.POD_RECORDS
            texts[records] = dns_servers.pod_records_text(order.topology, names)
        return texts

    # --- what has to change ----------------------------------------------------------------------------

    async def _steps(self, order: Order, *, ends_faults: bool = False) -> list[Step]:
        """Looks at everything, and changes nothing."""
        moved = converging.places(self.network, order)
        processes = self._program_changes(order, moved)
        ended, etc, services = processes.ended, etc_files.texts(order), _services(order)
        return [
            Step(_ends(ended, self.supervisor.programs(), self.network, moved), self._ending(ended)),
            Step(moved.lines, _in_thread(self._move, moved, etc)),
            Step(self._impairments.changes(order), _in_thread(self._impairments.apply, order)),
            Step(self._etc_lines(etc, moved), _in_thread(self._write_etc, etc)),
            Step(self._names_lines(order), _in_thread(self._change_names, order)),
            Step(self._services_lines(services, moved), _in_thread(self._load_services, services)),
            Step((), _in_thread(self._write_files, order)),
            Step(self._manifest_lines(order), _in_thread(self._remove_manifests, order)),
            Step(_program_lines(processes, _is_agent), self._running(order, _is_agent)),
            Step((), self._policy_in_force),
            Step(_program_lines(processes, _is_no_agent), self._running(order, _is_no_agent)),
            await self._repair(processes, ("ready", "held", "not ready") if ends_faults else ("ready",)),
        ]

    def _program_changes(self, order: Order, moved: Places) -> ProgramChanges:
        there = {place: one for place, one in self.network.namespaces.items() if place not in moved.gone}
        site = self._site(order, {**there, **dict.fromkeys(moved.new, converging.NOT_YET)})
        gone = [self.network.namespaces[place] for place in moved.gone]
        return converging.program_changes(self.supervisor.programs(), programs.everything(site), gone)

    def _ending(self, names: Sequence[str]) -> Action:
        return lambda: self.supervisor.end(names)

    def _move(self, moved: Places, etc: Mapping[str, EtcTexts]) -> None:
        """Nodes and pods go with their files and come with new ones."""
        self._record(without=moved.gone)
        self.network.remove(moved.gone_nodes, moved.gone_pods)
        for place in moved.gone:
            shutil.rmtree(etc_files.home(self.folder, place), ignore_errors=True)
            self._etc.pop(place, None)
        for name in moved.gone_nodes:
            self._services.pop(name, None)
        for place in moved.new:  # written whatever an attempt that failed has written
            self._etc.pop(place, None)
        written = self._write_etc({place: etc[place] for place in moved.new})
        self.network.add(moved.new_nodes, moved.new_pods, written)
        self._record()

    def _record(self, without: Container[str] = ()) -> None:
        """Let the recorder listen at every node that is there, and to the Internet; it knows the pods' links.
        Of what is to go it lets go first, and keeps what was recorded there."""
        there = (INTERNET, *map(node_place, self.network.nodes))
        heard = {place: self.network.namespaces[place] for place in there if place not in without}
        pods = {
            key: PodLink(node_place(pod.node), pod.node_interface, self.network.link_number(key))
            for key, pod in self.network.pods.items()
            if pod_place(key) not in without
        }
        places.tell(self.folder.recorder_socket, self.folder.recorded_places, heard, pods)

    def _etc_lines(self, etc: Mapping[str, EtcTexts], moved: Places) -> list[str]:
        changed = [place for place, text in etc.items() if self._etc.get(place) != text]
        return [f"{place}: its files under /etc change" for place in changed if place not in moved.new]

    def _write_etc(self, etc: Mapping[str, EtcTexts]) -> dict[str, EtcFiles]:
        changed = {place: text for place, text in etc.items() if self._etc.get(place) != text}
        self._etc.update(changed)
        return etc_files.write(self.folder, changed)

    def _names_lines(self, order: Order) -> list[str]:
        names = order.topology.internet.names
        records = self._records(order, names).items()
        if all(_content(path) == text for path, text in records if path.parent.is_dir()):
            return []
        is_ours = dns.records_text(self.order.topology.internet.names) == dns.records_text(names)
        return [f"the Internet's DNS records {'restored' if is_ours else 'changed'}"]

    def _change_names(self, order: Order) -> None:
        self.network.own(order.addressing)
        self._write_records(order, order.topology.internet.names)

    def _services_lines(self, services: Mapping[str, str], moved: Places) -> list[str]:
        new = {node.name for node in moved.new_nodes}
        changed = [node for node, text in services.items() if self._services.get(node) != text]
        return [f"node {node}: Services translated anew" for node in changed if node not in new]

    def _load_services(self, services: Mapping[str, str]) -> None:
        for node, text in services.items():
            if self._services.get(node) != text:
                nft.load(self.network.namespaces[node_place(node)], text)
                self._services[node] = text

    def _write_files(self, order: Order) -> None:
        """Certificates, DNS records, and the manifests for every node."""
        certs.ensure(_made(self.folder.certificates), certs.certified_names(order.topology))
        self._write_records(order, order.topology.internet.names)
        for node in self.network.nodes:
            folder = _made(self.folder.manifests(node))
            for filename, text in order.manifests.items():
                _write_if_different(folder / filename, text)

    def _manifest_lines(self, order: Order) -> list[str]:
        folders, ours = [self.folder.manifests(node) for node in self.network.nodes], self.order.manifests
        lines = []
        for filename, text in order.manifests.items():
            if any(_content(folder / filename) != text for folder in folders):
                lines.append(f"manifest {filename} {'restored' if ours.get(filename) == text else 'written'}")
        return [*lines, *(f"manifest {filename} removed" for filename in self._extra_manifests(order))]

    def _remove_manifests(self, order: Order) -> None:
        for filename in self._extra_manifests(order):
            self.remove_manifest(filename)

    def _extra_manifests(self, order: Order) -> list[str]:
        there = (path for folder in self._manifest_folders() for path in folder.iterdir())
        extra = {path.name for path in there if not _is_folder(path)}
        return sorted(extra - order.manifests.keys())

    def _manifest_folders(self) -> list[Path]:
        return [folder for node in self.network.nodes if (folder := self.folder.manifests(node)).is_dir()]

    def _running(self, order: Order, chosen: Choice) -> Action:
        """Programs of a kind as the order wants them, in the namespaces that are there by then."""

        async def run() -> None:
            there = self.supervisor.programs()
            wanted = [one for one in programs.everything(self._site(order)) if chosen(one.name)]
            changed = [one for one in wanted if one.name in there and not there[one.name].is_as(one)]
            await self.supervisor.become(changed)
            await self.supervisor.start([one for one in wanted if one.name not in there])

        return run

    async def _policy_in_force(self) -> None:
        """Wait until every shim that answers has read what was written for it."""
        for node in self.network.nodes.values():
            socket = self.folder.socket(node.index, "shim")
            await readiness.wait_current(socket, self.folder.manifests(node.name))

    async def _repair(self, processes: ProgramChanges, well: Container[str]) -> Step:
        """`well`: states in which nothing has to be done."""
        touched = {*processes.ended, *(one.name for one in processes.changed)}
        down = [
            one for one in await self.supervisor.status() if one.state not in well and one.name not in touched
        ]
        lines = [f"{one.name} was {one.state}: started" for one in down]
        return Step(lines, lambda: self.supervisor.repair([one.name for one in down]))

    def _site(self, order: Order, namespaces: Mapping[str, Namespace] | None = None) -> Site:
        there = self.network.namespaces if namespaces is None else namespaces
        return Site(order, self.folder, there, certs.files(self.folder.certificates))


class Steps:
    """Progress lines: what a step did and how long it took, once it is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self._progress(f"{what} ({1000 * (time.monotonic() - started_s):.0f} ms)")


def _services(order: Order) -> dict[str, str]:
    """The translation table of every node."""
    topology, addressing = order.topology, order.addressing
    return {node.name: kubeproxy.ruleset_text(topology, addressing, node.name) for node in addressing.nodes}


def _is_agent(name: str) -> bool:
    return not name.startswith(("internet/", "pod/"))


def _is_no_agent(name: str) -> bool:
    return not _is_agent(name)


def _ends(names: Sequence[str], there: Mapping[str, Program], network: Network, moved: Places) -> list[str]:
    """Of a node or pod that goes, the end of its programs goes without saying."""
    lost = {network.namespaces[place] for place in moved.gone}
    return [f"{name} ended" for name in names if there[name].namespace not in lost]


def _program_lines(processes: ProgramChanges, chosen: Choice) -> list[str]:
    changed = [f"{one.name} restarted: its settings change" for one in processes.changed]
    started = [f"{one.name} started" for one in processes.started]
    return [line for line in (*changed, *started) if chosen(line.split()[0])]


def _in_thread(function: Callable[..., object], *arguments: object) -> Action:
    async def run() -> None:
        await asyncio.to_thread(function, *arguments)

    return run


def _content(path: Path) -> str | None:
    """None where no text can be read. Raises InputError where no file can be put in its place."""
    if _is_folder(path):
        raise InputError(f"{path} is a folder where the lab has a file", hint="move it away")
    with contextlib.suppress(InputError):
        return textfile.read(path)
    return None


def _is_folder(path: Path) -> bool:
    """Not so a link to one, which can be replaced and removed as a file is."""
    return path.is_dir() and not path.is_symlink()


def _names(started: Sequence[Program]) -> str:
    return ", ".join(program.name for program in started) or "none"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_if_different(path: Path, text: str) -> bool:
    """Write a file that others watch: they see the old text or the new one. False when it was so already."""
    if _content(path) == text:
        return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.rename(path)
    return True
