"""One entry of a section of a policy: from its checked structure to what it means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from acns.located import Path
from acns.policy.cnp_peers import PeerReader
from acns.policy.cnp_schema import AnyRule, EgressDenyRule, EgressRule, IngressDenyRule, IngressRule
from acns.policy.cnp_traffic import TrafficReader
from acns.policy.codes import Code
from acns.policy.model import Direction, Origin
from acns.policy.objects import Rule
from acns.policy.profiles import Profile
from acns.policy.structure import Report


@dataclass(frozen=True, slots=True)
class Section:
    """One of the four lists of rules."""

    name: str
    direction: Direction
    deny: bool
    model: type[AnyRule]


SECTIONS: Final = (
    Section("ingress", Direction.INGRESS, False, IngressRule),
    Section("ingressDeny", Direction.INGRESS, True, IngressDenyRule),
    Section("egress", Direction.EGRESS, False, EgressRule),
    Section("egressDeny", Direction.EGRESS, True, EgressDenyRule),
)


_TRAFFIC: Final = (("toPorts", "icmps", "every port"), ("icmps", "toPorts", "all traffic"))
_NOTHING_LEFT: Final = "without peers this entry allows nothing"


def _is_blank(entry: object) -> bool:
    """Whether an entry has neither peers nor traffic, as it stands in a manifest."""
    if not isinstance(entry, dict):
        return False
    traffic = [name for name, _, _ in _TRAFFIC]
    return all(value is None or (value == [] and name in traffic) for name, value in entry.items())


@dataclass(frozen=True, slots=True)
class RuleReader:
    """Reads the rules of one policy; `namespace` None: a clusterwide one."""

    report: Report
    profile: Profile
    kind: str
    namespace: str | None
    policy_key: str
    _blank: dict[Path, bool] = field(default_factory=dict)

    def rule(self, rule: AnyRule, section: Section, at: Path) -> Rule:
        """What is wrong with it goes to the report."""
        verb = "denies" if section.deny else "allows"
        peers = PeerReader(self.report, self.profile, self.namespace, verb).peers(rule, at)
        traffic = TrafficReader(self.report, self.profile, section.direction, verb)
        found = Rule(
            origin=self._origin(section, at),
            direction=section.direction,
            deny=section.deny,
            peers=peers,
            ports=traffic.port_blocks(rule, at),
            icmps=traffic.icmps(rule, at),
        )
        if not found.deny or not found.selects_nothing:
            self._doubt_empty_traffic(found, at)
        elif self.report.is_whole(rule, at):
            self._doubt_empty_deny(section, at)
        return found

    def _doubt_empty_traffic(self, rule: Rule, at: Path) -> None:
        for name, other, everything in _TRAFFIC:
            if self.report.given((*at, name)) == []:
                if self.report.given((*at, other)):
                    meant = f"only {other} counts"
                elif rule.peers == ():
                    continue  # nobody is meant, which has been reported
                else:
                    meant = _NOTHING_LEFT if rule.peers is None else f"{everything} is meant"
                message = f"an empty {name} counts as absent: {meant}"
                self.report.warn(Code.EMPTY_PORTS, (*at, name), message)

    def _doubt_empty_deny(self, section: Section, at: Path) -> None:
        """Cilium makes no entry of it (mergeEgress), only the section's default deny. Where the spec has
        nothing else for this direction, that is what it means."""
        spec = self.report.value(at[:-2])
        choice = spec.get("enableDefaultDeny")
        is_off = isinstance(choice, dict) and choice.get(section.direction) is False
        if not is_off and not spec.get(section.direction) and self._is_blank(at[:-1]):
            return
        side = "to" if section.direction is Direction.EGRESS else "from"
        effect = "nothing, as enableDefaultDeny is false" if is_off else "only what no rule allows"
        self.report.warn(
            Code.EMPTY_DENY,
            at,
            f"an entry without peers and ports denies {effect}",
            f"to deny everything whatever allows it write {side}Entities: [all]",
        )

    def _is_blank(self, section: Path) -> bool:
        """Whether all of its entries are."""
        if section not in self._blank:
            self._blank[section] = all(map(_is_blank, self.report.value(section)))
        return self._blank[section]

    def _origin(self, section: Section, at: Path) -> Origin:
        position = self.report.document.position(at)
        spec = "" if at[-3] == "spec" else f"specs[{at[-3]}]."
        return Origin(
            self.policy_key,
            f"{spec}{section.name}",
            int(at[-1]),
            position.path or self.report.document.path,
            position.line,
            position.column,
            self.kind,
        )
