"""From the wire of `FQDNData` to this project's values and back, quirks of real peers included.

Real peers put the *text* of an address into `record_ip` and `source_ip` and raw bytes into `EndpointInfo.ip`
and `prefix`; this module reads both forms everywhere and writes what real peers write. IPv6 is read, so that
a dual-stack peer can be served, and left out: nothing here enforces it. Whatever is no address, name or
prefix raises `BadMessage`, which says which field is wrong; nothing is guessed.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Final, TypeVar

from acns.api import fqdndata_pb2 as pb
from acns.dns import name as names
from acns.dns import pattern, wire
from acns.dns.pattern import FQDNSelector
from acns.errors import PeerError
from acns.fqdn import table


class BadMessage(PeerError):
    """The peer sent a value that means nothing; `field` is its path in the message."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


_V4_MAPPED = bytes(10) + b"\xff\xff"
MOST_ADDRESSES: Final = wire.MAX_MESSAGE_OCTETS // 15
"""Of one mapping: one answer holds no more, and an A record of the root is 15 octets long."""

# --- addresses -------------------------------------------------------------------------------------------


def address_from_wire(value: bytes, field: str = "address") -> bytes:
    """4 or 16 raw bytes, from text or raw bytes.

    Text is tried first. Both readings exist for some values (`::12` is four bytes long); taken as IPv6 such
    an address is never opened, taken as IPv4 it would open one that nobody named.
    """
    text_address = _from_text(value)
    if text_address is not None:
        return text_address
    if len(value) in (4, 16):
        return value
    raise BadMessage(field, f"{value[:64]!r} is no address")


def _from_text(value: bytes) -> bytes | None:
    try:
        text = value.decode("ascii")
    except UnicodeDecodeError:
        return None
    with contextlib.suppress(OSError, ValueError):  # reads what ip_address does, four times as fast
        return socket.inet_pton(socket.AF_INET, text)
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


def pod_address_from_wire(value: bytes, field: str) -> bytes:
    """As `address_from_wire`, for a pod's own: Go's 16 bytes of an IPv4 address (`::ffff:a.b.c.d`) are one.

    Not for what names resolve to: an AAAA record of that form opens nothing.
    """
    address = address_from_wire(value, field)
    return address[12:] if address.startswith(_V4_MAPPED) and len(address) == 16 else address


def address_to_wire(address: bytes) -> bytes:
    """The text of a raw address, as bytes: what real peers put in `record_ip` and `source_ip`."""
    text = socket.inet_ntoa(address) if len(address) == 4 else str(ipaddress.ip_address(address))
    return text.encode("ascii")


def ipv4_only(addresses: Iterable[bytes]) -> tuple[bytes, ...]:
    """The raw IPv4 addresses among raw addresses, in order, each once."""
    return tuple(dict.fromkeys(address for address in addresses if len(address) == 4))


# --- prefixes --------------------------------------------------------------------------------------------


def prefix_to_wire(network: IPv4Network) -> bytes:
    """Raw address and one byte of length (Go's `netip.Prefix.MarshalBinary`)."""
    return network.network_address.packed + bytes((network.prefixlen,))


def prefix_from_wire(value: bytes, field: str = "prefix") -> IPv4Network | None:
    """The network; None for an IPv6 one. Host bits are cleared, as a route lookup would. Go's 16 bytes of an
    IPv4 address are one here too."""
    if len(value) not in (5, 17) or value[-1] > 8 * (len(value) - 1):
        raise BadMessage(
            field,
            f"{value[:17].hex()} ({len(value)} octets) is no prefix (raw address and one byte of length)",
        )
    if value.startswith(_V4_MAPPED) and len(value) == 17 and value[-1] >= 96:
        value = value[12:16] + bytes((value[-1] - 96,))
    if len(value) == 17:
        return None
    return IPv4Network((IPv4Address(value[:4]), value[4]), strict=False)


# --- names -----------------------------------------------------------------------------------------------


def name_from_wire(text: str, field: str = "fqdn") -> names.Name:
    """The labels of `fqdn`, lower-case; the trailing dot may be missing. Empty is no name (`.` is one)."""
    if not text:
        raise BadMessage(field, "is empty")
    try:
        return names.from_text(text)
    except ValueError as error:
        raise BadMessage(field, str(error)) from error


def name_to_wire(name: names.Name) -> str:
    """The text of a name, with its trailing dot and RFC 4343 escapes."""
    return names.to_text(name)


# --- mappings --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Mapping:
    """What one answer taught. `addresses` are raw IPv4; empty means there is nothing to commit."""

    name: names.Name
    addresses: tuple[bytes, ...]
    ttl_s: int
    source_identity: int
    source: bytes
    """The pod that asked, raw; empty where the peer did not say."""
    rcode: int = 0


