"""Who is who in a capture: pods, DNS servers, resolvers between them; and what each is called from now on.

A capture has addresses only. What is given (`--pod`, `--dns`, names in the file, flows of Hubble) comes
first; the rest is inferred from who asks whom and said as an assumption, one for each.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from itertools import count
from typing import Final

from acns.errors import InputError
from lab.repro.importing.given import Given, labelled
from lab.repro.importing.pairing import PATIENCE_NS, about
from lab.repro.reading import oddities
from lab.repro.reading.evidence import Evidence, Message, Outcome
from lab.repro.scenario import rules
from lab.repro.scenario.model import Pod, Server
from lab.spec.plan import SERVICES, NodePlan

_QR: Final = 0x80
_LOCAL: Final = tuple(
    IPv4Network(text) for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")
)
_LOOKED_AT: Final = 8
"""Askers of one name at a time."""
_MOST: Final = 0.8
_FIRST_CLUSTER_IP: Final = 10
MAX_PODS: Final = 150
MAX_SERVERS: Final = 40


@dataclass(frozen=True, slots=True)
class Dialogue:
    """The DNS messages of a capture, by what they are. `nowhere`: how many queries are left out by whom they
    ask, since a lab can have no DNS server there."""

    queries: tuple[Message, ...]
    answers: tuple[Message, ...]
    nowhere: Mapping[IPv4Address, int] = field(default_factory=dict)


@dataclass(slots=True)
class Roles:
    """`pods`, `servers`: by the address in the capture. `resolvers`: who asks in pods' stead. `moved`:
    address in the capture → in the scenario, where it is another."""

    pods: dict[IPv4Address, Pod] = field(default_factory=dict)
    servers: dict[IPv4Address, Server] = field(default_factory=dict)
    resolvers: set[IPv4Address] = field(default_factory=set)
    moved: dict[IPv4Address, IPv4Address] = field(default_factory=dict)
    assumptions: list[str] = field(default_factory=list)

    def place(self, address: IPv4Address) -> IPv4Address:
        """Where it is in the scenario."""
        return self.moved.get(address, address)


def dialogue(evidence: Evidence, ports: Iterable[int]) -> Dialogue:
    """Queries go to a DNS port, answers come from one; of two servers the flags tell."""
    known = frozenset(ports)
    queries, answers = [], []
    nowhere: Counter[IPv4Address] = Counter()
    for message in evidence.messages:
        if not (is_ipv4(message.source.address) and is_ipv4(message.destination.address)):
            continue
        to, back = message.destination.port in known, message.source.port in known
        is_answer = len(message.payload) > 2 and bool(message.payload[2] & _QR)
        if to and not (back and is_answer):
            server = ipv4(message.destination.address)
            if rules.is_somewhere(server):
                queries.append(message)
            else:
                nowhere[server] += 1
        elif back or is_answer:
            answers.append(message)
    return Dialogue(tuple(queries), tuple(answers), nowhere)


def infer(evidence: Evidence, talk: Dialogue, given: Given) -> Roles:
    """Raises InputError where there is nobody who could be a pod, or too many."""
    roles = Roles()
    for address, number in talk.nowhere.items():
        text = f"{number} queries to {address} are left out: no DNS server of a lab can be there"
        roles.assumptions.append(text)
    asked = dict.fromkeys(ipv4(one.destination.address) for one in talk.queries)
    servers = [address for address in asked if not given.dns or address in given.dns]
    _say_who_is_not_asked(asked, servers, given, roles)
    askers = list(dict.fromkeys(ipv4(one.source.address) for one in talk.queries))
    forwarders = [one for one in askers if one in servers and one not in given.pods]
    roles.resolvers = set(_resolvers(talk, [one for one in askers if one not in forwarders], evidence, given))
    for address in forwarders:
        roles.assumptions.append(f"{address} is asked, and asks others itself: those queries are left out")
    for address in sorted(roles.resolvers):
        text = "asks what pods have asked just before: it is the resolver, and its queries show the server"
        roles.assumptions.append(f"{address} {text}")
    asking = [one for one in askers if one not in forwarders and one not in roles.resolvers]
    clients = _clients(evidence, asking, given) - set(servers) - roles.resolvers
    pods = [*given.pods, *(one for one in asking if one not in given.pods)]
    pods += sorted(one for one in clients if one not in pods)
    if not pods:
        raise _nobody(evidence, talk)
    between = roles.resolvers | set(forwarders)
    reached = {one.destination.address for one in talk.queries if one.source.address not in between}
    servers = [one for one in servers if one in reached or one in given.dns]
    if len(pods) > MAX_PODS or len(servers) > MAX_SERVERS:
        text = f"{len(pods)} pods and {len(servers)} DNS servers are too many for a scenario"
        raise InputError(text, hint=f"capture fewer; at most {MAX_PODS} and {MAX_SERVERS}")
    _name_pods(roles, pods, evidence, given)
    roles.pods, assumed = labelled(given, roles.pods)
    roles.assumptions += assumed
    _name_servers(roles, servers, given)
    return roles


def _say_who_is_not_asked(
    asked: Collection[IPv4Address], servers: Collection[IPv4Address], given: Given, roles: Roles
) -> None:
    """Where `--dns` names others. Raises InputError where it names nobody who is asked."""
    others = ", ".join(str(one) for one in asked if one not in servers)
    if asked and not servers:
        named = ", ".join(map(str, sorted(given.dns)))
        raise InputError(f"nobody in the capture asks {named}", hint=f"asked are {others}: --dns IP, or none")
    if others:
        roles.assumptions.append(f"{others} are asked too, and are none of the DNS servers that were given")


def _nobody(evidence: Evidence, talk: Dialogue) -> InputError:
    """Why there is no pod in it."""
    text, hint = _reason(evidence, talk)
    if evidence.troubles:
        text = f"{text}; {evidence.troubles[0]}"
    return InputError(text, hint=hint)


def _reason(evidence: Evidence, talk: Dialogue) -> tuple[str, str]:
    counts = evidence.counts
    if not counts.frames:
        return "there are no packets in the capture", "an empty filter's, or a closed one's?"
    if counts.ipv6 > counts.ipv4:
        text = f"{counts.ipv6} of its {counts.frames} packets are IPv6, which no policy here lets out"
        return text, "a capture of IPv4 is needed"
    if not counts.ipv4:
        hint = "capture inside of tunnels (MPLS, PPPoE, VXLAN), at the pod or its node"
        return f"none of its {counts.frames} packets is IP that can be read here", hint
    if any(one.source.address == one.destination.address for one in talk.queries):
        text = "who asks and who is asked have one address: pod and DNS server cannot be told apart"
        return text, "capture at the pod's or the node's interface, not on the loopback"
    if talk.nowhere:
        asked = ", ".join(map(str, talk.nowhere))
        hint = "capture at the pod's or the node's interface, not on the loopback"
        return f"all queries are for {asked}, where no lab has a DNS server", hint
    if talk.answers and not talk.queries:
        hint = "capture both ways, from before the first query on"
        return f"it has {len(talk.answers)} DNS answers and no query", hint
    return "nobody in the capture asks a DNS server or connects", "--pod IP=NAME and --dns IP say who is who"


def is_ipv4(address: object) -> bool:
    return isinstance(address, IPv4Address)


def ipv4(address: object) -> IPv4Address:
    assert isinstance(address, IPv4Address), "IPv6 was left out before"
    return address


# --- pods and resolvers -------------------------------------------------------------------------------------


def _resolvers(
    talk: Dialogue, askers: Iterable[IPv4Address], evidence: Evidence, given: Given
) -> Iterator[IPv4Address]:
    """Those who connect to nobody, and ask nearly nothing but what another has asked and still waits for."""
    connecting = {flow.client.address for flow in evidence.flows if flow.server.port != 53}
    echoes: Counter[IPv4Address] = Counter()
    total: Counter[IPv4Address] = Counter()
    asked: dict[object, list[tuple[int, IPv4Address]]] = {}
    for message, until_ns in zip(talk.queries, _waiting_until(talk), strict=True):
        source = ipv4(message.source.address)
        before = asked.setdefault(about(message), [])
        total[source] += 1
        if any(who != source and message.at_ns < until for until, who in before[-_LOOKED_AT:]):
            echoes[source] += 1  # and nobody's query is an echo of an echo
        else:
            before.append((until_ns, source))
    for address in askers:
        is_free = address not in given.pods and address not in connecting
        if is_free and total[address] and echoes[address] / total[address] >= _MOST:
            yield address


def _waiting_until(talk: Dialogue) -> Iterator[int]:
    """For each query the time of its answer; without any, that at which its client has given up."""
    answered: dict[object, list[int]] = {}
    for answer in talk.answers:
        answered.setdefault((answer.transport, answer.destination, answer.payload[:2]), []).append(
            answer.at_ns
        )
    for query in talk.queries:
        times = answered.get((query.transport, query.source, query.payload[:2]), ())
        at = bisect_left(times, query.at_ns)
        given_up_ns = query.at_ns + PATIENCE_NS
        yield min(times[at], given_up_ns) if at < len(times) else given_up_ns


def _clients(evidence: Evidence, asking: list[IPv4Address], given: Given) -> set[IPv4Address]:
    """Who connects, or tries to with packets that are odd: those known to be pods; without any, whoever has a
    private address."""
    known = {*asking, *given.pods}
    found = {
        flow.client.address
        for flow in evidence.flows
        if isinstance(flow.client.address, IPv4Address) and flow.outcome is not Outcome.MIDWAY
    }
    found |= {odd.source for odd in evidence.odd if odd.why not in oddities.OF_ANYBODY}
    return found & known if known else set(filter(_is_local, found))


def _name_pods(roles: Roles, pods: Iterable[IPv4Address], evidence: Evidence, given: Given) -> None:
    taken: set[str] = set()
    listed = list(pods)
    free = [_free(number, listed) for number in range(len(given.nodes))]
    for number, address in enumerate(listed, 1):
        if (known := given.pods.get(address)) is not None:
            pod = known
        else:
            called = next(iter(evidence.names.get(address, ())), "")
            name = _label(called.rpartition("/")[2]) or f"pod{number}"
            roles.assumptions.append(
                f"{address} is a pod, because it asks or connects; it is called {name}"
                + (" in the capture" if called else "")
            )
            pod = Pod(name=name)
        name = _unique(pod.name, taken)
        node = given.nodes.index(pod.node) if pod.node else 0
        place = address if rules.is_pods(address, node) else next(free[node])
        if place != address:
            roles.moved[address] = place
            roles.assumptions.append(
                f"pod {name} has {place} in the place of {address}: a lab's pods are there"
            )
        roles.pods[address] = pod.model_copy(update={"name": name, "address": place})


def _free(node: int, taken: Iterable[IPv4Address]) -> Iterator[IPv4Address]:
    used = set(taken)
    # The last ones are left to the pods of DNS servers.
    return (one for one in NodePlan("", node).pod_cidr if rules.is_pods(one, node) and one not in used)


# --- servers ------------------------------------------------------------------------------------------------


def _name_servers(roles: Roles, servers: Iterable[IPv4Address], given: Given) -> None:
    taken: set[str] = {pod.name for pod in roles.pods.values()}
    used: set[IPv4Address] = set()
    numbers = count(_FIRST_CLUSTER_IP)
    inside_count = 0
    for address in servers:
        inside = _is_local(address) and not given.is_outside(address)
        if not inside:
            name = _unique("dns-outside", taken)
            roles.servers[address] = Server(name=name, address=address)
            roles.assumptions.append(f"{address} is a DNS server outside the cluster: it is called {name}")
            continue
        inside_count += 1
        namespace, labels = given.server()
        if inside_count > 1:
            labels = {**labels, "server": f"number-{inside_count}"}
        name = _unique("kube-dns", taken)
        place = address
        while place not in SERVICES or place in used:
            place = SERVICES[next(numbers)]
        used.add(place)
        if place != address:
            roles.moved[address] = place
        shown = ", ".join(f"{key}={value}" for key, value in labels.items())
        roles.assumptions.append(
            f"{address} is a DNS server of the cluster: Service {namespace}/{name} {place}, pod with {shown}"
        )
        roles.servers[address] = Server(name=name, address=place, namespace=namespace, labels=labels)


def _unique(name: str, taken: set[str]) -> str:
    found = (
        name
        if name not in taken
        else next(one for number in count(2) if (one := f"{name[:58]}-{number}") not in taken)
    )
    taken.add(found)
    return found


def _is_local(address: IPv4Address) -> bool:
    """Whether it is of a range for pods, nodes and Services."""
    return any(address in network for network in _LOCAL)


def _label(text: str) -> str:
    """A text as a name of a pod; empty where nothing of it is left."""
    return re.sub(r"[^a-z0-9-]+", "-", text.lower()).strip("-")[:63].rstrip("-")
