"""FQDNData's messages by hand: protobuf's wire format, and the contract's field numbers.

Written from the contract alone, with nothing of the project's: what the agents' generated code and codec read
and write is checked against this, not against itself. Stand-in programs use it as well, without the project.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, ip_address

SERVICE = "/standalonednsproxy.FQDNData"
STREAM = f"{SERVICE}/StreamPolicyState"
UPDATE = f"{SERVICE}/UpdateMappingRequest"

UNSPECIFIED, NO_ERROR, FORMAT_ERROR, SERVER_FAILURE, NOT_IMPLEMENTED = range(5)
ENDPOINT_NOT_FOUND, INVALID_ARGUMENT, REFUSED = 5, 6, 7
UDP, TCP = 17, 6
NEVER = 4_294_967_295
"""The ttl with which real peers report a query."""

Fields = dict[int, list[int | bytes]]


# --- the wire format --------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def number(tag: int, value: int) -> bytes:
    """A number as field `tag`; proto3 leaves out a zero."""
    return varint(tag << 3) + varint(value) if value else b""


def chunk(tag: int, value: bytes | str) -> bytes:
    """Bytes, a text or a message as field `tag`."""
    value = value.encode() if isinstance(value, str) else value
    return varint(tag << 3 | 2) + varint(len(value)) + value


def read(message: bytes) -> Fields:
    """Every field of a message, by its number; numbers and chunks are all that the contract has."""
    found: Fields = {}
    position = 0
    while position < len(message):
        key, position = _varint_at(message, position)
        value: int | bytes
        value, position = _varint_at(message, position)
        if key & 7 == 2:
            size = value
            value, position = message[position : position + size], position + size
            assert len(value) == size, "cut off"
        else:
            assert key & 7 == 0, f"wire type {key & 7}"
        found.setdefault(key >> 3, []).append(value)
    return found


def _varint_at(message: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        octet = message[position]
        value |= (octet & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if octet < 0x80:
            return value, position


def _numbers(fields: Fields, tag: int) -> int:
    (value,) = fields.get(tag, [0])
    assert isinstance(value, int)
    return value


def _chunks(fields: Fields, tag: int) -> list[bytes]:
    values = fields.get(tag, [])
    assert all(isinstance(value, bytes) for value in values)
    return values  # type: ignore[return-value]


def _text(fields: Fields, tag: int) -> str:
    return b"".join(_chunks(fields, tag)).decode()


# --- policy -----------------------------------------------------------------------------------------------

Server = tuple[int, int, int]
"""Identity, port, protocol."""


@dataclass(frozen=True)
class Rule:
    """DNSPolicy."""

    endpoint: int
    patterns: tuple[str, ...] = ()
    servers: tuple[Server, ...] = ()

    def encoded(self) -> bytes:
        servers = (number(1, one[0]) + number(2, one[1]) + number(3, one[2]) for one in self.servers)
        return (
            number(1, self.endpoint)
            + b"".join(chunk(2, pattern) for pattern in self.patterns)
            + b"".join(chunk(3, server) for server in servers)
        )


@dataclass(frozen=True)
class Snapshot:
    """PolicyState. `endpoints`: identity → endpoint id → addresses; `prefixes`: by identity; all raw."""

    rules: tuple[Rule, ...] = ()
    endpoints: dict[int, dict[int, list[bytes]]] = field(default_factory=dict)
    prefixes: dict[int, list[bytes]] = field(default_factory=dict)
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    more: bytes = b""
    """Fields that the contract does not have."""

    def encoded(self) -> bytes:
        return (
            b"".join(chunk(1, rule.encoded()) for rule in self.rules)
            + (chunk(2, self.request_id) if self.request_id else b"")
            + b"".join(chunk(3, part) for part in self._endpoints())
            + b"".join(
                chunk(4, number(1, identity) + b"".join(chunk(2, one) for one in prefixes))
                for identity, prefixes in self.prefixes.items()
            )
            + self.more
        )

    def _endpoints(self) -> Iterator[bytes]:
        for identity, endpoints in self.endpoints.items():
            infos = (
                number(1, id_) + b"".join(chunk(2, address) for address in addresses)
                for id_, addresses in endpoints.items()
            )
            yield number(1, identity) + b"".join(chunk(2, info) for info in infos)

    @classmethod
    def decoded(cls, message: bytes) -> Snapshot:
        state = read(message)
        assert set(state) <= {1, 2, 3, 4}, "fields that the contract does not have"
        return cls(
            rules=tuple(map(_rule, _chunks(state, 1))),
            endpoints={
                _numbers(one, 1): {_numbers(info, 1): _chunks(info, 2) for info in map(read, _chunks(one, 2))}
                for one in map(read, _chunks(state, 3))
            },
            prefixes={_numbers(one, 1): _chunks(one, 2) for one in map(read, _chunks(state, 4))},
            request_id=_text(state, 2),
        )

    # What a client makes of it, as Cilium's proxy does.

    def endpoint_of(self, address: str) -> int | None:
        raw = IPv4Address(address).packed
        for endpoints in self.endpoints.values():
            for id_, addresses in endpoints.items():
                if raw in addresses:
                    return id_
        return None

    def identity_of(self, address: str) -> int:
        """Of an endpoint, else of the longest prefix, else world (2)."""
        raw = IPv4Address(address)
        for identity, endpoints in self.endpoints.items():
            if any(raw.packed in addresses for addresses in endpoints.values()):
                return identity
        around = [
            (network.prefixlen, identity)
            for identity, prefixes in self.prefixes.items()
            for network in map(network_of, prefixes)
            if raw in network
        ]
        return max(around)[1] if around else 2

    def patterns_for(self, pod: str, server: str, port: int, protocol: int) -> list[tuple[str, ...]]:
        """The patterns of the rules by which this pod may ask this server."""
        wanted = (self.identity_of(server), port, protocol)
        return [
            rule.patterns
            for rule in self.rules
            if rule.endpoint == self.endpoint_of(pod) and wanted in rule.servers
        ]


def _rule(message: bytes) -> Rule:
    fields = read(message)
    servers = tuple(
        (_numbers(one, 1), _numbers(one, 2), _numbers(one, 3)) for one in map(read, _chunks(fields, 3))
    )
    return Rule(_numbers(fields, 1), tuple(one.decode() for one in _chunks(fields, 2)), servers)


def prefix(network: str) -> bytes:
    """Raw address and one byte of length."""
    whole = IPv4Network(network)
    return whole.network_address.packed + bytes([whole.prefixlen])


def network_of(raw: bytes) -> IPv4Network:
    assert len(raw) == 5, raw
    return IPv4Network((raw[:4], raw[4]))


def raw(address: str) -> bytes:
    return ip_address(address).packed


# --- acknowledgements, mappings ---------------------------------------------------------------------------


def acknowledgement(request_id: str = "", response: int = NO_ERROR) -> bytes:
    """PolicyStateResponse; real peers leave request_id empty."""
    return number(1, response) + (chunk(2, request_id) if request_id else b"")


def read_acknowledgement(message: bytes) -> tuple[int, str]:
    """Response and request_id."""
    fields = read(message)
    return _numbers(fields, 1), _text(fields, 2)


@dataclass(frozen=True)
class Report:
    """FQDNMapping."""

    fqdn: str
    record_ip: tuple[bytes, ...] = ()
    ttl: int = 60
    source_ip: bytes = b""
    source_identity: int = 0
    response_code: int = 0
    more: bytes = b""

    def encoded(self) -> bytes:
        return (
            (chunk(1, self.fqdn) if self.fqdn else b"")
            + b"".join(chunk(2, address) for address in self.record_ip)
            + number(3, self.ttl)
            + number(4, self.source_identity)
            + (chunk(5, self.source_ip) if self.source_ip else b"")
            + number(6, self.response_code)
            + self.more
        )

    @classmethod
    def decoded(cls, message: bytes) -> Report:
        fields = read(message)
        assert set(fields) <= {1, 2, 3, 4, 5, 6}, "fields that the contract does not have"
        return cls(
            fqdn=_text(fields, 1),
            record_ip=tuple(_chunks(fields, 2)),
            ttl=_numbers(fields, 3),
            source_ip=b"".join(_chunks(fields, 5)),
            source_identity=_numbers(fields, 4),
            response_code=_numbers(fields, 6),
        )


def response(code: int) -> bytes:
    """UpdateMappingResponse."""
    return number(1, code)


def read_response(message: bytes) -> int:
    return _numbers(read(message), 1)


def texts(addresses: Iterable[str]) -> tuple[bytes, ...]:
    """Addresses as real peers report them."""
    return tuple(address.encode() for address in addresses)


METRICS_DATA = chunk(
    7,
    chunk(1, number(1, 1_234_567) + number(3, 1_000_000))
    + chunk(2, number(1, 1) + chunk(2, "cdn.example.net.") + number(3, 1))
    + number(3, 40_053)
    + chunk(4, "10.96.0.10:53")
    + chunk(6, "UDP")
    + number(7, 1),
)
"""What newer peers add to a report: timings, answer types, ports, verdict."""
