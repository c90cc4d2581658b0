"""The base chains: fixed names, few rules, the same on every node. They find the endpoint and dispatch.

In a packet's order (the numbers are nft priorities):

* `pre_raw` (prerouting -300): of what comes from pods' interfaces, spoofed sources are dropped, IPv6 of
  restricted pods is refused, and DNS queries to gated servers go to the resolver, past connection tracking:
  the Service translation at -100 must not see them. Without a listening socket `tproxy` breaks off its rule,
  so the `drop` after it is what keeps a dead resolver closed. What one pod sends past the limit is dropped
  before: a packet that is dropped here costs a fiftieth of what the resolver pays for the cheapest refusal,
  and takes no room in the queue that all pods share.
* `pre_answers` (prerouting -150), only where the resolver may ask as a pod: the answers are the resolver's.
* `pre_pods` (prerouting -90): what pods send. After Service translation, before routing: sees node-local
  destinations too.
* `fwd_pods` (forward 0): what comes to pods from elsewhere.
* `in_own` (input 0): what comes from outside for 127.0.0.0/8 (with route_localnet, as kube-proxy has it, pods
  would reach what listens there: the agents' own ports too), and what pods send to the resolver's own port.
  What this node has translated to there itself is let in, as kube-proxy's own rule does: the DNS server of a
  container (kind's nodes are containers) is such an address, and the cluster's DNS asks it.
* `out_raw` (output -300): the resolver's answers are not tracked. Tracked, they would leave entries that
  swallow the pod's next query from the same port once the rules are gone. What Cilium's proxy asks of
  servers has the same mark, and is tracked: the Service translation must see it.
* `out_pods` (output 0): what the node answers to its pods. What it opens to them is its own business, but for
  what an `ingressDeny` is about (docs/adr/0024): pods that have one are in the map `from_node`.

Each rule that a packet meets costs it some tens of nanoseconds, a look into a set twice that and more where
the set is cold. So what comes from an uplink, or goes to one, leaves a chain at its first rule: no pod is
behind it. An endpoint's own IPv4 packets come next. `pre_raw` looks a sender up by interface *and* address;
behind it the address alone says who has sent a packet. Where a packet goes to, the address says as well.

While a restricted pod's interface is not known (no route leads to it yet), it is shut by its address, first
of all. Its IPv6 addresses nobody has told us: so IPv6 then passes only at interfaces that are known to be
another's.

A pod that nobody has told us of yet sends and receives as Kubernetes lets it, or (`unknown_pods`) nothing:
then what goes over a veth that is neither an uplink nor a known pod's is dropped. The kernel decides that by
itself, so there is no first packet of a pod that is quicker, also while the shim is dead.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

from acns.datapath import chains, constants, drops, rules
from acns.datapath.drops import fixed
from acns.datapath.model import ChainSpec, Content, Rule, SetSpec

DNS_MAP, FROM_MAP, TO_MAP = "dns_redirect", "from_address", "to_address"
NODE_MAP = "from_node"
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
    "unknown": "packets of pods that the shim has not heard of, where these are closed",
    chains.MIDSTREAM: "TCP packets that open a connection of a restricted pod's without SYN",
    chains.INVALID: "packets of restricted pods that belong to no connection",
}

_MISMATCHED = "mismatched"
_V6_SENT, _V6_ANSWERED, _V6_COMING = "ipv6_sent", "ipv6_answered", "ipv6_coming"

_MANY_PODS = 65_535
_FEW_UPLINKS = 2
"""So many comparisons are faster than a set."""
_BURSTS_A_SECOND = 10
"""A tenth of a second's messages may come at once: they all fit into the resolver's queue, with room left."""

_V6 = "meta nfproto ipv6"
_NOT_TO_PROXY = f"meta mark & 0x{constants.MARK_MASK:x} != 0x{constants.MARK_TO_PROXY:x}"
_FROM_OUTSIDE, _LOOPBACK = 'iifname != "lo"', "127.0.0.0/8"

UnknownPods = Literal["open", "closed"]
_FROM_UNKNOWN = f'meta iifkind "veth" iifname != @{POD_INTERFACES}'
_TO_UNKNOWN = f'meta oifkind "veth" oifname != @{POD_INTERFACES}'
_IS_UNKNOWN = "interface of no pod that is known"


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
    proxy_port: int,
    query_rate: int,
    unplaced: Unplaced,
    uplinks: Collection[str],
    *,
    transparent: bool = False,
    unknown_pods: UnknownPods = "open",
) -> list[ChainSpec]:
    """All base chains, and what drops for them. `uplinks`: interfaces, as nft text, that no pod is behind."""
    away, closed = sorted(uplinks), unknown_pods == "closed"
    return [
        _chain("pre_raw", "prerouting", -300, _sources(unplaced, away)),
        *([_chain("pre_answers", "prerouting", -150, _answers())] if transparent else []),
        _chain("pre_pods", "prerouting", -90, _from_pods(away, transparent, closed)),
        _chain("fwd_pods", "forward", 0, _to_pods(unplaced, away, closed)),
        _chain("in_own", "input", 0, _own(proxy_port)),
        _chain("out_raw", "output", -300, _proxy_answers()),
        _chain("out_pods", "output", 0, _node_answers()),
        ChainSpec(_MISMATCHED, tuple(_mismatched())),
        ChainSpec(_V6_SENT, tuple(_ipv6_sent())),
        ChainSpec(_V6_ANSWERED, tuple(_ipv6_answered())),
        ChainSpec(_V6_COMING, tuple(_ipv6_coming(unplaced.ingress))),
        ChainSpec(chains.RESOLVER, tuple(_to_resolver(proxy_port, query_rate))),
        *(drops.counted(counter) for counter in COUNTERS),
    ]


def _chain(name: str, hook: str, priority: int, body: list[Rule]) -> ChainSpec:
    return ChainSpec(name, tuple(body), f"type filter hook {hook} priority {priority}; policy accept;")


def _sources(unplaced: Unplaced, uplinks: Sequence[str]) -> list[Rule]:
    waiting = [fixed(f"ip saddr @{UNPLACED_FROM} goto x_unplaced", "interface not known yet")]
    unknown = [fixed(f"{_V6} iifname != @{KNOWN_INTERFACES} goto {_V6_SENT}")]
    return [
        *(waiting if unplaced.egress else []),
        *_passing("iifname", uplinks),
        fixed(f"iifname . ip saddr vmap @{DNS_MAP}"),
        fixed(f"iifname @{POD_INTERFACES} goto {_MISMATCHED}"),
        *(unknown if unplaced.egress else []),
    ]


def _passing(side: str, uplinks: Sequence[str]) -> list[Rule]:
    """Leave the chain: no pod is there."""
    alone = len(uplinks) <= _FEW_UPLINKS
    groups = [[one] for one in uplinks] if alone else [list(uplinks)]
    return [fixed(f"{side} {rules.braces(group)} accept", "no pod is there") for group in groups]


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


def _answers() -> list[Rule]:
    """Answers to what the resolver asks as a pod are its, by the socket that asked."""
    return [fixed(rules.answers_a_socket(constants.MARK_AS_POD), "to what was asked as a pod")]


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
    return [
        fixed(
            f"{rules.has_packet_mark(constants.MARK_FROM_PROXY)} oifname @{POD_INTERFACES} notrack",
            "to pods only",
        )
    ]


def within_rate(query_rate: int) -> list[Rule]:
    """Datagrams and new connections draw on one bucket. Only pods have one: their sources were looked up."""
    limit = f"limit rate over {query_rate}/second burst {max(query_rate // _BURSTS_A_SECOND, 1)} packets"
    count = f"update @{query_rates(query_rate).name} {{ ip saddr {limit} }} goto x_flooded"
    return [
        fixed(f"meta nfproto ipv4 meta l4proto udp {count}", "one pod's flood"),
        fixed(f"meta nfproto ipv4 tcp flags & (fin | syn | rst | ack) == syn {count}", "one pod's flood"),
    ]


def _from_pods(uplinks: Sequence[str], transparent: bool, closed: bool) -> list[Rule]:
    return [
        *_passing("iifname", uplinks),
        *(_asked_as_pods() if transparent else []),
        *(_from_unknown() if closed else []),
        fixed(f"ip saddr vmap @{FROM_MAP}"),
        fixed(f"{_V6} iifname @{V6_TO} goto {_V6_ANSWERED}"),
        fixed(f"iifname . ip saddr @{ENFORCED} goto x_unjudged", "no chain: closed"),
    ]


def _asked_as_pods() -> list[Rule]:
    """What the resolver asks here with a pod's address, and what it is answered."""
    return [
        fixed('iifname "lo" accept', "this node's own"),
        fixed(f"{rules.has_packet_mark(constants.MARK_TO_PROXY)} accept", "to the resolver"),
    ]


