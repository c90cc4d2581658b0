"""A small cluster to ask questions about, with policies as people write them."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from acns.dns import name as names
from acns.policy import destination
from acns.policy.cluster import Cluster
from acns.policy.explain import Explanation, Knowledge, explain, explain_query
from acns.policy.learnings import Learning, Learnings
from acns.policy.lookups import Server
from acns.policy.manifests import parse
from acns.policy.model import FQDN, Enforcement
from acns.policy.objects import (
    EndpointSlice,
    NamedPort,
    Namespace,
    Node,
    Object,
    Pod,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
)
from acns.policy.overview import Overview
from acns.policy.profiles import Profile
from acns.policy.reasons import Side

DNS_IP, WEB_IP, LONELY_IP = (IPv4Address(f"10.96.0.{n}") for n in (10, 20, 30))
NODE_1, NODE_2 = IPv4Address("172.18.0.2"), IPv4Address("172.18.0.3")
ADDRESS = IPv4Address("198.51.100.10")
DNS = Server(DNS_IP)


def pod(name: str, address: str, node: str = "n1", namespace: str = "default", **labels: str) -> Pod:
    return Pod(namespace, name, {"app": name, **labels}, node, IPv4Address(address))


def backed(service: Service, *addresses: str) -> tuple[Service, EndpointSlice]:
    ports = tuple(SlicePort(one.name, one.protocol, int(one.target_port)) for one in service.ports)
    endpoints = tuple(SliceEndpoint((IPv4Address(address),)) for address in addresses)
    return service, EndpointSlice(
        service.namespace, f"{service.name}-1", service.name, endpoints, ports if endpoints else ()
    )


BASE: tuple[Object, ...] = (
    Namespace("default"),
    Namespace("kube-system"),
    Node("n1", (NODE_1,), pod_cidrs=(IPv4Network("10.244.0.0/24"),)),
    Node("n2", (NODE_2,), pod_cidrs=(IPv4Network("10.244.1.0/24"),)),
    pod("client", "10.244.0.2"),
    pod("other", "10.244.0.3"),
    Pod(
        "default",
        "web-1",
        {"app": "web"},
        "n1",
        IPv4Address("10.244.0.4"),
        named_ports=(NamedPort("http", "TCP", 8080),),
    ),
    Pod("default", "web-2", {"app": "web", "tier": "far"}, "n2", IPv4Address("10.244.1.4")),
    pod("dns", "10.244.1.53", "n2", "kube-system"),
    Pod("kube-system", "proxy", node_name="n1", pod_ip=NODE_1, host_network=True),
    Pod("default", "done", node_name="n1", pod_ip=IPv4Address("10.244.0.9"), phase="Succeeded"),
    *backed(
        Service(
            "kube-system",
            "kube-dns",
            (DNS_IP,),
            (ServicePort("dns", "UDP", 53, 53), ServicePort("dns-tcp", "TCP", 53, 53)),
        ),
        "10.244.1.53",
    ),
    *backed(
        Service("default", "web", (WEB_IP,), (ServicePort("http", "TCP", 80, 8080),)),
        "10.244.0.4",
        "10.244.1.4",
    ),
    *backed(Service("default", "lonely", (LONELY_IP,), (ServicePort("http", "TCP", 80, 8080),))),
)

TO_DNS = """
    - toEndpoints: [{matchLabels: {k8s:io.kubernetes.pod.namespace: kube-system, app: dns}}]
      toPorts:
      - ports: [{port: "53", protocol: ANY}]
"""


def dns(*entries: str) -> str:
    """A rule for the cluster's DNS; names with a `*` are patterns."""
    listed = ", ".join(
        f"{{{'matchPattern' if '*' in entry else 'matchName'}: '{entry}'}}" for entry in entries
    )
    return f"{TO_DNS}        rules: {{dns: [{listed}]}}\n"


def fqdn(name: str, port: str = "443") -> str:
    kind = "matchPattern" if "*" in name else "matchName"
    return f"""
    - toFQDNs: [{{{kind}: '{name}'}}]
      toPorts: [{{ports: [{{port: "{port}", protocol: TCP}}]}}]
"""


def policy(
    egress: str = "", *, ingress: str = "", name: str = "p", selects: str = "client", more: str = ""
) -> str:
    """A CiliumNetworkPolicy in `default`."""
    sections = [
        f"  {section}:\n{text}" for section, text in (("egress", egress), ("ingress", ingress)) if text
    ]
    return (
        "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\n"
        f"metadata: {{name: {name}, namespace: default}}\n"
        f"spec:\n  endpointSelector: {{matchLabels: {{app: {selects}}}}}\n{more}" + "\n".join(sections)
    )


def world(
    *policies: str, enforcement: Enforcement = Enforcement.DEFAULT, more: tuple[Object, ...] = ()
) -> Overview:
    found = [*BASE, *more]
    for number, text in enumerate(policies):
        parsed = parse(text, f"p{number}.yaml", Profile.CILIUM)
        assert parsed.ok, "\n".join(map(str, parsed.problems))
        found += parsed.objects
    return Overview(Cluster.of(found), enforcement)


def ask(
    overview: Overview, to: str, source: str = "client", knowledge: Knowledge | None = None
) -> Explanation:
    """Offline, the cluster's DNS known, unless `knowledge` says else."""
    local = overview.local(overview.pod(source))
    return explain(
        overview,
        local,
        destination.parse(to, overview, local.resident),
        knowledge or Knowledge(server=DNS),
    )


def ask_name(overview: Overview, name: str, source: str = "client") -> Explanation:
    local = overview.local(overview.pod(source))
    return explain_query(overview, local, names.from_text(name), Knowledge(server=DNS))


def live(overview: Overview, *known: Learning) -> Knowledge:
    """As if the cluster ran, and its nodes had learned this."""
    return Knowledge({"n1": Learnings(known), "n2": Learnings()}, DNS)


def learned(
    overview: Overview, name: str, address: IPv4Address = ADDRESS, *, by: str = "default/client"
) -> Learning:
    """From a query at second 1000, for a minute, for whichever selectors of n1 match."""
    found = names.from_text(name)
    selectors = {
        match.peer.selector
        for one in overview.node("n1").endpoints
        for match in one.egress.allows
        if isinstance(match.peer, FQDN) and match.peer.selector.matches(found)
    }
    return Learning(found, address, tuple(sorted(selectors)), 1060.0, 1000.0, by)


def only_side(explanation: Explanation) -> Side:
    """The one end that judges, of the one part."""
    (part,) = explanation.parts
    (side,) = part.sides
    return side
