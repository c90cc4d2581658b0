"""Small clusters for hypothesis, full of what makes resolving hard.

Few names, labels, addresses and ports, so that everything meets everything: pods that share an address or
have a gateway's, nodes without pods, Services before pods of several labels, slices without Services, rules
of every kind about all of these.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

from hypothesis import strategies as st

from acns.dns.pattern import match_name, match_pattern
from acns.policy.model import Direction, Origin, Protocol
from acns.policy.objects import (
    CIDRBlocks,
    CIDRGroup,
    CIDRGroupPeer,
    EndpointSlice,
    Entity,
    NamedPort,
    Namespace,
    Node,
    Object,
    PeerSpec,
    Pod,
    Policy,
    PortBlock,
    PortSpec,
    Ref,
    Rule,
    SelectedEndpoints,
    SelectedFQDN,
    SelectedServices,
    Service,
    ServicePort,
    SliceEndpoint,
    SlicePort,
    Spec,
)
from acns.policy.selectors import (
    ANY,
    K8S,
    NAMESPACE,
    NAMESPACE_LABELS_PREFIX,
    Key,
    Operator,
    Requirement,
    Selector,
)

NODES = ("n1", "n2")
NAMESPACES = ("a", "a", "b")
POD_CIDR = {"n1": IPv4Network("10.0.1.0/24"), "n2": IPv4Network("10.0.2.0/24")}
NODE_IP = {"n1": IPv4Address("172.18.0.1"), "n2": IPv4Address("172.18.0.2")}
ADDRESSES = [IPv4Address(text) for text in ("10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.2.1", "10.0.2.2")]
OUTSIDE = [IPv4Address(text) for text in ("203.0.113.53", "198.51.100.7")]
CLUSTER_IPS = [IPv4Address("10.96.0.10"), IPv4Address("10.96.0.20")]
NETWORKS = [
    IPv4Network(text)
    for text in ("0.0.0.0/0", "10.0.0.0/8", "10.0.1.0/30", "203.0.113.0/24", "203.0.113.53/32")
]
ENTITIES = ("all", "world", "cluster", "host", "remote-node", "kube-apiserver", "none", "health")
FQDNS = [match_name("a.io"), match_pattern("*.a.io"), match_pattern("*")]
PORT_NUMBERS = (53, 80, 5353)
PORT_NAMES = ("dns", "http")
REAL_PROTOCOLS = ("TCP", "UDP", "SCTP")

_labels = st.fixed_dictionaries({}, optional={"app": st.sampled_from("xy"), "tier": st.sampled_from("xy")})
_tuple_of = lambda each, most=2, least=0: st.lists(each, min_size=least, max_size=most).map(tuple)  # noqa: E731


# --- objects ----------------------------------------------------------------------------------------------

namespaces = st.builds(Namespace, st.sampled_from(NAMESPACES), _labels)

nodes = st.sampled_from(NODES).flatmap(
    lambda name: st.builds(
        Node,
        st.just(name),
        st.sampled_from([(NODE_IP[name],), ()]),
        pod_cidrs=st.sampled_from([(POD_CIDR[name],), ()]),
    )
)

named_ports = st.builds(
    NamedPort, st.sampled_from(PORT_NAMES), st.sampled_from(REAL_PROTOCOLS), st.sampled_from(PORT_NUMBERS)
)

pods = st.builds(
    Pod,
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from(["p0", "p1", "p2"]),
    labels=_labels,
    node_name=st.sampled_from(NODES),
    pod_ip=st.sampled_from([*ADDRESSES, NODE_IP["n2"], None]),
    phase=st.sampled_from(["Running", "Running", "Running", "Succeeded"]),
    host_network=st.sampled_from([False, False, False, True]),
    named_ports=_tuple_of(named_ports),
)

_service_names = st.sampled_from(["s0", "s0", "s1"])
services = st.builds(
    Service,
    namespace=st.sampled_from(NAMESPACES),
    name=_service_names,
    cluster_ips=_tuple_of(st.sampled_from(CLUSTER_IPS), most=1, least=1),
    ports=_tuple_of(
        st.builds(
            ServicePort,
            st.just("p"),
            st.just("UDP"),
            st.sampled_from((53, 5353)),
            st.just(53),
        ),
        least=1,
    ),
    selector=_labels,
    labels=_labels,
)

_backends = st.builds(SliceEndpoint, _tuple_of(st.sampled_from([*ADDRESSES, *OUTSIDE]), least=1))
slices = st.builds(
    EndpointSlice,
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from(["e0", "e1"]),
    service=_service_names,
    endpoints=_tuple_of(_backends, least=1),
    ports=_tuple_of(st.builds(SlicePort, st.just("p"), st.just("UDP"), st.sampled_from((53, 5353))), least=1),
) | st.builds(
    EndpointSlice,
    namespace=st.just("default"),
    name=st.just("kubernetes"),
    service=st.just("kubernetes"),
    endpoints=_tuple_of(_backends),
)

cidr_groups = st.builds(
    CIDRGroup, st.sampled_from(["g0", "g1"]), _tuple_of(st.sampled_from(NETWORKS)), _labels
)

# --- policies ---------------------------------------------------------------------------------------------

_requirements = st.one_of(
    st.builds(
        Requirement,
        st.builds(Key, st.sampled_from([ANY, K8S]), st.sampled_from(["app", "tier"])),
        st.sampled_from([Operator.IN, Operator.NOT_IN]),
        st.sampled_from([("x",), ("y",), ("x", "y")]),
    ),
    st.builds(
        Requirement,
        st.just(Key(ANY, "tier")),
        st.sampled_from([Operator.EXISTS, Operator.DOES_NOT_EXIST]),
    ),
    st.builds(
        Requirement,
        st.sampled_from([NAMESPACE, Key(K8S, NAMESPACE_LABELS_PREFIX + "tier")]),
        st.just(Operator.IN),
        st.sampled_from([("a",), ("x",)]),
    ),
)
selectors = st.just(Selector()) | st.lists(_requirements, max_size=2).map(Selector.of)

peers: st.SearchStrategy[PeerSpec] = st.one_of(
    st.builds(SelectedEndpoints, selectors),
    st.builds(SelectedEndpoints, selectors),
    st.builds(
        CIDRBlocks, _tuple_of(st.sampled_from(NETWORKS), least=1), _tuple_of(st.sampled_from(NETWORKS[2:]))
    ),
    st.builds(CIDRGroupPeer, st.sampled_from(["g0", "g1", "absent"])),
    st.builds(CIDRGroupPeer, selector=selectors),
    st.builds(Entity, st.sampled_from(ENTITIES)),
    st.builds(SelectedServices, st.sampled_from([*NAMESPACES, ""]), _service_names),
    st.builds(SelectedServices, st.sampled_from([*NAMESPACES, ""]), selector=selectors),
)
_fqdns = st.builds(SelectedFQDN, st.sampled_from(FQDNS))

_numbers = st.sampled_from((53, *PORT_NUMBERS))
_single_port = st.builds(lambda protocol, n: PortSpec(protocol, n, n), st.sampled_from(Protocol), _numbers)
ports = st.one_of(
    _single_port,
    _single_port,
    _single_port,
    st.builds(lambda protocol, n: PortSpec(protocol, n, 6000), st.sampled_from(Protocol), _numbers),
    st.builds(PortSpec, st.sampled_from(Protocol)),
    st.builds(PortSpec, st.sampled_from(Protocol), name=st.sampled_from(PORT_NAMES)),
)
_dns_ports = st.one_of(
    st.builds(lambda protocol: PortSpec(protocol, 53, 53), st.sampled_from([Protocol.ANY, Protocol.UDP])),
    st.just(PortSpec(Protocol.ANY, name="dns")),
)
_plain_blocks = st.builds(PortBlock, _tuple_of(ports, least=1))
_dns_blocks = st.builds(
    PortBlock, _tuple_of(_dns_ports, least=1, most=1), _tuple_of(st.sampled_from(FQDNS), least=1)
)


_some = st.none() | _tuple_of(peers, least=1)
_port_53 = st.builds(PortBlock, st.just((PortSpec(Protocol.ANY, 53, 53),)))


@st.composite
def rules(draw: st.DrawFn, number: int, kinds: tuple[str, ...]) -> Rule:
    """One rule of one of these kinds; `number` tells it from the others of its policy."""
    kind = draw(st.sampled_from(kinds))
    outwards = kind in ("dns", "fqdn", "open", "close")
    direction = Direction.EGRESS if outwards else draw(st.sampled_from(Direction))
    deny = kind == "close" or (not outwards and draw(st.sampled_from([False, False, True])))
    origin = Origin("p", str(direction), number, "p.yaml", 1, 1)
    match kind:
        case "icmp":
            return Rule(origin, direction, deny, draw(_some), icmps=draw(_tuple_of(st.sampled_from([0, 8]))))
        case "dns":
            return Rule(origin, direction, deny, draw(_some), draw(_tuple_of(_dns_blocks, least=1)))
        case "fqdn":
            blocks = st.none() | _tuple_of(_plain_blocks, least=1)
            return Rule(origin, direction, deny, draw(_tuple_of(_fqdns)), draw(blocks))
        case "open" | "close":  # what another rule redirects
            return Rule(origin, direction, deny, draw(_some), (draw(_port_53 | _plain_blocks),))
    return Rule(origin, direction, deny, draw(_some), draw(st.none() | _tuple_of(_plain_blocks, least=1)))


@st.composite
def specs(draw: st.DrawFn, *kinds: tuple[str, ...]) -> Spec:
    """With one rule of each of these kinds."""
    found = tuple(draw(rules(number, each)) for number, each in enumerate(kinds))
    directions = sorted({each.direction for each in found})
    default_deny = draw(st.sets(st.sampled_from(directions)))
    subject = draw(st.just(Selector()) | selectors)
    return Spec(subject, found, frozenset(default_deny))


_any_kind = ("plain", "plain", "icmp", "dns", "fqdn", "open", "close")
_specs = specs(_any_kind, _any_kind) | specs(("dns",), ("open", "dns"), ("close", "plain", "fqdn"))
policies = st.builds(
    Policy,
    kind=st.sampled_from(["CiliumNetworkPolicy", "NetworkPolicy"]),
    namespace=st.sampled_from(NAMESPACES),
    name=st.sampled_from(["q0", "q1"]),
    specs=_tuple_of(_specs, least=1),
)

objects: st.SearchStrategy[Object] = st.one_of(
    pods, pods, pods, policies, policies, services, slices, namespaces, nodes, cidr_groups
)


@st.composite
def worlds(draw: st.DrawFn) -> dict[Ref, Object]:
    """A cluster with some of everything: most of what happens takes several objects."""
    kinds = (nodes, namespaces, services, slices, slices, cidr_groups, policies, policies, policies)
    found = [draw(each) for each in (*[pods] * 5, *kinds)]
    return {each.ref: each for each in found}
