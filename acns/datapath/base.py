"""The base chains: fixed names, few rules, the same on every node. They find the endpoint and dispatch.

In a packet's order (the numbers are nft priorities):

* `pre_raw` (prerouting -300): DNS queries to gated servers are marked and taken past connection tracking: the
  Service translation at -100 must not see them. Of what else comes from pods' interfaces, spoofed sources are
  dropped and IPv6 of restricted pods is refused.
* `pre_tproxy` (prerouting -150): marked packets go to the resolver. Without a listening socket `tproxy`
  breaks off its rule, so the `drop` after it is what keeps a dead resolver closed. What one pod sends past
  the limit is dropped before: a packet that is dropped here costs a fiftieth of what the resolver pays for
  the cheapest refusal, and takes no room in the queue that all pods share.
* `pre_pods` (prerouting -90): what pods send. After Service translation, before routing: sees node-local
  destinations too.
* `fwd_pods` (forward 0): what comes to pods from elsewhere.
* `in_own` (input 0): what comes from outside for 127.0.0.0/8. With route_localnet, as kube-proxy has it, pods
  would reach what listens there: the agents' own ports too.
* `out_raw` (output -300): the resolver's answers are not tracked. Tracked, they would leave entries that
  swallow the pod's next query from the same port once the rules are gone. What Cilium's proxy asks of
  servers has the same mark, and is tracked: the Service translation must see it.
* `out_pods` (output 0): what the node answers to its pods. What it opens to them is its own business.

In each of them an endpoint's own IPv4 packets, which are most, come first and meet few rules: each rule that
a packet passes costs it some tens of nanoseconds, a look into a set twice that.

While a restricted pod's interface is not known (no route leads to it yet), it is shut by its address. Its
IPv6 addresses nobody has told us: so IPv6 then passes only at interfaces that are known to be another's.
"""

from __future__ import annotations

from dataclasses import dataclass

from acns.datapath import chains, constants, drops, rules
from acns.datapath.drops import fixed
from acns.datapath.model import ChainSpec, Content, Rule, SetSpec

DNS_MAP, FROM_MAP, TO_MAP = "dns_redirect", "from_pod", "to_pod"
POD_INTERFACES, KNOWN_INTERFACES = "pod_ifaces", "known_ifaces"
ENFORCED = "enforced"
UNPLACED_FROM, UNPLACED_TO = "unplaced_from", "unplaced_to"
V6_FROM, V6_TO = "v6_from", "v6_to"

COUNTERS = {
    "spoofed": "IPv4 packets from a pod's interface with another source than the pod's",
    "unplaced": "packets of a restricted pod whose interface is not known yet",
    "ipv6": "IPv6 packets of restricted pods, refused",
    "unjudged": "packets of restricted pods that found no chain of theirs: never, on a sound table",
    "unproxied": "redirected DNS queries that found no resolver",
    "flooded": "DNS messages of pods past the limit for one pod, dropped before the resolver",
    "resolver_port": "packets of pods straight to the resolver's own port",
    "loopback": "packets from outside to this node's loopback addresses",
    chains.MIDSTREAM: "TCP packets that open a connection of a restricted pod's without SYN",
    chains.INVALID: "packets of restricted pods that belong to no connection",
}

_MISMATCHED, _RESOLVER = "mismatched", "resolver"
_V6_SENT, _V6_ANSWERED, _V6_COMING = "ipv6_sent", "ipv6_answered", "ipv6_coming"

_MANY_PODS = 65_535
_BURSTS_A_SECOND = 10
"""A tenth of a second's messages may come at once: they all fit into the resolver's queue, with room left."""