def mapping_to_wire(mapping: Mapping) -> pb.FQDNMapping:
    """The message as real peers write it: addresses as text, the name with its trailing dot."""
    return pb.FQDNMapping(
        fqdn=name_to_wire(mapping.name),
        record_ip=[address_to_wire(address) for address in mapping.addresses],
        ttl=mapping.ttl_s,
        source_identity=mapping.source_identity,
        source_ip=address_to_wire(mapping.source) if mapping.source else b"",
        response_code=mapping.rcode,
    )


def mapping_from_wire(message: pb.FQDNMapping) -> Mapping:
    """The values of a peer's report. Raises BadMessage; IPv6 addresses are left out."""
    return Mapping(
        name=name_from_wire(message.fqdn),
        addresses=ipv4_only(address_from_wire(value, "record_ip") for value in message.record_ip),
        ttl_s=message.ttl,
        source_identity=message.source_identity,
        source=pod_address_from_wire(message.source_ip, "source_ip") if message.source_ip else b"",
        rcode=message.response_code,
    )


def code_name(code: int) -> str:
    """The name of a ResponseCode, without its prefix; a newer peer's is its number."""
    known = code in pb.ResponseCode.values()
    return pb.ResponseCode.Name(code).removeprefix("RESPONSE_CODE_") if known else str(code)  # type: ignore[arg-type]


# --- policy ----------------------------------------------------------------------------------------------

_Made = TypeVar("_Made")
_Steps = Generator[None, None, _Made]
"""Yields after each little step, and returns what was made."""


def policy_table(state: pb.PolicyState) -> table.PolicyTable:
    """The gate's table of one snapshot. Raises BadMessage; half a snapshot is never a table."""
    steps = PolicyReader().read(state)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            made: table.PolicyTable = end.value
            return made


class PolicyReader:
    """Reads one snapshot after the other: patterns that stay are not compiled again."""

    def __init__(self) -> None:
        self._selectors: dict[str, FQDNSelector] = {}
        """Of the last snapshot that could be read, by their text in it; many endpoints share theirs."""

    def read(self, state: pb.PolicyState) -> _Steps[table.PolicyTable]:
        """As `policy_table`, for those who have other things to do meanwhile."""
        selectors: dict[str, FQDNSelector] = {}
        rules = yield from self._rules(state.egress_l7_dns_policy, selectors)
        endpoints = yield from _endpoints(state.identity_to_endpoint_mapping)
        prefixes = yield from _prefixes(state.identity_to_prefix_mapping)
        self._selectors = selectors
        return table.PolicyTable(rules, endpoints, prefixes)

    def _rules(
        self, policies: Iterable[pb.DNSPolicy], selectors: dict[str, FQDNSelector]
    ) -> _Steps[list[table.DNSRule]]:
        rules = []
        for policy in policies:
            of_rule = []
            for text in policy.dns_pattern:
                if text not in selectors:
                    selectors[text] = self._selectors.get(text) or _selector(text)
                of_rule.append(selectors[text])
                yield
            servers = yield from _servers(policy.dns_servers)
            rules.append(table.DNSRule(policy.source_endpoint_id, tuple(of_rule), servers))
            yield
        return rules


def _selector(text: str) -> FQDNSelector:
    try:
        return pattern.from_wire_pattern(text)
    except ValueError as error:
        raise BadMessage("dns_pattern", str(error)) from error


def _servers(servers: Iterable[pb.DNSServer]) -> _Steps[tuple[table.DNSServer, ...]]:
    found = []
    for one in servers:
        found.append(table.DNSServer(one.dns_server_identity, one.dns_server_port, one.dns_server_proto))
        yield
    return tuple(found)


def _endpoints(mappings: Iterable[pb.IdentityToEndpointMapping]) -> _Steps[list[table.EndpointAddress]]:
    found = []
    for mapping in mappings:
        for endpoint in mapping.endpoint_info:
            known: set[bytes] = set()
            for value in endpoint.ip:
                address = pod_address_from_wire(value, "endpoint_info.ip")
                if len(address) == 4 and address not in known:
                    known.add(address)
                    found.append(table.EndpointAddress(address, endpoint.id, mapping.identity))
                yield
            yield
    return found


def _prefixes(mappings: Iterable[pb.IdentityToPrefixMapping]) -> _Steps[list[table.IdentityPrefix]]:
    found = []
    for mapping in mappings:
        for network in map(prefix_from_wire, mapping.prefix):
            if network is not None:
                packed = network.network_address.packed
                found.append(table.IdentityPrefix(packed, network.prefixlen, mapping.identity))
            yield
    return found
