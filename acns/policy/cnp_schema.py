"""The structure of CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy (cilium.io/v2), as pydantic models.

Fields carry Cilium's own names. All that Cilium knows is known here: what cannot be enforced is refused with
the reason, and only what Cilium does not know either is an "unknown field". Checked here is each value by
itself; `cnp` checks what values mean together.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, Field, WithJsonSchema

from acns.located import did_you_mean
from acns.policy.cidrs import CIDRText
from acns.policy.cnp_traffic_schema import NOT_EMPTY, ICMPRule, NameSelector, PortDenyRule, PortRule
from acns.policy.cnp_values import EntityName
from acns.policy.metadata_schema import NamespaceName, ObjectName, PolicyMetadata
from acns.policy.selector_schema import KubernetesSelector, LabelSelector
from acns.policy.structure import Refused, Strict, check_one_of, needs, one_of, refuse

_Requires = Annotated[
    Any, Refused("refused: Cilium has deprecated it", "say it in the selectors of the rules themselves")
]
_Nodes = Annotated[
    Any, Refused("refused: it needs Cilium's node labels", "name the entities host and remote-node")
]
_Groups = Annotated[Any, Refused("refused: it asks a cloud provider's API", "list the CIDRs")]
_ENFORCED_MODES = ("required", "test-always-fail")


def _authentication_mode(mode: str) -> str:
    if mode in _ENFORCED_MODES:
        refuse("mutual authentication is refused: nothing here enforces it", "mode: disabled changes nothing")
    if mode != "disabled":
        refuse(f"unknown mode '{mode}'", did_you_mean(mode, ("disabled", *_ENFORCED_MODES)))
    return mode


class Authentication(Strict):
    """Whether the peers must prove who they are; nothing here does that."""

    mode: Annotated[str, AfterValidator(_authentication_mode), WithJsonSchema({"enum": ["disabled"]})]
    """disabled, which changes nothing; Cilium's other modes are refused."""


# --- peers --------------------------------------------------------------------------------------------------


class CIDRRule(Strict):
    """An entry of `toCIDRSet` and `fromCIDRSet`."""

    model_config = one_of("cidr", "cidrGroupRef", "cidrGroupSelector")

    cidr: CIDRText | None = None
    """A network outside the cluster."""
    cidrGroupRef: ObjectName | None = None
    """The name of a CiliumCIDRGroup."""
    cidrGroupSelector: KubernetesSelector | None = None
    """CiliumCIDRGroups by their labels."""
    except_: Annotated[list[CIDRText] | None, Field(alias="except")] = None
    """Networks that are not meant; inside `cidr`, where that is given."""

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> CIDRRule:
        check_one_of(self, "cidr", "cidrGroupRef", "cidrGroupSelector")
        return self


class ServiceName(Strict):
    """A Service by name."""

    serviceName: ObjectName
    """The Service's name."""
    namespace: NamespaceName | None = None
    """Where absent: the Services of that name in every namespace."""


class ServiceSelector(Strict):
    """Services by their labels."""

    selector: LabelSelector
    """On the labels of the Services themselves; sources such as k8s: are ignored."""
    namespace: NamespaceName | None = None
    """Where absent: every namespace."""


class ServiceRef(Strict):
    """An entry of `toServices`."""

    model_config = one_of("k8sService", "k8sServiceSelector")

    k8sService: ServiceName | None = None
    k8sServiceSelector: ServiceSelector | None = None

    @pydantic.model_validator(mode="after")
    def _exactly_one(self) -> ServiceRef:
        check_one_of(self, "k8sService", "k8sServiceSelector")
        return self


class EgressPeers(Strict):
    """What `egress` and `egressDeny` share. One kind of peer per rule."""

    toEndpoints: list[LabelSelector] | None = None
    """Pods. In a namespaced policy a selector without a namespace label means the policy's own namespace."""
    toCIDR: list[CIDRText] | None = None
    """Networks outside the cluster: they select neither pods nor nodes."""
    toCIDRSet: list[CIDRRule] | None = None
    """Networks outside the cluster, with exceptions, or by CiliumCIDRGroup."""
    toEntities: list[EntityName] | None = None
    """Classes of peers. world: outside the cluster; host: the pod's own node; cluster: all of the cluster."""
    icmps: list[ICMPRule] | None = None
    """ICMP types; not together with toPorts."""
    toRequires: _Requires = None
    toNodes: _Nodes = None
    toGroups: _Groups = None


class EgressRule(EgressPeers):
    """An entry of `egress`; {} allows nothing."""

    toServices: Annotated[list[ServiceRef] | None, NOT_EMPTY] = None
    """The backends of Services."""
    toFQDNs: Annotated[list[NameSelector] | None, NOT_EMPTY] = None
    """Addresses outside the cluster, learned from the DNS answers for these names."""
    toPorts: list[PortRule] | None = None
    """Where absent: all ports and protocols of the peers. Without peers: these ports of any destination."""
    authentication: Authentication | None = None


