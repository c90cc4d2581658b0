"""A small cluster to resolve policies in, and short ways to write policies and to read what came of them."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from ipaddress import IPv4Address

from acns.policy.cluster import Cluster
from acns.policy.manifests import parse
from acns.policy.model import (
    ICMP,
    Direction,
    DirectionPolicy,
    EndpointPolicy,
    Enforcement,
    Match,
    NodePolicy,
    Ports,
    Traffic,
)
from acns.policy.objects import (
    EndpointSlice,
    Namespace,
    Node,
    Object,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from acns.policy.profiles import Profile
from acns.policy.resolve import resolve

TCP, UDP = 6, 17
N1, N2 = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")
FRONTEND, LEGACY, WEB = (IPv4Address(f"10.244.0.{n}") for n in (2, 3, 4))
DNS, REMOTE_WEB = IPv4Address("10.244.1.2"), IPv4Address("10.244.1.3")
DNS_IP, WEB_IP = IPv4Address("10.96.0.10"), IPv4Address("10.96.0.20")

DNS_LABELS = {"k8s-app": "kube-dns"}


def pod(name: str, address: IPv4Address | None, node: str = "n1", **fields: object) -> Pod:
    base = Pod(namespace="default", name=name, labels={"app": name}, node_name=node, pod_ip=address)
    return replace(base, **fields)  # type: ignore[arg-type]


def service(name: str, address: IPv4Address, *ports: ServicePort, namespace: str = "default") -> Service:
    return Service(namespace, name, (address,), ports)


def slice_of(service: Service, addresses: list[IPv4Address], name: str = "") -> EndpointSlice:
    """Backends for every port of a Service, at its target ports."""
    ports = tuple(SlicePort(each.name, each.protocol, int(each.target_port)) for each in service.ports)
    endpoints = tuple(SliceEndpoint((address,)) for address in addresses)
    return EndpointSlice(service.namespace, name or f"{service.name}-1", service.name, endpoints, ports)


KUBE_DNS = service(
    "kube-dns",
    DNS_IP,
    ServicePort("dns", "UDP", 53, 53),
    ServicePort("dns-tcp", "TCP", 53, 53),
    namespace="kube-system",
)
WEB_SERVICE = service("web", WEB_IP, ServicePort("http", "TCP", 80, 8080))

BASE: tuple[Object, ...] = (
    Namespace("default", {"team": "shop"}),
    Namespace("kube-system"),
    Namespace("other"),
    Node("n1", (N1,)),
    Node("n2", (N2,)),
    pod("frontend", FRONTEND),
    pod("legacy", LEGACY),
    pod("web", WEB, labels={"app": "web"}),
    pod("web-2", REMOTE_WEB, "n2", labels={"app": "web"}),
    pod("dns", DNS, "n2", namespace="kube-system", labels=DNS_LABELS, service_account="coredns"),
    KUBE_DNS,
    slice_of(KUBE_DNS, [DNS]),
    WEB_SERVICE,
    slice_of(WEB_SERVICE, [WEB, REMOTE_WEB]),
)

TO_KUBE_DNS = """
- toEndpoints:
  - matchLabels:
      k8s:io.kubernetes.pod.namespace: kube-system
      k8s:k8s-app: kube-dns
"""


def dns_rule(*names: str, protocol: str = "ANY", port: int = 53) -> str:
    """A rule for kube-dns with `rules.dns`; names with a `*` are patterns."""
    entries = "".join(
        f"\n      - {'matchPattern' if '*' in name else 'matchName'}: '{name}'" for name in names
    )
    return (
        TO_KUBE_DNS
        + f"""  toPorts:
  - ports:
    - {{port: "{port}", protocol: {protocol}}}
    rules:
      dns:{entries}
"""
    )


def manifest(
    egress: str, *, selector: str = "{matchLabels: {app: frontend}}", extra: str = "", name: str = "p"
) -> str:
    """A CiliumNetworkPolicy in `default`."""
    return f"""apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: {name}
  namespace: default
spec:
  endpointSelector: {selector}
{textwrap.indent(extra.strip(), "  ")}
  egress:{egress if egress.startswith(" ") else chr(10) + textwrap.indent(egress.strip(), "  ")}
"""


def clusterwide(egress: str, selector: str = "{}") -> str:
    text = manifest(egress, selector=selector).replace(
        "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"
    )
    return text.replace("  namespace: default\n", "")


def objects(*texts: str, profile: Profile = Profile.CILIUM) -> list[Object]:
    """The objects of manifests that must be free of errors."""
    found: list[Object] = []
    for text in texts:
        parsed = parse(text, "p.yaml", profile)
        assert parsed.ok, "\n".join(map(str, parsed.problems))
        found += parsed.objects
    return found


def cluster(*texts: str, more: tuple[Object, ...] = ()) -> Cluster:
    return Cluster.of([*BASE, *more, *objects(*texts)])


def node_of(
    *texts: str,
    node: str = "n1",
    more: tuple[Object, ...] = (),
    enforcement: Enforcement = Enforcement.DEFAULT,
) -> NodePolicy:
    """What a node enforces under these policies."""
    return resolve(cluster(*texts, more=more), node, enforcement)


def policy_of(name: str, *texts: str, **kwargs: object) -> EndpointPolicy:
    """What pod `name` may do under these policies, and what may be done to it."""
    endpoints = node_of(*texts, **kwargs).endpoints  # type: ignore[arg-type]
    return next(each for each in endpoints if each.endpoint.pod == name)


def texts(matches: tuple[Match, ...]) -> list[tuple[str, str]]:
    """Matches in short: (peer key, traffic)."""
    return [(match.peer.key, traffic_text(match.traffic)) for match in matches]


def traffic_text(traffic: Traffic) -> str:
    match traffic:
        case None:
            return "all"
        case ICMP(type):
            return f"ICMP/{type}"
        case Ports(protocol, first, last):
            return f"{protocol}/{first}" if first == last else f"{protocol}/{first}-{last}"


def opened(policy: EndpointPolicy, direction: Direction = Direction.EGRESS) -> list[tuple[str, str]]:
    """What one direction allows, in short."""
    return texts(side(policy, direction).allows)


def denied(policy: EndpointPolicy, direction: Direction = Direction.EGRESS) -> list[tuple[str, str]]:
    """What one direction denies, in short."""
    return texts(side(policy, direction).denies)


def side(policy: EndpointPolicy, direction: Direction) -> DirectionPolicy:
    return policy.egress if direction is Direction.EGRESS else policy.ingress


def servers(policy: EndpointPolicy) -> set[tuple[str, int, int]]:
    """Every single server that is redirected: address, protocol number, port."""
    return {
        (str(server.address), server.protocol, server.port)
        for dns in policy.dns
        if dns.redirects
        for server in dns.servers.exact
    }
