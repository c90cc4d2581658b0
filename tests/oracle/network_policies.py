"""Kubernetes' own NetworkPolicy, with everything it can say."""

from __future__ import annotations

from functools import partial

from .choices import Chooser
from .policy_parts import NUMBERS, Object, cidr_set, expression, protocol


def _selector(choose: Chooser, keys: tuple[str, ...], values: tuple[str, ...]) -> Object:
    made: Object = {}
    if choose.chance(2):
        made["matchLabels"] = {choose.one(*keys): choose.one(*values)}
    if choose.chance(6):
        made["matchExpressions"] = [expression(choose, keys, values)]
    return made


def _pods(choose: Chooser) -> Object:
    return _selector(choose, ("app", "tier"), ("a", "b"))


def _peer(choose: Chooser) -> Object:
    kind = choose.one("pods", "namespaces", "both", "block")
    if kind == "block":
        return {"ipBlock": cidr_set(choose, groups=False)}
    made: Object = {}
    if kind in ("pods", "both"):
        made["podSelector"] = _pods(choose)
    if kind in ("namespaces", "both"):
        keys = ("team", "kubernetes.io/metadata.name")
        made["namespaceSelector"] = _selector(choose, keys, ("x", "y", "one"))
    return made


def _port(choose: Chooser) -> Object:
    made = protocol(choose, "", "TCP", "UDP", "SCTP")
    match choose.one("number", "number", "range", "name", "none"):
        case "number":
            made["port"] = choose.one(*NUMBERS)
        case "range":
            made["port"] = choose.one(*NUMBERS)
            made["endPort"] = made["port"] + choose.one(0, 1, 391)
        case "name":
            made["port"] = choose.one("web", "dns")
    return made


def _rule(choose: Chooser, peers: str) -> Object:
    made: Object = {}
    if not choose.chance(4):
        made[peers] = choose.some(0, 2, lambda: _peer(choose))
    if not choose.chance(3):
        made["ports"] = choose.some(0, 2, lambda: _port(choose))
    return made


def spec(choose: Chooser) -> Object:
    made: Object = {"podSelector": _pods(choose)}
    directions = {"in": ("ingress",), "out": ("egress",), "both": ("ingress", "egress")}[
        choose.one("in", "out", "both")
    ]
    for direction, peers in (("ingress", "from"), ("egress", "to")):
        if direction in directions and not choose.chance(5):
            made[direction] = choose.some(0, 2, partial(_rule, choose, peers))
    if choose.chance(2):
        made["policyTypes"] = [direction.title() for direction in directions]
    if choose.chance(10):  # whatever the sections are
        made["policyTypes"] = choose.several(1, 2, "Ingress", "Egress")
    return made
