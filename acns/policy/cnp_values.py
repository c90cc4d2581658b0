"""Single texts of Cilium's policy language: names, entities, ports, ICMP types.

Each is checked by itself, with the API server's rules (the CRD) and the agent's: what either refuses is
refused here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, WithJsonSchema

from acns.dns import pattern
from acns.dns.pattern import FQDNSelector
from acns.located import did_you_mean
from acns.policy.icmp_types import NUMBER_ONLY, TYPES
from acns.policy.model import Protocol
from acns.policy.structure import refuse

MAX_PORT = 65_535
MAX_PORT_NAME = 15  # characters: RFC 6335, 5.1

# --- names and patterns -----------------------------------------------------------------------------------

match_name = lru_cache(maxsize=4096)(pattern.match_name)
match_pattern = lru_cache(maxsize=4096)(pattern.match_pattern)
"""Policies repeat names, under rules.dns and toFQDNs above all: one selector each, compiled once."""


def _name(text: str) -> str:
    try:
        match_name(text)
    except ValueError as error:
        refuse(str(error))
    return text


def _pattern(text: str) -> str:
    try:
        match_pattern(text)
    except ValueError as error:
        refuse(str(error))
    return text


def fqdn_selector(name: str | None, pattern_text: str | None) -> FQDNSelector:
    """Of checked texts, one of them given."""
    return match_name(name) if name is not None else match_pattern(pattern_text or "")


# --- entities ---------------------------------------------------------------------------------------------

IN_CRD = (
    "all", "cluster", "health", "host", "ingress", "init", "kube-apiserver", "none", "remote-node",
    "unmanaged", "world",
)  # fmt: skip
NOT_IN_CRD = ("world-ipv4", "world-ipv6")
ENTITIES = (*IN_CRD, *NOT_IN_CRD)
RESERVED_LABELS = tuple(name for name in ENTITIES if name not in ("all", "cluster"))
"""Those that are a label as well: `reserved:host`."""
WITHOUT_MEMBERS = {
    "health": "no health endpoints",
    "ingress": "no ingress proxies",
    "init": "no initializing endpoints",
    "unmanaged": "no pods that policy does not manage",
}
"""Entities that nobody belongs to here, and why."""


def _entity(name: str) -> str:
    if name not in ENTITIES:
        refuse(f"unknown entity '{name}'", did_you_mean(name, IN_CRD))
    return name


# --- ports ------------------------------------------------------------------------------------------------

PROTOCOLS = tuple(Protocol)
_ICMP = ("ICMP", "ICMPv6", "ICMPV6")
_WITHOUT_PORTS = ("AH", "ESP", "GRE", "IGMP", "IPIP", "IPV6", "VRRP")


def _protocol(name: str) -> str:
    if name in _ICMP:
        refuse(f"toPorts knows no {name}", "write icmps: [{fields: [{type: EchoRequest}]}]")
    if name in _WITHOUT_PORTS:
        refuse(f"protocol {name} is refused: it has no ports, and Cilium takes it only with a flag")
    if name not in PROTOCOLS:
        refuse(f"unknown protocol '{name}'", did_you_mean(name, PROTOCOLS))
    return name


def is_port_name(text: str) -> bool:
    """A service name in IANA's sense (RFC 6335, 5.1): Cilium asks this first, so `0x10` is a name."""
    return (
        len(text) <= MAX_PORT_NAME
        and re.fullmatch(r"(?=.*[A-Za-z])[A-Za-z0-9]+(-[A-Za-z0-9]+)*", text) is not None
    )


def port_number(text: str) -> int:
    """Of a text that is no name. A leading zero makes it octal, as for Cilium (strconv.ParseUint, base 0).
    Raises ValueError."""
    if not re.fullmatch(r"[0-9]+", text):
        raise ValueError(text)
    return int(text, 8 if text.startswith("0") else 10)


