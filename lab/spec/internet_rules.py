"""What must hold of the Internet in a topology: its names lead somewhere, its addresses can be routed, and
every server can do what its names ask of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address

from acns.errors import Problem
from acns.located import Document
from acns.located import Path as Where
from lab.spec import findings, rdata
from lab.spec.plan import CLUSTER_DOMAIN, PODS, PODS_V6, SERVICES, UNDERLAY, UNDERLAY_V6
from lab.spec.topology import InternetName, InternetServer, Topology

_TAKEN_BY_THE_LAB = ("dns", "web")
"""`internet/dns` and `internet/web` are processes."""
_SCRIPTED_ONLY = ("rotate", "delay_ms", "rcode", "truncate")


def check(topology: Topology, document: Document) -> Iterator[Problem]:
    """Every problem with it."""
    internet = topology.internet
    if reason := _unroutable(internet.dns):
        yield document.problem(("internet", "dns"), reason)
    yield from _names(internet.names, document, ("internet", "names"))
    yield from _servers(topology, document)


def _servers(topology: Topology, document: Document) -> Iterator[Problem]:
    addresses: list[tuple[Where, str]] = [(("internet", "dns"), str(topology.internet.dns))]
    for index, server in enumerate(topology.internet.servers):
        where: Where = ("internet", "servers", index)
        addresses.append(((*where, "address"), str(server.address)))
        if server.name in _TAKEN_BY_THE_LAB:
            yield document.problem((*where, "name"), f"a DNS server cannot be called '{server.name}' here")
        if reason := _unroutable(server.address):
            yield document.problem((*where, "address"), reason)
        if server.names is not None:
            yield from _names(server.names, document, (*where, "names"))
        if server.kind != "scripted":
            yield from _beyond_it(server, topology, document, where)
    yield from findings.twice(document, "address", addresses)
    names = [
        (("internet", "servers", i, "name"), server.name)
        for i, server in enumerate(topology.internet.servers)
    ]
    yield from findings.twice(document, "DNS server", names)


def _beyond_it(
    server: InternetServer, topology: Topology, document: Document, where: Where
) -> Iterator[Problem]:
    """What only the lab's own server can do."""
    names = topology.internet.names if server.names is None else server.names
    at: Where = ("internet", "names") if server.names is None else (*where, "names")
    for name, records in names.items():
        for field in _SCRIPTED_ONLY:
            if getattr(records, field):
                yield document.problem(
                    (*at, name, field),
                    f"server '{server.name}' is {server.kind}, which cannot do '{field}'",
                    hint="kind: scripted can; or give the server names of its own",
                )


def _names(names: Mapping[str, InternetName], document: Document, at: Where) -> Iterator[Problem]:
    known = findings.written_names(document, at)
    for name, records in names.items():
        where: Where = (*at, name)
        if name.endswith(f".{CLUSTER_DOMAIN}"):
            yield document.problem(
                where, f"'{name}' lies under {CLUSTER_DOMAIN}, which the cluster's DNS answers"
            )
        yield from _records(records, document, where)
        if records.cname and records.cname not in known:
            yield findings.unknown(document, (*where, "cname"), "name", records.cname, known)
        elif records.cname and _loops(name, names):
            yield document.problem((*where, "cname"), f"the CNAMEs from '{name}' lead back to themselves")


def _records(records: InternetName, document: Document, where: Where) -> Iterator[Problem]:
    if records.cname and (records.a or records.aaaa or records.records):
        yield document.problem(
            (*where, "cname"), "a name with a CNAME has no other records (RFC 1034 §3.6.2)"
        )
    if records.rotate and len(records.a) < 2:
        yield document.problem((*where, "rotate"), "rotate needs at least two addresses in 'a'")
    for kind, texts in records.records.items():
        for index, text in enumerate(texts):
            try:
                rdata.packed(kind, text)
            except ValueError as error:
                yield document.problem((*where, "records", kind, index), str(error))
    places: list[tuple[Where, IPv4Address | IPv6Address]] = [
        *(((*where, "a", index), address) for index, address in enumerate(records.a)),
        *(((*where, "aaaa", index), address) for index, address in enumerate(records.aaaa)),
    ]
    for place, address in places:
        if reason := _unroutable(address):
            yield document.problem(place, reason)


def _unroutable(address: IPv4Address | IPv6Address) -> str:
    """Why the Internet cannot own this address; empty when it can."""
    if any(address in network for network in (UNDERLAY, UNDERLAY_V6, PODS, PODS_V6, SERVICES)):
        return f"{address} belongs to the cluster's own networks"
    if address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        return f"{address} is not an address that can be routed"
    return ""


def _loops(name: str, names: Mapping[str, InternetName]) -> bool:
    seen = {name}
    while (records := names.get(name)) and records.cname:
        name = records.cname
        if name in seen:
            return True
        seen.add(name)
    return False
