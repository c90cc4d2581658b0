"""Policies of all three kinds, with every construct that this data path enforces."""

from __future__ import annotations

from functools import partial

from . import network_policies
from .choices import Chooser
from .cluster import Manifest
from .policy_parts import NAMESPACE_KEYS, Object, icmps, peers, port_block, selector

SECTIONS = ("egress", "ingress", "egress", "ingress", "egressDeny", "ingressDeny")


def _dns_rule(choose: Chooser) -> Object:
    blocks = [port_block(choose, dns=True)]
    if choose.chance(4):
        blocks.append(port_block(choose, dns=choose.chance(2)))
    match choose.one("everywhere", "pods", "labels", "other"):
        case "everywhere":
            return {"toPorts": blocks}
        case "pods":
            return {"toEndpoints": [{}], "toPorts": blocks}
        case "labels":
            return {"toEndpoints": [selector(choose, wide=True)], "toPorts": blocks}
    other = peers(choose, "egress")
    return {"toPorts": blocks} if "toFQDNs" in other else {**other, "toPorts": blocks}


def _rule(choose: Chooser, section: str) -> Object:
    if section == "egress" and choose.chance(3):
        return _dns_rule(choose)
    made = peers(choose, section)
    match choose.one("none", "none", "ports", "ports", "ports", "icmps", "empty"):
        case "ports":
            made["toPorts"] = choose.some(1, 2, lambda: port_block(choose, dns=False))
        case "icmps":
            made["icmps"] = icmps(choose)
        case "empty":
            made[choose.one("toPorts", "icmps")] = []
    return made


def _spec(choose: Chooser, *, wide: bool) -> Object:
    made: Object = {"endpointSelector": selector(choose, wide=wide)}
    if choose.chance(30):
        made["endpointSelector"] = {"matchLabels": {choose.one(*NAMESPACE_KEYS): choose.one("one", "two")}}
    for section in choose.several(1, 2, *SECTIONS):
        made[section] = choose.some(1, 3, partial(_rule, choose, section))
    if choose.chance(8):  # an empty section counts as absent
        made.setdefault(choose.one(*SECTIONS), [])
    if choose.chance(6):
        directions = choose.several(1, 2, "egress", "ingress")
        made["enableDefaultDeny"] = {direction: choose.chance(3) for direction in directions}
    return made


KINDS = ("CiliumNetworkPolicy",) * 4 + ("CiliumClusterwideNetworkPolicy",) * 2 + ("NetworkPolicy",)


def policy(choose: Chooser, index: int) -> Manifest:
    """A policy of any kind."""
    kind = choose.one(*KINDS)
    namespaced = kind != "CiliumClusterwideNetworkPolicy"
    meta: Object = {"name": f"policy-{index}"}
    if namespaced:
        meta["namespace"] = choose.one("one", "one", "one", "two")
    if kind == "NetworkPolicy":
        head = {"apiVersion": "networking.k8s.io/v1", "kind": kind, "metadata": meta}
        return {**head, "spec": network_policies.spec(choose)}
    made: Manifest = {"apiVersion": "cilium.io/v2", "kind": kind, "metadata": meta}
    if choose.chance(8):
        made["specs"] = choose.some(1, 2, lambda: _spec(choose, wide=not namespaced))
    else:
        made["spec"] = _spec(choose, wide=not namespaced)
    return made


def dns_policy(choose: Chooser, index: int) -> Manifest:
    """One that sends some pods' queries to the resolver: chance alone seldom does."""
    spec: Object = {"endpointSelector": selector(choose, wide=False) if choose.chance(2) else {}}
    spec["egress"] = [_dns_rule(choose), *choose.some(0, 1, lambda: _rule(choose, "egress"))]
    meta = {"name": f"policy-{index}", "namespace": "one"}
    return {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": meta, "spec": spec}
