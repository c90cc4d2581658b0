"""The three kinds of policy as written, brought to one shape: subject, sections, rules.

From Cilium (pkg/policy/utils RulesToPolicyEntries, pkg/policy/rule.go, pkg/k8s/network_policy.go):
* a list of peers that is there and empty selects nothing; absent, it selects everything;
* `toPorts: []` and `icmps: []` are as if absent; an entry with no ports in it matches nothing;
* a rule with neither peers nor an L4 part matches nothing (`egress: [{}]`);
* a section that is an empty list is as if absent;
* the subject of a namespaced policy is of its namespace; what it says itself of `k8s:` namespaces is
  overwritten;
* a NetworkPolicy's empty or absent `from`/`to`/`ports` is everything, and its rules count whatever its
  `policyTypes` say: these only decide which direction is shut where there are no rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import labels
from .cluster import Manifest

SECTIONS = ("ingress", "ingressDeny", "egress", "egressDeny")
PEER_KINDS = ("Endpoints", "CIDR", "CIDRSet", "Entities", "Services", "FQDNs")
# Of these Cilium takes an empty list for an absent one: only the others are looked at for it.
EMPTY_IS_ABSENT = ("Services", "FQDNs")

ICMP_TYPES = {"EchoReply": 0, "Echo": 8, "EchoRequest": 8, "Timestamp": 13}


@dataclass(frozen=True, slots=True)
class Block:
    """One L4 alternative. `ports` None: all traffic. `dns`: the names of `rules.dns`."""

    ports: list[dict[str, Any]] | None
    dns: list[dict[str, str]] | None = None

    def for_one_port(self) -> Block:
        """What of it is for single ports."""
        single = [one for one in self.ports or [] if str(one.get("port", 0)) != "0"]
        return Block([one for one in single if (one.get("endPort") or 0) <= _number(one)], self.dns)


def _number(entry: dict[str, Any]) -> int:
    """A range ends behind it; a name has none."""
    text = str(entry["port"])
    return int(text) if text.isdigit() else 65_535


@dataclass(frozen=True, slots=True)
class Rule:
    """`peers`: (kind, entry) pairs; None is everybody."""

    peers: list[tuple[str, Any]] | None
    blocks: list[Block]

    @property
    def is_for_names(self) -> bool:
        return any(kind == "FQDNs" for kind, _ in self.peers or [])


@dataclass(frozen=True, slots=True)
class Spec:
    subject: dict[str, Any]
    sections: dict[str, list[Rule]]
    default_deny: dict[str, bool]

    def has(self, direction: str) -> bool:
        return direction in self.sections or f"{direction}Deny" in self.sections


def specs_of(policy: Manifest) -> Iterator[Spec]:
    if policy["kind"] == "NetworkPolicy":
        yield _network_policy(policy)
        return
    namespace = policy["metadata"].get("namespace", "")
    for spec in [policy["spec"]] if "spec" in policy else []:
        yield _cilium(spec, namespace)
    for spec in policy.get("specs", []):
        yield _cilium(spec, namespace)


# --- CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy ----------------------------------------------


def _cilium(spec: dict[str, Any], namespace: str) -> Spec:
    asked = spec.get("enableDefaultDeny", {})
    return Spec(
        _subject(spec["endpointSelector"], namespace),
        {
            section: [_cilium_rule(rule, section, namespace) for rule in spec[section]]
            for section in SECTIONS
            if spec.get(section)
        },
        {direction: asked.get(direction, True) for direction in ("ingress", "egress")},
    )


def _subject(selector: dict[str, Any], namespace: str) -> dict[str, Any]:
    if not namespace:
        return selector
    named = selector.get("matchLabels", {})
    others = {key: value for key, value in named.items() if key != f"k8s:{labels.NAMESPACE}"}
    return _and({**selector, "matchLabels": others}, namespace)


def _cilium_rule(rule: dict[str, Any], section: str, namespace: str) -> Rule:
    prefix = "to" if section.startswith("egress") else "from"
    given = {kind: rule[prefix + kind] for kind in PEER_KINDS if rule.get(prefix + kind) is not None}
    given = {kind: entries for kind, entries in given.items() if entries or kind not in EMPTY_IS_ABSENT}
    blocks = [Block(block.get("ports", []), _dns(block)) for block in rule.get("toPorts") or []]
    blocks += [Block([_icmp(field) for field in one["fields"]]) for one in rule.get("icmps") or []]
    if not given:
        return Rule(None, blocks)
    if [] in given.values():  # one empty list is enough, whatever stands beside it
        return Rule([], [])
    peers = [
        (kind, _scoped(entry, namespace) if kind == "Endpoints" else entry)
        for kind, entries in given.items()
        for entry in entries
    ]
    return Rule(peers, blocks or [Block(None)])


def _dns(block: dict[str, Any]) -> list[dict[str, str]] | None:
    found: list[dict[str, str]] | None = block.get("rules", {}).get("dns")
    return found


def _icmp(field: dict[str, Any]) -> dict[str, Any]:
    if field.get("family", "IPv4") != "IPv4":
        return {"icmp": -1}
    return {"icmp": int(ICMP_TYPES.get(field["type"], field["type"]))}


def _scoped(selector: dict[str, Any], namespace: str) -> dict[str, Any]:
    if labels.is_reserved(selector) or not namespace or labels.names_a_namespace(selector):
        return selector
    return _and(selector, namespace)


def _and(selector: dict[str, Any], namespace: str) -> dict[str, Any]:
    """In this namespace, whatever namespace the selector itself names."""
    mine = {"key": f"k8s:{labels.NAMESPACE}", "operator": "In", "values": [namespace]}
    return {**selector, "matchExpressions": [*selector.get("matchExpressions", []), mine]}


# --- NetworkPolicy ------------------------------------------------------------------------------------


def _network_policy(policy: Manifest) -> Spec:
    spec, namespace = policy["spec"], policy["metadata"]["namespace"]
    types = spec.get("policyTypes") or []
    sections = {}
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        rules = [_network_policy_rule(rule, peers, namespace) for rule in spec.get(direction, [])]
        # Ingress is meant unless the types name only Egress; Egress where they name it, or there are rules.
        meant = direction.title() in types or (direction == "ingress" and "Egress" not in types)
        if rules or meant:
            sections[direction] = rules
    subject = _and(_k8s(spec["podSelector"]), namespace)
    return Spec(subject, sections, {"ingress": True, "egress": True})


def _network_policy_rule(rule: dict[str, Any], peers: str, namespace: str) -> Rule:
    ports = [{"port": 0, "protocol": "TCP", **port} for port in rule.get("ports", [])]
    blocks = [Block(ports or None)]
    if not rule.get(peers):
        return Rule(None, blocks)
    return Rule([_network_policy_peer(peer, namespace) for peer in rule[peers]], blocks)


def _network_policy_peer(peer: dict[str, Any], namespace: str) -> tuple[str, Any]:
    if "ipBlock" in peer:
        return "CIDRSet", peer["ipBlock"]
    pods = _k8s(peer.get("podSelector", {}))
    if "namespaceSelector" not in peer:
        return "Endpoints", _and(pods, namespace)
    chosen = _k8s(peer["namespaceSelector"], labels.NAMESPACE_LABELS)
    return "Endpoints", {
        "matchLabels": {**pods["matchLabels"], **chosen["matchLabels"]},
        "matchExpressions": pods["matchExpressions"] + chosen["matchExpressions"],
    }


def _k8s(selector: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """A Kubernetes selector in Cilium's words: its keys are of source `k8s`, namespaces' behind a prefix."""
    return {
        "matchLabels": {
            f"k8s:{prefix}{key}": value for key, value in selector.get("matchLabels", {}).items()
        },
        "matchExpressions": [
            {**one, "key": f"k8s:{prefix}{one['key']}"} for one in selector.get("matchExpressions", [])
        ],
    }
