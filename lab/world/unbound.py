"""unbound's configuration: as the cluster's DNS, and as a DNS server of the Internet.

In a cluster it keeps answers, and hands them out with the TTL that is left, as CoreDNS's cache does: what a
pod gets is older than what the Internet says. It puts the addresses of a name in another order each time. As
a server of the Internet it is authoritative for all names, from a zone file. Checked with 1.17.1: the
question's case comes back, a CNAME chain is given in order, NXDOMAIN carries its SOA.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from lab.spec import rdata
from lab.spec.plan import CLUSTER_DOMAIN
from lab.spec.topology import InternetName, Pod, Topology
from lab.world.zone import NEGATIVE_TTL_S

LOCAL_TTL_S = 30
"""CoreDNS's TTL for Services."""


def command(config: Path) -> Sequence[str]:
    """The command line; it stays in the foreground and logs to stderr. Ready when its TCP port accepts."""
    return ("unbound", "-d", "-c", str(config))


def cluster_text(topology: Topology, pod: Pod, port: int) -> str:
    """unbound.conf for `pod`: the Services by name, all other names from the Internet's DNS."""
    lines = [
        *_server("0.0.0.0", port),
        f'  local-zone: "{CLUSTER_DOMAIN}." static',
        f'  local-data: "{CLUSTER_DOMAIN}. {NEGATIVE_TTL_S} IN SOA {_soa(CLUSTER_DOMAIN + ".")}"',
        *(
            f'  local-data: "{service.name}.{service.namespace}.svc.{CLUSTER_DOMAIN}. {LOCAL_TTL_S} IN A '
            f'{service.cluster_ip}"'
            for service in topology.services
        ),
        "forward-zone:",
        '  name: "."',
        f"  forward-addr: {topology.internet.dns}",
    ]
    return "\n".join(lines) + "\n"


def internet_text(address: IPv4Address, zone_file: Path) -> str:
    """unbound.conf of a server that has every name of the zone file, and no other."""
    lines = [
        *_server(str(address), 53),
        "auth-zone:",
        '  name: "."',
        f'  zonefile: "{zone_file}"',
        "  for-downstream: yes",
        "  for-upstream: no",
    ]
    return "\n".join(lines) + "\n"


def zone_text(names: Mapping[str, InternetName]) -> str:
    """A zone file of the root with all names in it. What text there is of others' is written as octets."""
    return "\n".join([f". {NEGATIVE_TTL_S} IN SOA {_soa('')}", ". 60 IN NS ns.", *_records(names)]) + "\n"


def _server(interface: str, port: int) -> Iterator[str]:
    yield "server:"
    yield f"  interface: {interface}"
    yield f"  port: {port}"
    yield "  access-control: 0.0.0.0/0 allow"
    # The lab's folder is closed to everybody else, and the namespace is the fence.
    yield from ('  username: ""', '  chroot: ""', '  directory: ""', '  pidfile: ""')
    yield from ("  use-syslog: no", '  logfile: ""', "  log-queries: yes", "  do-daemonize: no")
    yield from ("  do-ip6: no", "  num-threads: 1", '  module-config: "iterator"')
    # Nothing is asked of the real Internet: no root hints, no minimised names, private answers are fine.
    yield from ('  root-hints: ""', "  qname-minimisation: no", "  minimal-responses: yes")
    yield from ("  outgoing-range: 4096", "  num-queries-per-thread: 4096")
    yield from ("remote-control:", "  control-enable: no", "server:")


def _records(names: Mapping[str, InternetName]) -> Iterator[str]:
    for name, records in names.items():
        head = f"{name}. {records.ttl_s} IN"
        yield from (f"{head} A {address}" for address in records.a)
        yield from (f"{head} AAAA {address}" for address in records.aaaa)
        if records.cname:
            yield f"{head} CNAME {records.cname}."
        for kind, texts in records.records.items():
            for text in texts:
                data = rdata.packed(kind, text)
                yield f"{head} TYPE{rdata.NUMBERS[kind]} \\# {len(data)} {data.hex()}"


def _soa(owner: str) -> str:
    return f"ns.{owner} hostmaster.{owner} 1 3600 600 86400 {NEGATIVE_TTL_S}"
