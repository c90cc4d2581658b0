"""The structure of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2), as pydantic models.

Fields carry Cilium's own names. All that Cilium knows is known here: what is not enforced yet, or cannot be,
is refused with the reason, and only what Cilium does not know either is an "unknown field". Checked here is
each value by itself; `cnp` checks what values mean together.
"""

from __future__ import annotations

import re
from ipaddress import AddressValueError, IPv4Network, IPv6Network, NetmaskValueError, ip_network
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator

from acns.dns import pattern
from acns.located import did_you_mean
from acns.policy import selectors
from acns.policy.selectors import Operator
from acns.policy.structure import Lenient, Strict, refuse, refused

MAX_PORTS = 40  # pkg/policy/api/rule_validation.go, maxPorts


_LATER = "is not supported yet"
_Ingress = Annotated[
    Any, refused(f"ingress policy {_LATER}: only egress is enforced", "move it to a policy of its own")
]
_L7 = Annotated[Any, refused("L7 rules other than DNS are refused: nothing here enforces them")]
_TLS = Annotated[Any, refused("TLS interception is refused: nothing here enforces it")]


# --- values ---------------------------------------------------------------------------------------------


def _label_key(text: str) -> str:
    try:
        key = selectors.parse_key(text)
    except ValueError as error:
        refuse(str(error))
    if key.source == selectors.RESERVED:
        refuse(f"the label '{text}' {_LATER}", "name the entity in toEntities")
    return text


def _match_name(text: str) -> str:
    try:
        pattern.match_name(text)
    except ValueError as error:
        refuse(str(error))
    return text


def _match_pattern(text: str) -> str:
    try:
        pattern.match_pattern(text)
    except ValueError as error:
        refuse(str(error))
    return text


def parse_cidr(text: str) -> IPv4Network | IPv6Network:
    """A CIDR or a single address; bits beyond the prefix are cut off, as Cilium does. Raises ValueError."""
    if "/" in text and not text.rpartition("/")[2].isdecimal():
        raise ValueError(text)  # ip_network takes netmasks (10.0.0.0/255.0.0.0), Cilium does not
    return ip_network(text, strict=False)


def _cidr(text: str) -> str:
    try:
        parse_cidr(text)
    except (AddressValueError, NetmaskValueError, ValueError):
        refuse(f"'{text}' is neither a CIDR nor an IP address", "write it as in 203.0.113.0/24")
    return text


ENTITIES = ("all", "cluster", "host", "none", "remote-node", "world")
_REFUSED_ENTITIES = (
    "health", "ingress", "init", "kube-apiserver", "unmanaged", "world-ipv4", "world-ipv6",
)  # fmt: skip


def _entity(name: str) -> str:
    if name in _REFUSED_ENTITIES:
        refuse(f"the entity '{name}' {_LATER}", f"known here: {', '.join(ENTITIES)}")
    if name not in ENTITIES:
        refuse(f"unknown entity '{name}'", did_you_mean(name, ENTITIES))
    return name


def _operator(name: str) -> str:
    if name not in tuple(Operator):
        refuse(f"unknown operator '{name}'", did_you_mean(name, tuple(Operator)))
    return name


_PROTOCOLS = ("ANY", "SCTP", "TCP", "UDP")
_REFUSED_PROTOCOLS = ("ICMP", "ICMPv6", "IGMP", "VRRP")


def _protocol(name: str) -> str:
    if name in _REFUSED_PROTOCOLS:
        refuse(f"protocol {name} in toPorts {_LATER}", f"known here: {', '.join(_PROTOCOLS)}")
    if name not in _PROTOCOLS:
        hint = f"did you mean '{name.upper()}'?" if name.upper() in _PROTOCOLS else ""
        refuse(f"unknown protocol '{name}'", hint or did_you_mean(name, _PROTOCOLS))
    return name


def _port(text: str) -> str:
    if re.fullmatch(r"[0-9]+", text):
        if int(text) > 65_535:
            refuse(f"port {text} is out of range", "0 (any port) to 65535")
    elif re.fullmatch(r"(?=.*[A-Za-z])[-A-Za-z0-9]{1,63}", text):
        refuse(f"the named port '{text}' {_LATER}", "write its number")
    else:
        refuse(f"'{text}' is not a port", 'write its number in quotes, as in "53"')
    return text


def _end_port(value: Any) -> Any:
    return (
        value
        if value in (None, 0)
        else refuse(f"endPort (a range of ports) {_LATER}", "list the ports one by one")
    )


LabelKey = Annotated[str, AfterValidator(_label_key)]
CIDRText = Annotated[str, AfterValidator(_cidr)]
MatchName = Annotated[str, AfterValidator(_match_name)]
MatchPattern = Annotated[str, AfterValidator(_match_pattern)]


# --- selectors --------------------------------------------------------------------------------------------


class MatchExpression(Strict):
    """One entry of `matchExpressions`."""

    key: LabelKey
    operator: Annotated[str, AfterValidator(_operator)]
    values: list[str] | None = None

    @pydantic.model_validator(mode="after")
    def _values_fit(self) -> MatchExpression:
        takes_values = self.operator in (Operator.IN, Operator.NOT_IN)
        if takes_values and not self.values:
            refuse(f"operator {self.operator} needs values")
        if not takes_values and self.values:
            refuse(f"operator {self.operator} takes no values")
        return self