def _from_unknown() -> list[Rule]:
    """They answer their node, whose probes are its own business."""
    return [
        fixed(f"{_FROM_UNKNOWN} ct direction reply accept", "what was let in to it"),
        fixed(f"{_FROM_UNKNOWN} goto x_unknown", _IS_UNKNOWN),
    ]


def _own(proxy_port: int) -> list[Rule]:
    """Redirected queries arrive there too: these have their mark."""
    to_port = f"iifname @{POD_INTERFACES} meta l4proto {{ tcp, udp }} th dport {proxy_port}"
    return [
        fixed(f"{to_port} {_NOT_TO_PROXY} goto x_resolver_port", "the resolver's own port"),
        fixed(f"{_FROM_OUTSIDE} ip daddr {_LOOPBACK} ct status dnat accept", "translated by this node"),
        fixed(f"{_FROM_OUTSIDE} ip daddr {_LOOPBACK} goto x_loopback"),
    ]


def _ipv6_answered() -> list[Rule]:
    """Sent by pods whose ingress is restricted."""
    return [
        fixed(f"{_V6} ct direction reply fib daddr type != local goto x_ipv6", "IPv4 only"),
        fixed(f"{_V6} {chains.OPENED_BEFORE}"),
    ]


def _to_pods(unplaced: Unplaced, uplinks: Sequence[str], closed: bool) -> list[Rule]:
    waiting = [
        *([f"ip daddr @{UNPLACED_TO}"] if unplaced.ingress else []),
        *([f"ip daddr @{UNPLACED_FROM} ct direction reply"] if unplaced.egress else []),
    ]
    return [
        *(fixed(f"{match} goto x_unplaced", "interface not known yet") for match in waiting),
        *_passing("oifname", uplinks),
        fixed(f"ip daddr vmap @{TO_MAP}"),
        *([fixed(f"{_TO_UNKNOWN} goto x_unknown", _IS_UNKNOWN)] if closed else []),
        fixed(f"{_V6} goto {_V6_COMING}"),
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
        fixed(f"ct direction reply ip daddr vmap @{TO_MAP}"),
        fixed(f"ct direction reply oifname . ip daddr @{ENFORCED} goto x_unjudged", "no chain: closed"),
        fixed(f"ct direction original ip daddr vmap @{NODE_MAP}"),
    ]
