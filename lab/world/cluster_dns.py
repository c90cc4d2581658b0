"""dnsmasq's configuration: as the cluster's DNS, and as a DNS server of the Internet.

In a cluster it stands where others have CoreDNS: it answers for the Services
(`<svc>.<ns>.svc.cluster.local`), says NXDOMAIN itself to everything else under `cluster.local`, and forwards
all other names to the Internet's DNS, uncached, so that every question of a pod can be counted there.
Checked with 2.90: the question's case (0x20) and EDNS options (cookies) pass both ways, AAAA and HTTPS
records are not stripped, a CNAME chain and its order stay, a TC answer is passed on. It differs from CoreDNS
in two ways: its own NXDOMAIN and NODATA carry no SOA, and a second client that asks the same question while
the first is still open gets the *first* one's spelling back (one upstream query for both), which a resolver
in front of it has to expect of any such forwarder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from lab.spec import rdata
from lab.spec.plan import CLUSTER_DOMAIN
from lab.spec.topology import InternetName, Topology

LOCAL_TTL_S = 30
"""CoreDNS's TTL for Services; dnsmasq's own default is 0."""


def config_text(topology: Topology, port: int = 53) -> str:
    """dnsmasq.conf for a pod: listens on all the pod's addresses."""
    return "\n".join([*_settings(topology, port), *_records(topology)]) + "\n"


def internet_text(address: IPv4Address, names: Mapping[str, InternetName]) -> str:
    """dnsmasq.conf of a server of the Internet that has these names; any other is NXDOMAIN.

    Only addresses and CNAMEs keep their own TTL.
    """
    own = [f"listen-address={address}", "bind-interfaces", "port=53", "address=/#/"]
    return "\n".join([*own, *_of_any(), *_names(names)]) + "\n"


def command(config: Path) -> Sequence[str]:
    """The command line; it stays in the foreground and logs to stderr. Ready when TCP port 53 accepts."""
    return ("dnsmasq", f"--conf-file={config}")


def _settings(topology: Topology, port: int) -> Iterator[str]:
    yield f"port={port}"
    yield from _of_any()
    # Every question reaches the Internet's DNS, and bursts do too (150 is the default).
    yield from ("cache-size=0", "dns-forward-max=10000", "max-tcp-connections=200")
    # By default dnsmasq lowers the EDNS size it passes on to 1232.
    yield "edns-packet-max=4096"
    yield f"local=/{CLUSTER_DOMAIN}/"
    yield f"server={topology.internet.dns}"


def _of_any() -> Iterator[str]:
    yield "keep-in-foreground"
    yield "user=root"  # the lab's folder is closed to everybody else, and the namespace is the fence
    yield "group="  # none: an ordinary user's namespace lets nobody change groups
    yield "pid-file="
    yield "log-facility=-"
    yield "log-queries=extra"
    # Nothing of the machine's: no resolv.conf, no hosts file.
    yield from ("no-resolv", "no-poll", "no-hosts")
    yield f"local-ttl={LOCAL_TTL_S}"


def _records(topology: Topology) -> Iterator[str]:
    for service in topology.services:
        yield f"host-record={service.name}.{service.namespace}.svc.{CLUSTER_DOMAIN},{service.cluster_ip}"


def _names(names: Mapping[str, InternetName]) -> Iterator[str]:
    for name, records in names.items():
        for address in (*records.a, *records.aaaa):
            yield f"host-record={name},{address},{records.ttl_s}"
        if records.cname:
            yield f"cname={name},{records.cname},{records.ttl_s}"
        for kind, texts in records.records.items():
            for text in texts:
                yield f"dns-rr={name},{rdata.NUMBERS[kind]},{rdata.packed(kind, text).hex()}"