_V6 = "meta nfproto ipv6"
_TO_PROXY = rules.has_packet_mark(constants.MARK_TO_PROXY)
_FROM_OUTSIDE, _LOOPBACK = 'iifname != "lo"', "127.0.0.0/8"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Whether a pod with that direction enforced has no interface."""

    egress: bool = False
    ingress: bool = False


def query_rates(per_second: int) -> SetSpec:
    """What each pod has sent lately. Called after the limit: an element keeps the one it was made with."""
    return SetSpec(
        f"query_rates_{per_second}",
        "ipv4_addr",
        Content.COUNTED,
        flags="dynamic,timeout",
        options=f"timeout 1m; size {_MANY_PODS};",
    )


def base_chains(
    proxy_port: int, query_rate: int, unplaced: Unplaced, *, transparent: bool = False
) -> list[ChainSpec]:
    """All base chains, and what drops for them."""
    return [
        _chain("pre_raw", "prerouting", -300, _sources(unplaced.egress)),
        _chain("pre_tproxy", "prerouting", -150, _proxied(transparent)),
        _chain("pre_pods", "prerouting", -90, _from_pods(proxy_port)),
        _chain("fwd_pods", "forward", 0, _to_pods()),
        _chain("in_own", "input", 0, [fixed(f"{_FROM_OUTSIDE} ip daddr {_LOOPBACK} goto x_loopback")]),
        _chain("out_raw", "output", -300, _proxy_answers()),
        _chain("out_pods", "output", 0, _node_answers()),
        ChainSpec(_MISMATCHED, tuple(_mismatched())),
        ChainSpec(_V6_SENT, tuple(_ipv6_sent())),
        ChainSpec(_V6_ANSWERED, tuple(_ipv6_answered())),
        ChainSpec(_V6_COMING, tuple(_ipv6_coming(unplaced.ingress))),
        ChainSpec(_RESOLVER, tuple(_to_resolver(proxy_port, query_rate))),
        *(drops.counted(counter) for counter in COUNTERS),
    ]


def _chain(name: str, hook: str, priority: int, body: list[Rule]) -> ChainSpec:
    return ChainSpec(name, tuple(body), f"type filter hook {hook} priority {priority}; policy accept;")


def _sources(unplaced: bool) -> list[Rule]:
    return [
        fixed(f"iifname . ip saddr vmap @{DNS_MAP}"),
        fixed(f"ip saddr @{UNPLACED_FROM} goto x_unplaced", "interface not known yet"),
        fixed(f"iifname @{POD_INTERFACES} goto {_MISMATCHED}"),
        *([fixed(f"{_V6} iifname != @{KNOWN_INTERFACES} goto {_V6_SENT}")] if unplaced else []),
    ]


def _mismatched() -> list[Rule]:
    """From a pod's interface, but not from its address."""
    return [
        fixed("meta nfproto ipv4 goto x_spoofed", "spoofed source"),
        fixed(f"iifname @{V6_FROM} goto {_V6_SENT}"),
    ]


def _ipv6_sent() -> list[Rule]:
    """By pods whose egress is restricted."""
    discovery = f"{_V6} icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }}"
    return [
        # Not beyond the link: a router forwards such a message like any other, whatever it carries.
        fixed(f"{discovery} ip6 daddr {{ fe80::/10, ff02::/16 }} accept"),
        fixed(f"{discovery} fib daddr type local accept"),
        # To answer a claimed source would send the packet on to it, quoted.
        fixed(f"{_V6} fib saddr . iif oif missing goto x_ipv6", "spoofed source"),
        fixed(f"{_V6} {drops.logging('ipv6')}"),
        # A reset ends a client's attempt at once; it waits a second after admin-prohibited.
        fixed(f"{_V6} meta l4proto tcp counter name ipv6 reject with tcp reset", "IPv4 only"),
        fixed(f"{_V6} counter name ipv6 reject with icmpv6 admin-prohibited", "IPv4 only"),
    ]


def _proxied(transparent: bool) -> list[Rule]:
    """`transparent`: answers to what the resolver asks as a pod are its, by the socket that asked."""
    answers = fixed(rules.answers_a_socket(constants.MARK_AS_POD), "to what was asked as a pod")
    return [fixed(f"{_TO_PROXY} goto {_RESOLVER}"), *([answers] if transparent else [])]


