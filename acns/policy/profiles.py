"""Profiles: whose limits apply, and why something is refused.

`acns` accepts what ACNS accepts and names the limitation otherwise; `cilium` accepts all of Cilium's language
that this data path can enforce. Every difference between the two stands in this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from acns.dns.pattern import FQDNSelector
from acns.errors import Problem
from acns.located import Document, Path
from acns.policy.codes import Code

LINK_LOCAL = IPv4Network("169.254.0.0/16")
_ENOUGH_LETTERS = 3
_ANY_SERVICE = (b"any-service", b"any-namespace", b"svc", b"cluster", b"local")


class Profile(StrEnum):
    """Whose limits apply."""

    ACNS = "acns"
    CILIUM = "cilium"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a value, or with a `code` doubtful, not yet at a place."""

    message: str
    hint: str = ""
    code: Code | None = None

    def problem(self, document: Document, where: Path) -> Problem:
        return document.problem(
            where, self.message, hint=self.hint, warning=self.code is not None, code=self.code or ""
        )


def dns_name(profile: Profile, selector: FQDNSelector) -> Finding | None:
    """What the profile says of an entry of `rules.dns`."""
    if profile is Profile.ACNS and selector.is_match_all:
        return Finding(
            "rules.dns must not match every name: ACNS supports no bare wildcard there (profile acns)",
            'list the names, as in matchPattern: "*.example.com"',
        )
    if profile is Profile.ACNS and (finding := _service_name(selector)):
        return finding
    return _trailing_wildcards(selector, "the pod may ask for", "so data can leave over DNS")


def fqdn_peer(profile: Profile, selector: FQDNSelector) -> Finding | None:
    """What the profile says of an entry of `toFQDNs`."""
    if selector.is_match_all:
        return Finding(
            "this toFQDNs matches every name: whatever a pod looks up becomes reachable",
            "list the names; to allow all of the outside say toEntities: [world]",
            Code.MATCH_ALL_FQDN,
        )
    if profile is Profile.ACNS and (finding := _service_name(selector)):
        return finding
    if not is_service_name(selector):
        return _address(selector) or _trailing_wildcards(
            selector, "the pod may reach", "wherever its owner lets it point"
        )
    return Finding(
        f"'{selector.text}' names a Service of the cluster: such addresses are never learned",
        "select the Service's pods by toEndpoints",
        Code.SERVICE_NAME_FQDN,
    )


def is_address(selector: FQDNSelector) -> bool:
    """Whether it spells an IPv4 address, which `fqdn_peer` doubts."""
    try:
        IPv4Address(selector.text.removesuffix("."))
    except ValueError:
        return False
    return True


def _address(selector: FQDNSelector) -> Finding | None:
    if not is_address(selector):
        return None
    text = selector.text.removesuffix(".")
    return Finding(
        f"'{text}' is an address, which no client looks up and no answer teaches: this entry opens nothing",
        f"write toCIDR: [{text}/32] in an egress entry of its own if it is outside the cluster: "
        "no CIDR selects pods, nodes or Services",
        Code.FQDN_IS_ADDRESS,
    )


def _trailing_wildcards(selector: FQDNSelector, grants: str, so: str) -> Finding | None:
    """The published workaround for musl's search lists has patterns such as `*.example.com.*.*`."""
    text = selector.text.removesuffix(".")
    labels = text.split(".")
    trailing = next((n for n, label in enumerate(reversed(labels)) if label.strip("*")), len(labels))
    if not trailing or selector.is_match_all:
        return None
    own = ".".join(label.replace("**", "*").replace("*", "secret") for label in labels[:-trailing])
    foreign = ".".join(["x"] * (trailing - 2) + ["attacker", "com"][-trailing:])
    message = f"'{text}' ends in wildcard labels: {grants} '{f'{own}.{foreign}'.lstrip('.')}', {so}"
    if own and trailing > 1:
        message += f"; and it takes exactly {trailing} labels more: '{own}.local' is missed"
    return Finding(
        message,
        "end it in a domain of yours; against search lists set ndots: 1 or ask with a trailing dot",
        Code.TRAILING_WILDCARD_LABELS,
    )


def is_service_name(selector: FQDNSelector) -> bool:
    """Whether it spells a name of the cluster's own DNS zone (`….cluster.local`, `….svc`, and
    patterns such as `….svc.clu*.local`)."""
    labels = selector.text.rstrip(".").split(".")
    if labels[-1] == "svc" or labels[-2:] == ["cluster", "local"]:
        return True
    return labels[-3:-2] == ["svc"] and labels[-1] == "local" and _spells_cluster(labels[-2])


def _spells_cluster(label: str) -> bool:
    """Its beginning and a star. With few letters, or a star elsewhere, it means others too: `svc.c*.local`
    matches `svc.corp.local`, and `svc.*ter.local` matches `svc.center.local`."""
    letters = label.rstrip("*")
    return letters != label and len(letters) >= _ENOUGH_LETTERS and "cluster".startswith(letters)


def _service_name(selector: FQDNSelector) -> Finding | None:
    """What ACNS says of Kubernetes' own names, and of patterns under `local` that match them all."""
    if not is_service_name(selector):
        if not (selector.text.endswith(".local.") and selector.matches(_ANY_SERVICE)):
            return None
        return Finding(
            f"'{selector.text}' matches the names of all Kubernetes Services: ACNS supports none in FQDN "
            "rules (profile acns)",
            'name the domain that is meant, as in matchPattern: "**.corp.local"',
        )
    return Finding(
        f"'{selector.text}' names a Kubernetes Service: ACNS supports none in FQDN rules (profile acns)",
        "select the Service's pods by toEndpoints",
    )


def dns_server(network: IPv4Network) -> Finding | None:
    """Node-local DNS, in either profile."""
    if not network.subnet_of(LINK_LOCAL):
        return None
    return Finding(
        f"{network} is link-local: node-local DNS is not supported, its packets never leave the node by the"
        " path on which queries are redirected",
        "let pods ask the cluster's DNS Service",
    )


def dual_stack(profile: Profile, kind: str) -> Finding | None:
    """A Pod or Service with an IPv6 address. Profile cilium goes by its IPv4 address alone."""
    if profile is not Profile.ACNS:
        return None
    return Finding(
        f"this {kind} has an IPv6 address: ACNS supports FQDN policy with IPv4 only (profile acns)",
        f"make the {kind} single-stack, IPv4",
    )
