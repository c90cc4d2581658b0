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
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from lab.backends import programs
from lab.backends.network import INTERNET, EtcFiles, Network, node_place, nsswitch_text, pod_place
from lab.backends.order import Order
from lab.kernel import nft
from lab.runtime.state import LabFolder
from lab.runtime.supervise import Program, Supervisor
from lab.spec.topology import InternetName
from lab.world import certs, dns, kubeproxy, pod_files

Progress = Callable[[str], None]


class NetnsLab:
    """A lab under construction, and then the lab itself: its namespaces, files and processes."""

    def __init__(self, folder: LabFolder, supervisor: Supervisor) -> None:
        self.folder = folder
        self.supervisor = supervisor
        self.authority = ""
        self._order: Order | None = None
        self._network: Network | None = None

    @property
    def order(self) -> Order:
        if self._order is None:
            raise RuntimeError("the lab has not been built")
        return self._order

    @property
    def network(self) -> Network:
        if self._network is None:
            raise RuntimeError("the lab has not been built")
        return self._network

    def build_network(self, order: Order) -> None:
        """The lab's namespaces with their links, from nothing."""
        self._order = order
        addressing, etc = order.addressing, self._write_etc()
        self._network = Network()
        self._network.begin(addressing, etc[INTERNET])
        self._network.add(addressing.nodes, addressing.pods, etc)

    async def build(self, order: Order, progress: Progress) -> None:
        """Everything from nothing. Raises when a part cannot be made or does not come up."""
        steps = Steps(progress)
        topology = order.topology
        with steps.step(f"network: {len(topology.nodes)} nodes, {len(topology.pods)} pods, the Internet"):
            await asyncio.to_thread(self.build_network, order)
        with steps.step(f"Services: {len(topology.services)}, translated as kube-proxy does"):
            await asyncio.to_thread(self._load_services)
        with steps.step("certificates, DNS records, manifests"):
            site = await asyncio.to_thread(self._write_files)
        self.authority = str(site.certificates.ca)
        pairs = programs.agents(site)
        with steps.step(f"the Internet ({len(topology.internet.names)} names), agents: {_names(pairs)}"):
            await self.supervisor.start([*programs.internet(site), *pairs])
        running = programs.pods(site)
        with steps.step(f"programs of pods: {_names(running)}"):
            await self.supervisor.start(running)

    async def converge(self, order: Order) -> list[str]:
        """Bring the lab back to `order`, which it was built from. Says what it changed."""
        changed = list(self._restore_manifests(order.manifests))
        if _write_if_different(self.folder.records_file, dns.records_text(order.topology.internet.names)):
            changed.append("the Internet's DNS records restored")
        return changed + await self.supervisor.repair()

    def write_manifest(self, filename: str, text: str) -> bool:
        """The same file for every node's shim, whole at once. False when all had it so already."""
        changed = [_write_if_different(folder / filename, text) for folder in self._manifest_folders()]
        return any(changed)

    def remove_manifest(self, filename: str) -> None:
        for folder in self._manifest_folders():
            (folder / filename).unlink(missing_ok=True)

    def set_names(self, names: Mapping[str, InternetName]) -> None:
        """Replace the Internet's DNS records; its router owns their addresses from now on."""
        added: dict[IPv4Address | IPv6Address, None] = {}
        for name in names.values():
            added.update(dict.fromkeys((*name.a, *name.aaaa)))
        self.network.own_more(added)
        _write_if_different(self.folder.records_file, dns.records_text(names))

    def _load_services(self) -> None:
        for node in self.order.topology.nodes:
            text = kubeproxy.ruleset_text(self.order.topology, self.order.addressing, node.name)
            nft.load(self.network.namespaces[node_place(node.name)], text)

    def _write_files(self) -> programs.Site:
        topology = self.order.topology
        certificates = certs.ensure(_made(self.folder.certificates), certs.certified_names(topology))
        self.folder.records_file.write_text(dns.records_text(topology.internet.names))
        for folder in self._manifest_folders():
            _made(folder)
        for filename, text in self.order.manifests.items():
            self.write_manifest(filename, text)
        return programs.Site(self.order, self.folder, self.network.namespaces, certificates)

    def _write_etc(self) -> dict[str, EtcFiles]:
        """The files under /etc of every namespace."""
        topology, addressing = self.order.topology, self.order.addressing
        nsswitch = self.folder.path / "nsswitch.conf"
        nsswitch.write_text(nsswitch_text())
        outside = f"nameserver {topology.internet.dns}\n"
        etc = {"internet": _etc(self.folder.internet, outside, "127.0.0.1 localhost\n", nsswitch)}
        for node in addressing.nodes:
            hosts = f"127.0.0.1 localhost\n{node.address} {node.name}\n"
            etc[node_place(node.name)] = _etc(self.folder.node(node.name), outside, hosts, nsswitch)
        for pod, plan in zip(topology.pods, addressing.pods, strict=True):
            resolv_conf, hosts = pod_files.resolv_conf(topology, pod), pod_files.hosts(pod, plan.address)
            etc[pod_place(plan.key)] = _etc(self.folder.pod(plan.key), resolv_conf, hosts, nsswitch)
        return etc

    def _restore_manifests(self, wanted: Mapping[str, str]) -> Iterable[str]:
        for filename, text in wanted.items():
            if self.write_manifest(filename, text):
                yield f"manifest {filename} restored"
        extra = {path.name for folder in self._manifest_folders() for path in folder.iterdir()}
        for filename in sorted(extra - wanted.keys()):
            self.remove_manifest(filename)
            yield f"manifest {filename} removed"

    def _manifest_folders(self) -> list[Path]:
        return [self.folder.manifests(node.name) for node in self.order.topology.nodes]


class Steps:
    """Progress lines: what a step did and how long it took, once it is done."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextlib.contextmanager
    def step(self, what: str) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self._progress(f"{what} ({1000 * (time.monotonic() - started_s):.0f} ms)")


def _names(started: Sequence[Program]) -> str:
    return ", ".join(program.name for program in started) or "none"


def _etc(home: Path, resolv_conf: str, hosts: str, nsswitch: Path) -> EtcFiles:
    files = EtcFiles(_made(home) / "resolv.conf", home / "hosts", nsswitch)
    files.resolv_conf.write_text(resolv_conf)
    files.hosts.write_text(hosts)
    return files


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _write_if_different(path: Path, text: str) -> bool:
    """Write a file that others watch: they see the old text or the new one. False when it was so already."""
    with contextlib.suppress(FileNotFoundError):
        if path.read_text() == text:
            return False
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_text(text)
    temporary.rename(path)
    return True