class EgressDenyRule(EgressPeers):
    """An entry of `egressDeny`; {} denies nothing."""

    toPorts: list[PortDenyRule] | None = None
    """Where absent: all ports and protocols of the peers. Without peers: these ports of any destination."""
    toServices: Annotated[
        Any,
        Refused("toServices is refused in egressDeny: Cilium expands it in egress only", "use toEndpoints"),
    ] = None
    toFQDNs: Annotated[
        Any, Refused("egressDeny takes no toFQDNs, as in Cilium", "allow only the names that are meant")
    ] = None


class IngressPeers(Strict):
    """What `ingress` and `ingressDeny` share. One kind of peer per rule."""

    fromEndpoints: list[LabelSelector] | None = None
    """Pods. In a namespaced policy a selector without a namespace label means the policy's own namespace."""
    fromCIDR: list[CIDRText] | None = None
    """Networks outside the cluster: they select neither pods nor nodes."""
    fromCIDRSet: list[CIDRRule] | None = None
    """Networks outside the cluster, with exceptions, or by CiliumCIDRGroup."""
    fromEntities: list[EntityName] | None = None
    """Classes of peers. world: outside the cluster; remote-node: other nodes; cluster: all of the cluster."""
    icmps: list[ICMPRule] | None = None
    """ICMP types; not together with toPorts."""
    fromRequires: _Requires = None
    fromNodes: _Nodes = None
    fromGroups: _Groups = None


class IngressRule(IngressPeers):
    """An entry of `ingress`; {} allows nothing."""

    toPorts: list[PortRule] | None = None
    """The pod's own ports. Where absent: all ports and protocols. Without peers: from anywhere."""
    authentication: Authentication | None = None


class IngressDenyRule(IngressPeers):
    """An entry of `ingressDeny`; {} denies nothing."""

    toPorts: list[PortDenyRule] | None = None
    """The pod's own ports. Where absent: all ports and protocols. Without peers: from anywhere."""


AnyRule = EgressRule | EgressDenyRule | IngressRule | IngressDenyRule


# --- the policy ---------------------------------------------------------------------------------------------


class DefaultDeny(Strict):
    """Whether the selected pods deny what no rule allows; true where a direction has rules."""

    egress: bool | None = None
    """false: these rules alone do not make the pods deny other egress."""
    ingress: bool | None = None
    """false: these rules alone do not make the pods deny other ingress."""


def _log_value(text: str) -> str:
    if not re.fullmatch(r"[ -~]{0,32}", text):
        refuse("at most 32 printable characters")
    return text


class Log(Strict):
    """Kept in flow logs by Cilium; it decides nothing."""

    value: (
        Annotated[
            str, AfterValidator(_log_value), WithJsonSchema({"type": "string", "pattern": "^[ -~]{0,32}$"})
        ]
        | None
    ) = None
    """At most 32 printable characters."""


class RuleLabel(Strict):
    """One of Cilium's own labels of a rule."""

    key: str
    """What it is called."""
    value: str | None = None
    """What it says."""
    source: str | None = None
    """Where it is from, such as k8s or unspec."""


class Spec(Strict):
    """`spec`, or an entry of `specs`: which pods, what they may open, and what may be opened to them."""

    model_config = needs("endpointSelector")

    endpointSelector: LabelSelector | None = None
    """The pods that the rules are about; {} is every pod (of the policy's namespace, if it has one)."""
    egress: list[EgressRule] | None = None
    """What the pods may open. [{}] denies everything; an empty list counts as absent."""
    egressDeny: list[EgressDenyRule] | None = None
    """What the pods may not open, whatever else allows it."""
    ingress: list[IngressRule] | None = None
    """What may be opened to the pods. [{}] denies everything; an empty list counts as absent."""
    ingressDeny: list[IngressDenyRule] | None = None
    """What may not be opened to the pods, whatever else allows it."""
    enableDefaultDeny: DefaultDeny | None = None
    description: str | None = None
    """Words for whoever reads the policy."""
    labels: list[RuleLabel] | None = None
    """Cilium's names for the rule; they decide nothing."""
    log: Log | None = None
    nodeSelector: Annotated[
        Any, Refused("host policies (nodeSelector) are refused: rules apply to pods only")
    ] = None


class PolicyObject(Strict):
    """The whole object."""

    model_config = pydantic.ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["spec"]}, {"required": ["specs"]}]}
    )

    apiVersion: str | None = None
    kind: str | None = None
    metadata: PolicyMetadata
    spec: Spec | None = None
    specs: list[Spec] | None = None
    """Several of what `spec` is one of."""
    status: Any = None
    """The agent's; it decides nothing."""