def is_octal(text: str) -> bool:
    return re.fullmatch(r"0[0-7]+", text) is not None


def _port(text: str) -> str:
    if is_port_name(text):
        return text
    try:
        number = port_number(text)
    except ValueError:
        if re.fullmatch(r"0[0-9]+", text):
            refuse(f"'{text}' is not a port: a leading zero makes it an octal number", "leave the zero out")
        long = re.fullmatch(r"[-A-Za-z0-9]{16,}", text)
        hint = "a port's name has 15 characters at most" if long else 'write it as in "53" or "http"'
        refuse(f"'{text}' is neither a port number nor a port's name", hint)
    if number > MAX_PORT:
        refuse(f"port {text} is out of range", f"0 (any port) to {MAX_PORT}")
    return text


def _end_port(number: int) -> int:
    if not 0 <= number <= MAX_PORT:
        refuse(f"{number} is not a port", f"0 to {MAX_PORT}")
    return number


# --- ICMP -------------------------------------------------------------------------------------------------

FAMILIES = tuple(TYPES)
MAX_ICMP_TYPE = 255


def _family(name: str) -> str:
    if name not in FAMILIES:
        refuse(f"unknown family '{name}'", did_you_mean(name, FAMILIES))
    return name


def icmp_type(value: int | str, family: str) -> int:
    """The number of an ICMP type given as number, as text of a number, or by Cilium's name for it. Raises
    ValueError that says what to write instead."""
    text = str(value)
    if text in TYPES[family]:
        return TYPES[family][text]
    if text in NUMBER_ONLY[family]:
        raise ValueError(f"the API server refuses this name: write its number, {NUMBER_ONLY[family][text]}")
    if re.fullmatch(r"-?[0-9]+", text):
        if re.fullmatch(r"0|[1-9][0-9]{0,2}", text) and int(text) <= MAX_ICMP_TYPE:
            return int(text)
        raise ValueError(f"0 to {MAX_ICMP_TYPE}")
    raise ValueError(did_you_mean(text, TYPES[family]) or "write its number, or a name such as EchoRequest")


def _number_or_text(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        refuse("must be a number or a name", "as in 8 or EchoRequest")
    return value


# --- as types of fields -----------------------------------------------------------------------------------

MatchName = Annotated[
    str,
    AfterValidator(_name),
    WithJsonSchema(
        {"type": "string", "pattern": r"^[-a-zA-Z0-9_]+(\.[-a-zA-Z0-9_]+)*\.?$", "maxLength": 255}
    ),
]
MatchPattern = Annotated[
    str,
    AfterValidator(_pattern),
    WithJsonSchema(
        {"type": "string", "pattern": r"^[-a-zA-Z0-9_*]+(\.[-a-zA-Z0-9_*]+)*\.?$", "maxLength": 255}
    ),
]
EntityName = Annotated[str, AfterValidator(_entity), WithJsonSchema({"enum": list(ENTITIES)})]
ProtocolName = Annotated[
    str, AfterValidator(_protocol), WithJsonSchema({"enum": [str(each) for each in PROTOCOLS]})
]
PortText = Annotated[
    str,
    AfterValidator(_port),
    WithJsonSchema(
        {"type": "string", "pattern": "^([0-9]+|[a-zA-Z0-9]+(-[a-zA-Z0-9]+)*)$", "maxLength": MAX_PORT_NAME}
    ),
]
EndPort = Annotated[
    int,
    AfterValidator(_end_port),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": MAX_PORT}),
]
Family = Annotated[str, AfterValidator(_family), WithJsonSchema({"enum": list(FAMILIES)})]
ICMPType = Annotated[
    Any,
    BeforeValidator(_number_or_text),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 0, "maximum": MAX_ICMP_TYPE},
                {"type": "string", "pattern": "^[0-9]{1,3}$"},
                {"enum": sorted({name for names in TYPES.values() for name in names})},
            ]
        }
    ),
]
