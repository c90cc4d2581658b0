"""One entry of `egress`: from its checked structure to what it means.

Where Cilium reads something in a way that surprises (empty lists above all), this does the same and warns, or
refuses where the surprise would open more than anybody wants.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network

from acns.dns.pattern import FQDNSelector
from acns.located import Path
from acns.policy import cnp_schema, profiles, selectors
from acns.policy.cnp_schema import parse_cidr
from acns.policy.model import Origin, Ports, Protocol
from acns.policy.objects import (
    Destination,
    EgressRule,
    PortBlock,
    ToCIDR,
    ToEndpoints,
    ToEntity,
    ToFQDN,
)
from acns.policy.profiles import Profile
from acns.policy.selectors import Operator, Requirement, Selector
from acns.policy.structure import Report

_PEERS = ("toEndpoints", "toCIDR", "toEntities", "toFQDNs")


@dataclass(frozen=True, slots=True)
class RuleReader:
    """Reads the rules of one policy; `namespace` None: a clusterwide one."""

    report: Report
    profile: Profile
    namespace: str | None
    policy_key: str

    def rule(self, at: Path) -> EgressRule | None:
        model = self.report.valid(cnp_schema.EgressRule, at)
        if model is None:
            return None
        position = self.report.document.position(at)
        section = "egress" if at[-3] == "spec" else f"specs[{at[-3]}].egress"
        index = int(at[-1])
        return EgressRule(
            Origin(
                self.policy_key, section, index, self.report.document.path, position.line, position.column
            ),
            self._peers(model, at),
            self._port_blocks(model, at),
        )

    def _peers(self, rule: cnp_schema.EgressRule, at: Path) -> tuple[Destination, ...] | None:
        given = [name for name in _PEERS if getattr(rule, name) is not None]
        used = [name for name in given if getattr(rule, name)]
        for name in used[1:]:
            self.report.error(
                (*at, name),
                f"{used[0]} and {name} cannot stand in one rule",
                "make it two entries of egress: they add up",
            )
        self._check_empty_peers(given, used, at)
        if not given:
            return None
        if len(given) > len(used):
            return ()
        return tuple(self._destinations(rule, at))

    def _check_empty_peers(self, given: list[str], used: list[str], at: Path) -> None:
        for name in given:
            if name in used:
                continue
            if name == "toFQDNs":
                # Cilium forgets this list when it looks for empty ones (mergeEndpointSelectors).
                self.report.error(
                    (*at, name),
                    "an empty toFQDNs is refused: Cilium reads it as any destination",
                    "name something",
                )
            else:
                self.report.warn((*at, name), f"an empty {name} selects nothing: this rule allows nothing")

    def _destinations(self, rule: cnp_schema.EgressRule, at: Path) -> Iterator[Destination]:
        for selector in rule.toEndpoints or []:
            yield ToEndpoints(self._peer_selector(selector))
        for entity in rule.toEntities or []:
            yield ToEntity(entity)
        if rule.toCIDR:
            yield ToCIDR(tuple(self._networks(rule.toCIDR, (*at, "toCIDR"))))
        for index, entry in enumerate(rule.toFQDNs or []):
            selector_ = entry.selector()
            self._note(profiles.fqdn_peer(self.profile, selector_), (*at, "toFQDNs", index))
            yield ToFQDN(selector_)

    def _peer_selector(self, model: cnp_schema.LabelSelector) -> Selector:
        selector = selector_of(model)
        if self.namespace is None or selector.names_namespace():
            return selector
        return selector.within(self.namespace)

    def _networks(self, texts: list[str], at: Path) -> Iterator[IPv4Network]:
        for index, text in enumerate(texts):
            network = parse_cidr(text)
            if isinstance(network, IPv4Network):
                yield network
            else:
                self.report.warn((*at, index), f"'{text}' is ignored: IPv4 only")

    # --- ports and DNS --------------------------------------------------------------------------------------

    def _port_blocks(self, rule: cnp_schema.EgressRule, at: Path) -> tuple[PortBlock, ...] | None:
        if rule.toPorts == []:
            self.report.warn((*at, "toPorts"), "an empty toPorts counts as absent: every port is open")
        if not rule.toPorts:
            return None
        return tuple(
            self._block(rule, entry, (*at, "toPorts", index)) for index, entry in enumerate(rule.toPorts)
        )

    def _block(self, rule: cnp_schema.EgressRule, entry: cnp_schema.PortRule, at: Path) -> PortBlock:
        ports = entry.ports or []
        if not ports:
            self.report.error(at, "'ports' is missing: this entry allows nothing")
        if len(ports) > cnp_schema.MAX_PORTS:
            self.report.error(
                (*at, "ports"), f"{len(ports)} ports in one entry: Cilium allows {cnp_schema.MAX_PORTS}"
            )
        numbers = tuple(
            Ports(Protocol(each.protocol or "ANY"), int(each.port), int(each.port)) for each in ports
        )
        if entry.rules is None or entry.rules.dns is None:
            return PortBlock(numbers)
        self._check_dns_ports(numbers, at)
        self._check_dns_servers(rule, at)
        return PortBlock(numbers, tuple(self._names(entry.rules.dns, (*at, "rules", "dns"))))

    def _names(self, entries: list[cnp_schema.DNSRule], at: Path) -> Iterator[FQDNSelector]:
        if not entries:
            self.report.error(
                at, "an empty rules.dns is refused: Cilium reads it as every name", "list the names"
            )
        for index, entry in enumerate(entries):
            selector = entry.selector()
            self._note(profiles.dns_name(self.profile, selector), (*at, index))
            yield selector

    def _check_dns_ports(self, ports: Iterable[Ports], at: Path) -> None:
        for index, each in enumerate(ports):
            here = (*at, "ports", index)
            if each.first == 0:
                self.report.error(
                    here, "rules.dns needs port numbers: 0 (any port) is not one", 'write port: "53"'
                )
            if each.protocol is Protocol.SCTP:
                self.report.error(here, "rules.dns works on TCP, UDP or ANY, not on SCTP")

    def _check_dns_servers(self, rule: cnp_schema.EgressRule, at: Path) -> None:
        if rule.toFQDNs:
            self.report.error(
                (*at, "rules"),
                "rules.dns for servers named by toFQDNs is not supported yet",
                "name the DNS server by toEndpoints or toCIDR",
            )
        for index, text in enumerate(rule.toCIDR or []):
            network = parse_cidr(text)
            if isinstance(network, IPv4Network):
                self._note(profiles.dns_server(network), (*at[:-2], "toCIDR", index))

    def _note(self, finding: profiles.Finding | None, at: Path) -> None:
        if finding:
            self.report.add(finding.problem(self.report.document, at))


def selector_of(model: cnp_schema.LabelSelector) -> Selector:
    """matchLabels and matchExpressions as one list of requirements."""
    labels = [
        Requirement(selectors.parse_key(key), Operator.IN, (value,))
        for key, value in (model.matchLabels or {}).items()
    ]
    expressions = [
        Requirement(selectors.parse_key(each.key), Operator(each.operator), tuple(each.values or ()))
        for each in model.matchExpressions or []
    ]
    return Selector.of([*labels, *expressions])
