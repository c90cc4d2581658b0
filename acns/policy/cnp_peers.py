"""The L3 side of a rule: `toEndpoints`, `fromCIDRSet` and their like.

Where Cilium reads something in a way that surprises (empty lists above all), this does the same and warns, or
refuses where the surprise would open more than anybody wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from acns.located import Path, did_you_mean
from acns.policy import negations, profiles, selectors
from acns.policy.cidrs import contains, ipv4, parse_cidr
from acns.policy.cnp_schema import AnyRule, CIDRRule, EgressDenyRule, EgressRule, ServiceRef
from acns.policy.cnp_traffic_schema import NameSelector
from acns.policy.cnp_values import NOT_IN_CRD, RESERVED_LABELS, WITHOUT_MEMBERS
from acns.policy.codes import Code
from acns.policy.kubernetes import place
from acns.policy.networks import without
from acns.policy.objects import (
    CIDRBlocks,
    CIDRGroupPeer,
    Entity,
    PeerSpec,
    Place,
    SelectedEndpoints,
    SelectedFQDN,
    SelectedServices,
)
from acns.policy.profiles import Profile
from acns.policy.selector_schema import LabelSelector, requirements_of
from acns.policy.selectors import ANY, NAMESPACE, Key, Operator, Selector
from acns.policy.structure import Report

_FIELDS = ("Endpoints", "CIDR", "CIDRSet", "Entities", "Services", "FQDNs")


_STILL_DEFAULT_DENY = "default deny comes with it all the same, unless enableDefaultDeny is false"


@dataclass(frozen=True, slots=True)
class PeerFields:
    """The peers of a rule in either direction; None: not given."""

    prefix: str
    endpoints: list[LabelSelector] | None
    cidr: list[str] | None
    cidr_set: list[CIDRRule] | None
    entities: list[str] | None
    services: list[ServiceRef] | None = None
    fqdns: list[NameSelector] | None = None

    @classmethod
    def of(cls, rule: AnyRule) -> PeerFields:
        match rule:
            case EgressRule():
                return cls(
                    "to", rule.toEndpoints, rule.toCIDR, rule.toCIDRSet, rule.toEntities,
                    rule.toServices, rule.toFQDNs,
                )  # fmt: skip
            case EgressDenyRule():
                return cls("to", rule.toEndpoints, rule.toCIDR, rule.toCIDRSet, rule.toEntities)
        return cls("from", rule.fromEndpoints, rule.fromCIDR, rule.fromCIDRSet, rule.fromEntities)

    def names(self) -> list[str]:
        """What they are called in a rule."""
        return [self.prefix + name for name in _FIELDS]


@dataclass(frozen=True, slots=True)
class PeerReader:
    """Reads the peers of one rule; `namespace` None: of a clusterwide policy; `verb`: allows or denies."""

    report: Report
    profile: Profile
    namespace: str | None
    verb: str

    def peers(self, rule: AnyRule, at: Path) -> tuple[PeerSpec, ...] | None:
        """None: no peer is given; (): given, but nothing is selected."""
        peers = PeerFields.of(rule)
        written = {name: self.report.given((*at, name)) for name in peers.names()}
        given = {name: value != [] for name, value in written.items() if value is not None}
        first, *others = [name for name, used in given.items() if used] or [""]
        for name in others:
            self.report.error(
                (*at, name),
                f"{first} and {name} cannot stand in one rule",
                f"make it two entries of {at[-2]}: they add up",
            )
        for name in (name for name, used in given.items() if not used):
            self._empty(name, at)
        if not given:
            return None
        found = tuple(self._peers(peers, at))
        return found if all(given.values()) else ()

    def _empty(self, name: str, at: Path) -> None:
        if name in ("toFQDNs", "toServices"):
            # Cilium forgets these lists when it looks for empty ones (mergeEndpointSelectors).
            self.report.error(
                (*at, name),
                f"an empty {name} is refused: Cilium reads it as any destination",
                "name something",
            )
            return
        message = f"an empty {name} selects nothing: this rule {self.verb} nothing"
        hint = _STILL_DEFAULT_DENY if self.verb == "denies" else ""
        self.report.warn(Code.EMPTY_PEERS, (*at, name), message, hint)

    def _peers(self, peers: PeerFields, at: Path) -> Iterator[PeerSpec]:
        prefix = peers.prefix
        for index, model in enumerate(peers.endpoints or []):
            yield from self._endpoints(model, (*at, f"{prefix}Endpoints", index))
        if networks := self._networks(peers.cidr or [], (*at, f"{prefix}CIDR")):
            yield CIDRBlocks(networks)
        for index, entry in enumerate(peers.cidr_set or []):
            yield from self._cidr_rule(entry, (*at, f"{prefix}CIDRSet", index))
        for index, name in enumerate(peers.entities or []):
            yield self._entity(name, (*at, f"{prefix}Entities", index))
        for index, service in enumerate(peers.services or []):
            yield self._service(service, (*at, f"{prefix}Services", index))
        for index, names in enumerate(peers.fqdns or []):
            yield self._fqdn(names, (*at, f"{prefix}FQDNs", index))

    # --- pods and entities ----------------------------------------------------------------------------------

    def _endpoints(self, model: LabelSelector, at: Path) -> Iterator[PeerSpec]:
        selector = Selector.of(requirements_of(model, selectors.parse_key))
        if next(selector.reserved(), None):
            yield from self._reserved(selector, at)
            return
        negations.doubt(selector, at, str(NAMESPACE), self.report)
        if self.namespace is None or selector.names_namespace():
            yield SelectedEndpoints(selector)
        else:
            yield SelectedEndpoints(selector.within(self.namespace), scoped=True)

    def _reserved(self, selector: Selector, at: Path) -> Iterator[Entity]:
        """`reserved:host` alone means what the entity host does (EntitySelectorMapping). Beside other
        requirements, or negated, it would select among pods, nodes and networks at once."""
        for requirement in selector.reserved():
            if requirement.key.name not in RESERVED_LABELS:
                hint = did_you_mean(requirement.key.name, RESERVED_LABELS)
                self.report.error(at, f"unknown reserved label '{requirement.key}'", hint)
                return
        (first, *others) = selector.requirements
        means_it = first.operator is Operator.EXISTS or (first.operator, first.values) == (Operator.IN, ("",))
        if means_it and not others:
            yield self._entity(first.key.name, at)
            return
        self.report.error(
            at,
            f"'{selector.key}' is refused: a reserved label is read as an entity, alone and not negated",
            "name the entities, and select pods by entries of their own",
        )

    def _entity(self, name: str, at: Path) -> Entity:
        if name in NOT_IN_CRD:
            message = f"the API server refuses the entity '{name}': Cilium's CRD does not list it"
            self.report.warn(Code.ENTITY_NOT_IN_CRD, at, message, "write world")
        if name == "world-ipv6":
            self.report.warn(Code.IPV6_IGNORED, at, f"the entity '{name}' selects nothing: IPv4 only")
        if name in WITHOUT_MEMBERS:
            message = f"the entity '{name}' selects nothing: there are {WITHOUT_MEMBERS[name]} here"
            self.report.warn(Code.ENTITY_WITHOUT_MEMBERS, at, message)
        return Entity(name)

    # --- networks -------------------------------------------------------------------------------------------

    def _networks(self, texts: list[str], at: Path) -> tuple[IPv4Network, ...]:
        for index, text in enumerate(texts):
            if not isinstance(parse_cidr(text), IPv4Network):
                self._ignore_ipv6(text, (*at, index))
        return ipv4(texts)

    def _ignore_ipv6(self, text: str, at: Path) -> None:
        self.report.warn(Code.IPV6_IGNORED, at, f"'{text}' is ignored: IPv4 only")

    def _cidr_rule(self, entry: CIDRRule, at: Path) -> Iterator[PeerSpec]:
        excepted = ipv4(entry.except_ or [])
        if entry.cidr is not None:
            network = parse_cidr(entry.cidr)
            for index, text in enumerate(entry.except_ or []):
                if not contains(network, parse_cidr(text)):
                    self.report.error((*at, "except", index), f"{text} does not lie inside {entry.cidr}")
            if isinstance(network, IPv4Network):
                if all(part.subnet_of(network) for part in excepted) and not without((network,), excepted):
                    message = f"nothing is left of {entry.cidr}: this entry {self.verb} nothing"
                    self.report.warn(Code.EMPTY_PEERS, (*at, "except"), message)
                yield CIDRBlocks((network,), excepted)
            else:
                self._ignore_ipv6(entry.cidr, (*at, "cidr"))
        elif entry.cidrGroupRef is not None:
            written = self._place((*at, "cidrGroupRef"))
            yield CIDRGroupPeer(name=entry.cidrGroupRef, excepted=excepted, place=written)
        elif entry.cidrGroupSelector is not None:
            selector = Selector.of(requirements_of(entry.cidrGroupSelector, _any_source))
            written = self._place((*at, "cidrGroupSelector"))
            yield CIDRGroupPeer(selector=selector, excepted=excepted, place=written)

    # --- Services and names ---------------------------------------------------------------------------------

    def _service(self, service: ServiceRef, at: Path) -> SelectedServices:
        if service.k8sServiceSelector is not None:
            selected = service.k8sServiceSelector
            # Cilium ignores the sources of these keys: a Service's labels have none.
            requirements = requirements_of(selected.selector, lambda key: _any_source(key.rpartition(":")[2]))
            return SelectedServices(selected.namespace or "", selector=Selector.of(requirements))
        name, namespace = "", ""
        if service.k8sService is not None:
            name, namespace = service.k8sService.serviceName, service.k8sService.namespace or ""
        if not namespace:
            self.report.warn(
                Code.SERVICE_ANY_NAMESPACE,
                (*at, "k8sService"),
                f"without a namespace this means the Services '{name}' of every namespace",
                "add the namespace",
            )
        return SelectedServices(namespace, name)

    def _fqdn(self, entry: NameSelector, at: Path) -> SelectedFQDN:
        selector = entry.selector()
        if finding := profiles.fqdn_peer(self.profile, selector):
            self.report.add(finding.problem(self.report.document, self.report.place(at)))
        return SelectedFQDN(selector, self._place(at))

    def _place(self, at: Path) -> Place:
        return place(self.report.document, self.report.place(at))


def _any_source(name: str) -> Key:
    return Key(ANY, name)
