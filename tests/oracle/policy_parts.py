"""What policies are put together from: selectors, ports, peers.

Mostly simple ones: where every rule has three conditions, nothing ever matches and nothing is tested.
"""

from __future__ import annotations

from typing import Any

from .choices import Chooser

Object = dict[str, Any]

# --- selectors ----------------------------------------------------------------------------------------

OWN_KEYS = ("app", "app", "app", "tier", "k8s:app", "k8s:tier", "any:tier", "absent")
NAMESPACE_KEYS = ("k8s:io.kubernetes.pod.namespace", "io.kubernetes.pod.namespace")
TEAM_KEYS = ("io.cilium.k8s.namespace.labels.team", "k8s:io.cilium.k8s.namespace.labels.team")
METADATA_NAME = "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"
CLUSTER = "io.cilium.k8s.policy.cluster"
PAIR_KINDS = ("own",) * 5 + ("namespace", "namespace", "team", "account", "name", "cluster")


def _pair(choose: Chooser, wide: bool) -> tuple[str, str]:
    match choose.one(*PAIR_KINDS) if wide else "own":
        case "namespace":
            return choose.one(*NAMESPACE_KEYS), choose.one("one", "two")
        case "team":
            return choose.one(*TEAM_KEYS), choose.one("x", "y")
        case "account":
            return SERVICE_ACCOUNT, choose.one("default", "builder")
        case "cluster":
            return CLUSTER, choose.one("default", "other")
        case "name":
            return METADATA_NAME, choose.one("one", "two")
    return choose.one(*OWN_KEYS), choose.one("a", "b")


def expression(choose: Chooser, keys: tuple[str, ...], values: tuple[str, ...]) -> Object:
    operator = choose.one("In", "NotIn", "In", "NotIn", "Exists", "DoesNotExist")
    made: Object = {"key": choose.one(*keys), "operator": operator}
    if operator in ("In", "NotIn"):
        made["values"] = choose.several(1, 2, *values)
    return made


def _any_expression(choose: Chooser, wide: bool) -> Object:
    match choose.one(*PAIR_KINDS) if wide else "own":
        case "namespace":
            return expression(choose, NAMESPACE_KEYS, ("one", "two"))
        case "team":
            return expression(choose, TEAM_KEYS, ("x", "y"))
    return expression(choose, OWN_KEYS, ("a", "b"))


def selector(choose: Chooser, *, wide: bool) -> Object:
    """`wide`: it may speak of namespaces."""
    kind = choose.one("all", "all", "label", "label", "expression", "labels", "both")
    made: Object = {}
    if kind in ("label", "labels", "both"):
        made["matchLabels"] = dict(_pair(choose, wide) for _ in range(2 if kind == "labels" else 1))
    if kind in ("expression", "both"):
        made["matchExpressions"] = [_any_expression(choose, wide)]
    return made


def _peer_selector(choose: Chooser) -> Object:
    if choose.chance(20):
        return {"matchLabels": {f"reserved:{choose.one('host', 'remote-node', 'world')}": ""}}
    return selector(choose, wide=True)


# --- L4 -----------------------------------------------------------------------------------------------

NUMBERS = (53, 80, 443, 5353, 8080)


def _port(choose: Chooser) -> Object:
    made: Object = {"port": str(choose.one(*NUMBERS))}
    match choose.one("number", "number", "number", "name", "range", "zero"):
        case "name":
            made["port"] = choose.one("web", "dns", "WEB")
        case "range":
            made["endPort"] = int(made["port"]) + choose.one(0, 1, 391, 8000)
        case "zero":
            made |= {"port": "0"} | ({"endPort": 80} if choose.chance(10) else {})
    return made | protocol(choose, "TCP", "TCP", "UDP", "ANY", "SCTP", "")


def _dns_port(choose: Chooser) -> Object:
    return {"port": choose.one("53", "53", "53", "5353", "dns")} | protocol(choose, "ANY", "UDP", "TCP", "")


def protocol(choose: Chooser, *options: str) -> Object:
    chosen = choose.one(*options)
    return {"protocol": chosen} if chosen else {}


FQDNS = (
    ("matchName", "a.example.com"), ("matchPattern", "*.example.com"), ("matchName", "example.com"),
    ("matchName", "A.Example.com."), ("matchName", "a.test"), ("matchPattern", "*"),
    ("matchPattern", "**.example.com"), ("matchPattern", "*a*.example.com"), ("matchPattern", "a.*"),
    ("matchPattern", "a.*.com"),
)  # fmt: skip


