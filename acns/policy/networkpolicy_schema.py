"""The structure of NetworkPolicy (networking.k8s.io/v1), as pydantic models, with the API server's checks."""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from acns.located import did_you_mean
from acns.policy.cidrs import CIDRText
from acns.policy.cnp_values import MAX_PORT
from acns.policy.metadata_schema import PolicyMetadata
from acns.policy.selector_schema import KubernetesSelector
from acns.policy.structure import Strict, refuse

POLICY_TYPES = ("Egress", "Ingress")
PROTOCOLS = ("SCTP", "TCP", "UDP")
_PORT_NAME = r"(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*"


def _policy_type(name: str) -> str:
    if name not in POLICY_TYPES:
        refuse(f"unknown policy type '{name}'", did_you_mean(name, POLICY_TYPES))
    return name


def _protocol(name: str) -> str:
    if name not in PROTOCOLS:
        refuse(f"unknown protocol '{name}'", did_you_mean(name, PROTOCOLS))
    return name


def _port(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        refuse("must be a number or the name of a port")
    if isinstance(value, int) and not 1 <= value <= MAX_PORT:
        refuse(f"port {value} is out of range", f"1 to {MAX_PORT}; leave it out for every port")
    if isinstance(value, str) and not re.fullmatch(_PORT_NAME, value):
        number = re.fullmatch(r"[0-9]+", value)
        hint = "a number has no quotes here" if number else "15 small letters, digits and '-' at most"
        refuse(f"'{value}' is not the name of a port", hint)
    return value


PortValue = Annotated[
    Any,
    BeforeValidator(_port),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_PORT},
                {"type": "string", "pattern": f"^{_PORT_NAME}$"},
            ]
        }
    ),
]


class Port(Strict):
    """An entry of `ports`."""

    model_config = pydantic.ConfigDict(
        json_schema_extra={
            "if": {"required": ["endPort"]},
            "then": {"required": ["port"], "properties": {"port": {"type": "integer"}}},
        }
    )

    protocol: Annotated[str, AfterValidator(_protocol), WithJsonSchema({"enum": list(PROTOCOLS)})] | None = (
        None
    )
    """TCP where absent."""
    port: PortValue | None = None
    """A number, or the name of a container port. Where absent: every port of the protocol."""
    endPort: Annotated[int | None, Field(json_schema_extra={"minimum": 1, "maximum": MAX_PORT})] = None
    """The last port of a range that begins with `port`."""

    @pydantic.model_validator(mode="after")
    def _range(self) -> Port:
        if self.endPort is None:
            return self
        if not isinstance(self.port, int):
            refuse("endPort needs a port that is a number")
        if not self.port <= self.endPort <= MAX_PORT:
            refuse(f"endPort {self.endPort} must lie between port {self.port} and {MAX_PORT}")
        return self


class IPBlock(Strict):
    """A network outside the cluster: for Cilium it selects neither pods nor nodes."""

    cidr: CIDRText
    """The network, such as 203.0.113.0/24."""
    except_: Annotated[list[CIDRText] | None, Field(alias="except")] = None
    """Networks inside `cidr` that are not meant."""


class Peer(Strict):
    """An entry of `from` and `to`: pods (in namespaces), or an `ipBlock`."""

    model_config = pydantic.ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"anyOf": [{"required": ["podSelector"]}, {"required": ["namespaceSelector"]}]},
                {"required": ["ipBlock"]},
            ]
        }
    )

    podSelector: KubernetesSelector | None = None
    """Pods, of the policy's namespace or, with `namespaceSelector`, of the namespaces that it selects."""
    namespaceSelector: KubernetesSelector | None = None
    """All pods of these namespaces, or with `podSelector` those of its pods; {} is every namespace."""
    ipBlock: IPBlock | None = None

    @pydantic.model_validator(mode="after")
    def _one_kind(self) -> Peer:
        selects_pods = self.podSelector is not None or self.namespaceSelector is not None
        if self.ipBlock is None and not selects_pods:
            refuse("names no peer", "podSelector: {} is every pod of the namespace")
        if self.ipBlock is not None and selects_pods:
            refuse("ipBlock cannot stand beside a selector", "make it two entries: they add up")
        return self


class IngressRule(Strict):
    """An entry of `ingress`; {} allows everything."""

    from_: Annotated[list[Peer] | None, Field(alias="from")] = None
    """Where absent or empty: from anywhere."""
    ports: list[Port] | None = None
    """The pod's own ports. Where absent or empty: all."""


class EgressRule(Strict):
    """An entry of `egress`; {} allows everything."""

    to: list[Peer] | None = None
    """Where absent or empty: any destination."""
    ports: list[Port] | None = None
    """Ports of the backends, after Service translation. Where absent or empty: all."""


class Spec(Strict):
    """`spec`: which pods, what they may open, and what may be opened to them."""

    podSelector: KubernetesSelector | None = None
    """The pods that the rules are about; {} is every pod of the namespace."""
    ingress: list[IngressRule] | None = None
    """What may be opened to the pods."""
    egress: list[EgressRule] | None = None
    """What the pods may open."""
    policyTypes: (
        list[Annotated[str, AfterValidator(_policy_type), WithJsonSchema({"enum": list(POLICY_TYPES)})]]
        | None
    ) = None
    """The directions in which the pods deny what no rule allows. Where absent: Ingress, and Egress if there
    are rules for it."""


class PolicyObject(Strict):
    """The whole object."""

    apiVersion: str | None = None
    kind: str | None = None
    metadata: PolicyMetadata
    spec: Spec | None = None
    status: Any = None
    """It decides nothing."""
