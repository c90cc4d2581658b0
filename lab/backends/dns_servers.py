"""The DNS servers of a lab, in pods and of the Internet, each of the kind that the topology says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from lab.backends.environment import base_environment
from lab.backends.network import INTERNET, pod_place
from lab.backends.order import Order
from lab.backends.site import Site, python, ready_by_descriptor
from lab.kernel.netns import Namespace
from lab.runtime.readiness import PortReady
from lab.runtime.supervise import Program
from lab.spec.plan import CLUSTER_DOMAIN, PodPlan
from lab.spec.topology import DNSProgram, InternetName, InternetServer, Pod, Topology
from lab.world import cluster_dns, dns, unbound

INTERNET_DNS = "internet/dns"
POD_RECORDS = "names.json"
"""In the home of a pod with a scripted server."""


@dataclass(frozen=True, slots=True)
class _Scripted:
    """One of the lab's own servers: its files, and where it listens."""

    records: Path
    query_log: Path
    address: IPv4Address
    port: int = 53

    def command(self, ready_fd: int) -> list[str]:
        return python(
            dns.command(
                records=self.records,
                listen=[self.address],
                query_log=self.query_log,
                port=self.port,
                ready_fd=ready_fd,
            )
        )


def internet(site: Site) -> list[Program]:
    """That which everybody asks, and the others."""
    folder, topology = site.folder, site.order.topology
    first = _Scripted(folder.records_file, folder.query_log, topology.internet.dns)
    place = site.namespaces[INTERNET]
    return [
        ready_by_descriptor(INTERNET_DNS, first.command, place, folder.internet / "dns.log"),
        *(_another(site, server) for server in topology.internet.servers),
    ]


def of_pod(site: Site, pod: Pod, plan: PodPlan, what: DNSProgram) -> Program:
    """The cluster's DNS in this pod."""
    name, home, topology = pod_place(plan.key), site.folder.pod(plan.key), site.order.topology
    place, log = site.namespaces[name], home / "program.log"
    if what.kind == "scripted":
        # Its records are written with those of the Internet's server: both may change while they run.
        server = _Scripted(home / POD_RECORDS, home / "queries.jsonl", plan.address, what.port)
        return ready_by_descriptor(name, server.command, place, log)
    if what.kind == "unbound":
        config = home / "unbound.conf"
        files = {config: unbound.cluster_text(topology, pod, what.port)}
        return _by_port(name, unbound.command(config), place, log, PortReady(what.port), files)
    config = home / "dnsmasq.conf"
    files = {config: cluster_dns.config_text(topology, what.port)}
    return _by_port(name, cluster_dns.command(config), place, log, PortReady(what.port), files)


def scripted_pods(order: Order) -> Iterator[str]:
    """The keys of pods whose server is a scripted one."""
    for pod, plan in zip(order.topology.pods, order.addressing.pods, strict=True):
        if isinstance(pod.program, DNSProgram) and pod.program.kind == "scripted":
            yield plan.key


def pod_records_text(topology: Topology, names: Mapping[str, InternetName]) -> str:
    """The records file of such a pod: the Services, and the Internet's names as they are now."""
    return dns.records_text({**names, **_services(topology)})


def _another(site: Site, server: InternetServer) -> Program:
    folder, place = site.folder.internet, site.namespaces[INTERNET]
    name, log = f"{INTERNET}/{server.name}", folder / f"{server.name}.log"
    names = site.order.topology.internet.names if server.names is None else server.names
    if server.kind == "scripted":
        records, files = site.folder.records_file, {}  # those of all, which may change
        if server.names is not None:
            records = folder / f"dns-{server.name}-names.json"
            files = {records: dns.records_text(names)}
        scripted = _Scripted(records, folder / f"{server.name}-queries.jsonl", server.address)
        return ready_by_descriptor(name, scripted.command, place, log, files)
    # Called so that none is like another file of the Internet's: /etc/resolv.conf lies there, too.
    ready, config = PortReady(53, str(server.address)), folder / f"dns-{server.name}.conf"
    if server.kind == "unbound":
        zone = folder / f"dns-{server.name}.zone"
        files = {zone: unbound.zone_text(names), config: unbound.internet_text(server.address, zone)}
        return _by_port(name, unbound.command(config), place, log, ready, files)
    files = {config: cluster_dns.internet_text(server.address, names)}
    return _by_port(name, cluster_dns.command(config), place, log, ready, files)


def _services(topology: Topology) -> Mapping[str, InternetName]:
    """The Services, as names of a scripted server."""
    return {
        f"{service.name}.{service.namespace}.svc.{CLUSTER_DOMAIN}": InternetName(
            a=(service.cluster_ip,), ttl_s=cluster_dns.LOCAL_TTL_S
        )
        for service in topology.services
    }


def _by_port(
    name: str,
    command: Sequence[str],
    place: Namespace,
    log: Path,
    ready: PortReady,
    files: Mapping[Path, str],
) -> Program:
    return Program(name, lambda _: list(command), place, log, ready, base_environment(), files=files)
