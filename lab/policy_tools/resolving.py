"""What a topology's DNS servers say of its names, before anybody asks them: aliases are followed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address

from acns.dns.name import from_text as parse_name
from acns.policy.doubts.scene import Resolutions
from lab.spec.topology import Internet, InternetName

_Records = Mapping[str, list[InternetName]]


def for_pods(internet: Internet) -> Resolutions:
    """Every name's addresses, none for one that has no A record. The server that the cluster's DNS asks comes
    first; of others count the names that it has not."""
    others = (one for one in internet.all_names() if one[0] not in internet.names)
    records = _records([*internet.names.items(), *others])
    return {parse_name(name): set(_addresses(name, records)) for name in records}


def chosen(internet: Internet) -> Resolutions:
    """What any server says. Names that only aliases are for have their addresses by no choice of anybody
    else's, and are left out."""
    records = _records(internet.all_names())
    behind = {each.cname for found in records.values() for each in found}
    return {parse_name(name): set(_addresses(name, records)) for name in records if name not in behind}


def _records(listed: Iterable[tuple[str, InternetName]]) -> _Records:
    found: dict[str, list[InternetName]] = {}
    for name, each in listed:
        found.setdefault(name, []).append(each)
    return found


def _addresses(name: str, records: _Records) -> Iterator[IPv4Address]:
    """At the end of its aliases; the topology's check has let no loop through."""
    for each in records.get(name, ()):
        if each.rcode is not None:
            continue
        yield from each.a
        if each.cname:
            yield from _addresses(each.cname, records)