def _names(choose: Chooser) -> list[Object]:
    return [dict([pair]) for pair in choose.several(1, 2, *FQDNS)]


def port_block(choose: Chooser, dns: bool) -> Object:
    if dns:
        return {"ports": choose.some(1, 2, lambda: _dns_port(choose)), "rules": {"dns": _names(choose)}}
    return {"ports": choose.some(1, 2, lambda: _port(choose))}


ICMP_FIELDS = (
    (("type", 8),), (("type", 13),), (("type", 0),), (("type", "EchoRequest"), ("family", "IPv4")),
    (("type", "Timestamp"),), (("type", "Echo"),), (("type", "8"),), (("type", 128), ("family", "IPv6")),
)  # fmt: skip


def icmps(choose: Chooser) -> list[Object]:
    return [{"fields": [dict(field) for field in choose.several(1, 2, *ICMP_FIELDS)]}]


# --- L3 -----------------------------------------------------------------------------------------------

CIDRS = (
    "203.0.113.0/24", "0.0.0.0/0", "203.0.113.5/29", "203.0.113.64/26", "203.0.113.1/32", "198.51.100.0/24",
    "10.0.0.0/8", "172.18.0.0/16", "2001:db8::/32",
)  # fmt: skip
EXCEPT = {
    "203.0.113.0/24": ("203.0.113.0/29", "203.0.113.5/32", "203.0.113.64/26"),
    "0.0.0.0/0": ("203.0.113.0/24", "10.0.0.0/8", "198.51.100.1/32"),
    "10.0.0.0/8": ("10.0.1.0/24",),
}
ENTITIES = (
    "world", "cluster", "host", "all", "remote-node", "kube-apiserver", "world-ipv4", "world-ipv6", "health",
    "init", "unmanaged", "ingress", "none",
)  # fmt: skip


def cidr_set(choose: Chooser, *, groups: bool) -> Object:
    match choose.one("cidr", "except", "except", *(("ref", "labels") if groups else ("cidr",))):
        case "ref":
            return {"cidrGroupRef": choose.one("g1", "g2", "g3")}
        case "labels":
            return {"cidrGroupSelector": {"matchLabels": {"grade": choose.one("a", "b")}}}
        case "cidr":
            return {"cidr": choose.one(*CIDRS)}
    wide = choose.one(*EXCEPT)
    return {"cidr": wide, "except": choose.several(1, 2, *EXCEPT[wide])}


def _service(choose: Chooser) -> Object:
    where = choose.one("one", "two", "")
    place = {"namespace": where} if where else {}
    if choose.chance(2):
        return {"k8sService": {"serviceName": choose.one("web", "dns", "outer", "absent"), **place}}
    chosen = {"matchLabels": {"kind": choose.one("inner", "outer")}}
    return {"k8sServiceSelector": {"selector": chosen, **place}}


def peers(choose: Chooser, section: str) -> Object:
    """One kind of peer, an empty list of them, or none."""
    prefix = "to" if section.startswith("egress") else "from"
    # In egressDeny Services are not expanded, and names not allowed.
    more = ("Services", "FQDNs", "FQDNs") if section == "egress" else ()
    kind = choose.one("", "", "Endpoints", "Endpoints", "CIDR", "CIDRSet", "Entities", "empty", *more)
    match kind:
        case "":
            return {}
        case "empty":
            beside = {f"{prefix}CIDR": ["0.0.0.0/0"]} if choose.chance(3) else {}
            return beside | {prefix + choose.one("Endpoints", "CIDR", "CIDRSet", "Entities"): []}
        case "CIDR":
            return {f"{prefix}CIDR": choose.several(1, 2, *CIDRS)}
        case "Entities":
            return {f"{prefix}Entities": choose.several(1, 2, *ENTITIES)}
        case "FQDNs":
            return {"toFQDNs": _names(choose)}
    make = {
        "Endpoints": lambda: _peer_selector(choose),
        "CIDRSet": lambda: cidr_set(choose, groups=True),
        "Services": lambda: _service(choose),
    }[kind]
    return {prefix + kind: choose.some(1, 2, make)}
