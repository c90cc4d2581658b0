"""The L4 side of a rule: `toPorts` with their names, and `icmps`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

from acns.dns.pattern import FQDNSelector
from acns.located import Path
from acns.policy import profiles
from acns.policy.cidrs import parse_cidr
from acns.policy.cnp_schema import AnyRule, EgressRule
from acns.policy.cnp_traffic_schema import (
    MAX_ICMP_FIELDS,
    MAX_PORTS,
    ICMPRule,
    NameSelector,
    Port,
    PortDenyRule,
    PortRule,
)
from acns.policy.cnp_values import MAX_PORT, is_octal, is_port_name, port_number
from acns.policy.codes import Code
from acns.policy.model import Direction, Protocol
from acns.policy.objects import PortBlock, PortSpec
from acns.policy.profiles import Profile
from acns.policy.structure import Report


@dataclass(frozen=True, slots=True)
class TrafficReader:
    """Reads the traffic of one rule; `verb`: allows or denies."""

    report: Report
    profile: Profile
    direction: Direction
    verb: str

    def port_blocks(self, rule: AnyRule, at: Path) -> tuple[PortBlock, ...] | None:
        """None: every port is meant."""
        entries: Sequence[PortRule | PortDenyRule] = rule.toPorts or ()
        if not entries:
            return None
        return tuple(self._block(rule, entry, (*at, "toPorts", index)) for index, entry in enumerate(entries))

    def _block(self, rule: AnyRule, entry: PortRule | PortDenyRule, at: Path) -> PortBlock:
        models = entry.ports or []
        if not self.report.given((*at, "ports")) and self.report.is_whole(entry, at):
            self.report.error(at, f"'ports' is missing: this entry {self.verb} nothing")
        if len(models) > MAX_PORTS:
            message = f"{len(models)} ports in one entry: Cilium allows {MAX_PORTS}"
            self.report.error((*at, "ports"), message, "make it two entries of toPorts: they add up")
        ports = tuple(self._port(each, (*at, "ports", index)) for index, each in enumerate(models))
        names = entry.rules.dns if isinstance(entry, PortRule) and entry.rules else None
        if names is None:
            return PortBlock(ports)
        self._check_dns(rule, ports, at)
        return PortBlock(ports, tuple(self._names(names, (*at, "rules", "dns"))))

    def _port(self, model: Port, at: Path) -> PortSpec:
        protocol = Protocol(model.protocol or "ANY")
        if is_port_name(model.port):
            if model.endPort:
                message = "endPort is ignored where the port is a name"
                self.report.warn(Code.END_PORT, (*at, "endPort"), message, "write the port's number")
            return PortSpec(protocol, name=model.port.lower())
        first = port_number(model.port)
        if is_octal(model.port):
            message = f"'{model.port}' is port {first}: a leading zero makes it an octal number"
            self.report.warn(Code.OCTAL_PORT, (*at, "port"), message, "leave the zero out")
        last = model.endPort or first
        if last < first:
            message = f"endPort {last} is less than port {first}: Cilium reads port {first} alone"
            self.report.warn(Code.END_PORT, (*at, "endPort"), message)
            last = first
        if first == 0 and 0 < last < MAX_PORT:
            return PortSpec(protocol, 1, last)  # no packet has port 0, so nothing is lost
        return PortSpec(protocol, first, last if first else 0)

    # --- DNS ------------------------------------------------------------------------------------------------

    def _names(self, entries: list[NameSelector], at: Path) -> Iterator[FQDNSelector]:
        if self.report.value(at) == []:
            message = "an empty rules.dns is refused: Cilium reads it as every name"
            self.report.error(at, message, "list the names")
        for index, entry in enumerate(entries):
            selector = entry.selector()
            if finding := profiles.dns_name(self.profile, selector):
                self.report.add(finding.problem(self.report.document, self.report.place((*at, index))))
            yield selector

    def _check_dns(self, rule: AnyRule, ports: Sequence[PortSpec], at: Path) -> None:
        if self.direction is not Direction.EGRESS:
            self.report.error((*at, "rules"), "rules.dns works on egress only")
            return
        for index, each in enumerate(ports):
            self._check_dns_port(each, (*at, "ports", index))
        if isinstance(rule, EgressRule):
            self._check_dns_servers(rule, at)

    def _check_dns_port(self, port: PortSpec, at: Path) -> None:
        if not port.name and port.first == 0:
            message = "rules.dns needs port numbers: 0 (any port) is not one"
            self.report.error(at, message, 'write port: "53"')
        elif port.last > port.first:
            self.report.error(at, "rules.dns does not work on a range of ports", "list the ports one by one")
        if port.protocol is Protocol.SCTP:
            self.report.error(at, "rules.dns works on TCP, UDP or ANY, not on SCTP")

    def _check_dns_servers(self, rule: EgressRule, at: Path) -> None:
        peers = at[:-2]
        if self.report.given((*peers, "toFQDNs")):
            self.report.error(
                (*at, "rules"),
                "rules.dns for servers named by toFQDNs is refused: nothing knows their addresses beforehand",
                "name the DNS server by toEndpoints or toCIDR",
            )
        for index, text in enumerate(rule.toCIDR or []):
            self._check_dns_network(text, (*peers, "toCIDR", index))
        for index, entry in enumerate(rule.toCIDRSet or []):
            if entry.cidr is not None:
                self._check_dns_network(entry.cidr, (*peers, "toCIDRSet", index))

    def _check_dns_network(self, text: str, at: Path) -> None:
        network = parse_cidr(text)
        if isinstance(network, IPv4Network) and (finding := profiles.dns_server(network)):
            self.report.add(finding.problem(self.report.document, self.report.place(at)))

    # --- ICMP -----------------------------------------------------------------------------------------------

    def icmps(self, rule: AnyRule, at: Path) -> tuple[int, ...] | None:
        """The IPv4 types; None: the field is absent."""
        at = (*at, "icmps")
        if not rule.icmps:
            return None
        if self.report.given((*at[:-1], "toPorts")):
            hint = f"make it two entries of {at[-3]}: they add up"
            self.report.error(at, "icmps and toPorts cannot stand in one rule", hint)
        return tuple(
            number
            for index, entry in enumerate(rule.icmps)
            for number in self._icmp_types(entry, (*at, index))
        )

    def _icmp_types(self, entry: ICMPRule, at: Path) -> Iterator[int]:
        fields = entry.fields_ or []
        if not self.report.given((*at, "fields")) and self.report.is_whole(entry, at):
            self.report.error(at, f"'fields' is missing: this entry {self.verb} nothing")
        if len(fields) > MAX_ICMP_FIELDS:
            message = f"{len(fields)} fields in one entry: Cilium allows {MAX_ICMP_FIELDS}"
            self.report.error((*at, "fields"), message, "make it two entries of icmps: they add up")
        for index, field in enumerate(fields):
            if field.family == "IPv6":
                message = "an ICMP type of IPv6 is ignored: IPv4 only"
                self.report.warn(Code.IPV6_IGNORED, (*at, "fields", index), message)
            else:
                yield field.number()