class LabelSelector(Strict):
    """Pods by their labels; empty: all of them."""

    matchLabels: dict[LabelKey, str] | None = None
    matchExpressions: list[MatchExpression] | None = None


# --- ports and DNS ----------------------------------------------------------------------------------------


class DNSRule(Strict):
    """An entry of `rules.dns`, and of `toFQDNs`: exactly one of the two."""

    matchName: MatchName | None = None
    matchPattern: MatchPattern | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> DNSRule:
        if (self.matchName is None) == (self.matchPattern is None):
            refuse("give either matchName or matchPattern, and one of them only")
        return self

    def selector(self) -> pattern.FQDNSelector:
        if self.matchName is not None:
            return pattern.match_name(self.matchName)
        return pattern.match_pattern(self.matchPattern or "")


class L7Rules(Strict):
    """`rules` of a port: DNS is what is enforced."""

    dns: list[DNSRule] | None = None
    http: _L7 = None
    kafka: _L7 = None
    l7proto: _L7 = None
    l7: _L7 = None


class Port(Strict):
    """An entry of `ports`. The port is text in Cilium: it may be a name."""

    port: Annotated[str, AfterValidator(_port)]
    protocol: Annotated[str, AfterValidator(_protocol)] | None = None
    endPort: Annotated[Any, BeforeValidator(_end_port)] = None


class PortRule(Strict):
    """An entry of `toPorts`."""

    ports: list[Port] | None = None
    rules: L7Rules | None = None
    terminatingTLS: _TLS = None
    originatingTLS: _TLS = None
    serverNames: Annotated[Any, refused("serverNames (TLS SNI) is refused: nothing here enforces it")] = None
    listener: Annotated[Any, refused("listeners (Envoy) are refused: nothing here enforces them")] = None


# --- rules ------------------------------------------------------------------------------------------------


class EgressRule(Strict):
    """An entry of `egress`."""

    toEndpoints: list[LabelSelector] | None = None
    toCIDR: list[CIDRText] | None = None
    toEntities: list[Annotated[str, AfterValidator(_entity)]] | None = None
    toFQDNs: list[DNSRule] | None = None
    toPorts: list[PortRule] | None = None
    toCIDRSet: Annotated[Any, refused(f"toCIDRSet {_LATER}", "list the CIDRs in toCIDR")] = None
    toServices: Annotated[
        Any, refused(f"toServices {_LATER}", "select the Service's pods by toEndpoints")
    ] = None
    toRequires: Annotated[Any, refused("toRequires is refused: Cilium has deprecated it")] = None
    toNodes: Annotated[
        Any, refused("toNodes is refused: it needs Cilium's node labels", "toEntities: [host, remote-node]")
    ] = None
    toGroups: Annotated[Any, refused("toGroups is refused: it asks a cloud provider's API")] = None
    icmps: Annotated[Any, refused(f"icmps {_LATER}")] = None
    authentication: Annotated[Any, refused("mutual authentication is refused: nothing here enforces it")] = (
        None
    )


class DefaultDeny(Strict):
    """`enableDefaultDeny`."""

    egress: bool | None = None
    ingress: bool | None = None


class Log(Strict):
    value: str | None = None


def _absent_if_empty(value: Any) -> Any:
    """An empty section counts as absent (Rule.Sanitize looks at lengths)."""
    return None if value == [] else value


class Spec(Strict):
    """`spec`, or an entry of `specs`."""

    endpointSelector: LabelSelector | None = None
    egress: list[EgressRule] | None = None
    enableDefaultDeny: DefaultDeny | None = None
    description: str | None = None
    labels: Any = None
    log: Log | None = None
    nodeSelector: Annotated[
        Any, refused("host policies (nodeSelector) are refused: rules apply to pods only")
    ] = None
    ingress: Annotated[_Ingress, BeforeValidator(_absent_if_empty)] = None
    ingressDeny: Annotated[_Ingress, BeforeValidator(_absent_if_empty)] = None
    egressDeny: Annotated[
        Any,
        refused(f"egressDeny {_LATER}", "leave out what is not to be allowed: policies deny by default"),
        BeforeValidator(_absent_if_empty),
    ] = None


def _object_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", text):
        refuse(f"'{text}' is not a name", "small letters, digits, '-' and '.', 253 characters at most")
    return text


def _namespace_name(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        refuse(f"'{text}' is not a namespace", "small letters, digits and '-', 63 characters at most")
    return text


class Metadata(Lenient):
    """Of `metadata` only the names count; the API server adds a good deal more."""

    name: Annotated[str, AfterValidator(_object_name)]
    namespace: Annotated[str, AfterValidator(_namespace_name)] | None = None


class PolicyObject(Strict):
    """The whole object."""

    apiVersion: str | None = None
    kind: str | None = None
    metadata: Metadata
    spec: Spec | None = None
    specs: list[Spec] | None = None
    status: Any = None