def _to_resolver(proxy_port: int, query_rate: int) -> list[Rule]:
    target = f"{constants.PROXY_ADDRESS}:{proxy_port}"
    return [
        *within_rate(query_rate),
        fixed(
            f"meta nfproto ipv4 meta l4proto {{ tcp, udp }} tproxy ip to {target} accept", "to the resolver"
        ),
        fixed("goto x_unproxied", "no resolver: closed"),
    ]


def _proxy_answers() -> list[Rule]:
    return [fixed(f"{_marked(constants.MARK_FROM_PROXY)} oifname @{POD_INTERFACES} notrack", "to pods only")]


def within_rate(query_rate: int) -> list[Rule]:
    """Datagrams and new connections draw on one bucket. Only pods have one: their sources were looked up."""
    limit = f"limit rate over {query_rate}/second burst {max(query_rate // _BURSTS_A_SECOND, 1)} packets"
    count = f"update @{query_rates(query_rate).name} {{ ip saddr {limit} }} goto x_flooded"
    return [
        fixed(f"meta nfproto ipv4 meta l4proto udp {count}", "one pod's flood"),
        fixed(f"meta nfproto ipv4 tcp flags & (fin | syn | rst | ack) == syn {count}", "one pod's flood"),
    ]


def _from_pods(proxy_port: int) -> list[Rule]:
    to_port = f"meta l4proto {{ tcp, udp }} th dport {proxy_port} iifname @{POD_INTERFACES}"
    return [
        fixed(f"{_TO_PROXY} accept", "to the resolver"),
        fixed(f"{to_port} fib daddr type local goto x_resolver_port", "the resolver's own port"),
        fixed(f"iifname . ip saddr vmap @{FROM_MAP}"),
        fixed(f"{_V6} iifname @{V6_TO} goto {_V6_ANSWERED}"),
        fixed(f"iifname . ip saddr @{ENFORCED} goto x_unjudged", "no chain: closed"),
    ]


def _ipv6_answered() -> list[Rule]:
    """Sent by pods whose ingress is restricted."""
    return [
        fixed(f"{_V6} ct direction reply fib daddr type != local goto x_ipv6", "IPv4 only"),
        fixed(f"{_V6} {chains.OPENED_BEFORE}"),
    ]


def _to_pods() -> list[Rule]:
    return [
        fixed(f"oifname . ip daddr vmap @{TO_MAP}"),
        fixed(f"{_V6} goto {_V6_COMING}"),
        fixed(f"ip daddr @{UNPLACED_TO} goto x_unplaced", "interface not known yet"),
        fixed(f"ip daddr @{UNPLACED_FROM} ct direction reply goto x_unplaced", "interface not known yet"),
        fixed(f"oifname . ip daddr @{ENFORCED} goto x_unjudged", "no chain: closed"),
    ]


def _ipv6_coming(unplaced: bool) -> list[Rule]:
    """To pods with a direction restricted."""
    closed = [f"{_V6} oifname @{V6_TO}"]
    if unplaced:
        closed.append(f"{_V6} oifname != @{KNOWN_INTERFACES}")
    return [
        fixed(f"{_V6} oifname @{V6_FROM} ct direction reply goto x_ipv6", "IPv4 only"),
        *(
            rule
            for v6 in closed
            for rule in (
                fixed(f"{v6} ct direction reply accept", "the pod's own connections"),
                fixed(f"{v6} goto x_ipv6", "IPv4 only"),
            )
        ),
    ]


def _node_answers() -> list[Rule]:
    """Not its ICMP errors, nor its resets for connections that nobody knows any more."""
    return [
        fixed("ct state related accept", "the node's own"),
        fixed(f"ip daddr @{UNPLACED_FROM} ct direction reply goto x_unplaced", "interface not known yet"),
        fixed(f"ct direction reply oifname . ip daddr vmap @{TO_MAP}"),
        fixed(f"ct direction reply oifname . ip daddr @{ENFORCED} goto x_unjudged", "no chain: closed"),
    ]


def _marked(mark: int) -> str:
    return rules.has_packet_mark(mark)
