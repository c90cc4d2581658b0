"""The structure of a rule's traffic: ports with their `rules`, names, ICMP types. Part of `cnp_schema`."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from pydantic import Field

from acns.dns.pattern import FQDNSelector
from acns.policy.cnp_values import (
    EndPort,
    Family,
    ICMPType,
    MatchName,
    MatchPattern,
    PortText,
    ProtocolName,
    fqdn_selector,
    icmp_type,
)
from acns.policy.structure import Refused, Strict, check_one_of, needs, one_of, refuse

MAX_PORTS = 40  # pkg/policy/api/rule_validation.go, maxPorts and maxICMPFields
MAX_ICMP_FIELDS = 40

NOT_EMPTY = Field(json_schema_extra={"minItems": 1})
"""For editors, as the limits here: `cnp_traffic` and `cnp_peers` say what is wrong with an empty list."""

_L7 = Annotated[Any, Refused("L7 rules other than DNS are refused: nothing here enforces them")]
_TLS = Annotated[Any, Refused("TLS interception is refused: nothing here enforces it")]


class NameSelector(Strict):
    """An entry of `rules.dns`, and of `toFQDNs`."""

    model_config = one_of("matchName", "matchPattern")

    matchName: MatchName | None = None
    """One name, such as www.example.com."""
    matchPattern: MatchPattern | None = None
    """Names with wildcards: `*` stands for letters, digits, '-' and '_' within one label, a leading `**.` for
    whole labels. `*.example.com` is exactly one label more than example.com, which it does not match."""

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> NameSelector:
        check_one_of(self, "matchName", "matchPattern")
        return self

    def selector(self) -> FQDNSelector:
        return fqdn_selector(self.matchName, self.matchPattern)


class L7Rules(Strict):
    """`rules` of a port: DNS is what is enforced."""

    model_config = pydantic.ConfigDict(json_schema_extra={"minProperties": 1})

    dns: Annotated[list[NameSelector] | None, NOT_EMPTY] = None
    """The names that pods may look up at these servers; all other queries are refused."""
    http: _L7 = None
    kafka: _L7 = None
    l7proto: _L7 = None
    l7: _L7 = None

    @pydantic.model_validator(mode="after")
    def _not_empty(self) -> L7Rules:
        if self.dns is None:
            refuse("says nothing: the API server refuses that", "give dns, or leave 'rules' out")
        return self


class Port(Strict):
    """An entry of `ports`."""

    port: PortText
    """A number in quotes ("53"; "0" is any port), or the name of a container port."""
    protocol: ProtocolName | None = None
    """ANY, or absent: TCP, UDP and SCTP."""
    endPort: EndPort | None = None
    """The last port of a range that begins with `port`."""


class PortRule(Strict):
    """An entry of `toPorts`."""

    model_config = needs("ports")

    ports: Annotated[list[Port] | None, Field(json_schema_extra={"minItems": 1, "maxItems": MAX_PORTS})] = (
        None
    )
    """At most 40. Ports are those of the backends, after Service translation."""
    rules: L7Rules | None = None
    terminatingTLS: _TLS = None
    originatingTLS: _TLS = None
    serverNames: Annotated[Any, Refused("serverNames (TLS SNI) is refused: nothing here enforces it")] = None
    listener: Annotated[Any, Refused("listeners (Envoy) are refused: nothing here enforces them")] = None


class PortDenyRule(Strict):
    """An entry of `toPorts` in a deny section."""

    model_config = needs("ports")

    ports: Annotated[list[Port] | None, Field(json_schema_extra={"minItems": 1, "maxItems": MAX_PORTS})] = (
        None
    )
    """At most 40. Ports are those of the backends, after Service translation."""
    rules: Annotated[Any, Refused("a deny rule takes no L7 rules, as in Cilium")] = None


class ICMPField(Strict):
    """One ICMP type."""

    family: Family | None = None
    """IPv4 where absent; IPv6 is ignored here."""
    type: ICMPType
    """Its number, 0 to 255, or Cilium's name for it, such as EchoRequest."""

    @pydantic.model_validator(mode="after")
    def _type_of_the_family(self) -> ICMPField:
        try:
            icmp_type(self.type, self.family or "IPv4")
        except ValueError as error:
            refuse(f"'{self.type}' is no ICMP type of {self.family or 'IPv4'}", str(error))
        return self

    def number(self) -> int:
        return icmp_type(self.type, self.family or "IPv4")


class ICMPRule(Strict):
    """An entry of `icmps`."""

    model_config = needs("fields")

    fields_: Annotated[
        list[ICMPField] | None,
        Field(alias="fields", json_schema_extra={"minItems": 1, "maxItems": MAX_ICMP_FIELDS}),
    ] = None
    """At most 40 types."""
