"""The base chains: fixed names, few rules, the same on every node. They find the endpoint and dispatch.

In a packet's order (the numbers are nft priorities):

* `pre_raw` (prerouting -300): IPv6 of restricted pods is refused here, spoofed sources dropped, and DNS
  queries to gated servers marked and taken past connection tracking: the Service translation at -100 must
  not see them.
* `pre_tproxy` (prerouting -150): marked packets go to the resolver. Without a listening socket `tproxy`
  breaks off its rule, so the `drop` after it is what keeps a dead resolver closed.
* `pre_pods` (prerouting -90): what pods send. After Service translation, before routing: sees node-local
  destinations too.
* `fwd_pods` (forward 0): what comes to pods from elsewhere.
* `out_raw` (output -300): the resolver's answers are not tracked. Tracked, they would leave entries that
  swallow the pod's next query from the same port once the rules are gone.
* `out_pods` (output 0): what the node answers to its pods. What it opens to them is its own business.

While a restricted pod's interface is not known (no route leads to it yet), it is shut by its address. Its
IPv6 addresses nobody has told us: so IPv6 then passes only at interfaces that are known to be another's.
"""

from __future__ import annotations

from dataclasses import dataclass

from acns.datapath import chains, constants, drops, rules
from acns.datapath.drops import fixed
from acns.datapath.model import ChainSpec, Rule

DNS_MAP, FROM_MAP, TO_MAP = "dns_redirect", "from_pod", "to_pod"
POD_INTERFACES, KNOWN_INTERFACES = "pod_ifaces", "known_ifaces"
ENDPOINTS, ENFORCED = "endpoints", "enforced"
UNPLACED_FROM, UNPLACED_TO = "unplaced_from", "unplaced_to"
V6_FROM, V6_TO = "v6_from", "v6_to"

COUNTERS = {
    "spoofed": "IPv4 packets from a pod's interface with another source than the pod's",
    "unplaced": "packets of a restricted pod whose interface is not known yet",
    "ipv6": "IPv6 packets of restricted pods, refused",
    "unjudged": "packets of restricted pods that found no chain of theirs: never, on a sound table",
    "unproxied": "redirected DNS queries that found no resolver",
    "resolver_port": "packets of pods straight to the resolver's own port",
    chains.MIDSTREAM: "TCP packets that open a connection of a restricted pod's without SYN",
    chains.INVALID: "packets of restricted pods that belong to no connection",
}

_V6 = "meta nfproto ipv6"


@dataclass(frozen=True, slots=True)
class Unplaced:
    """Whether a pod with that direction enforced has no interface."""

    egress: bool = False
    ingress: bool = False


def base_chains(proxy_port: int, unplaced: Unplaced) -> list[ChainSpec]:
    """All base chains, and what drops for them."""
    return [
        _chain("pre_raw", "prerouting", -300, [*_ipv6(unplaced.egress), *_sources()]),
        _chain("pre_tproxy", "prerouting", -150, _tproxy(proxy_port)),
        _chain("pre_pods", "prerouting", -90, _from_pods(proxy_port)),
        _chain("fwd_pods", "forward", 0, _to_pods(unplaced.ingress)),
        _chain("out_raw", "output", -300, [fixed(f"{_marked(constants.MARK_FROM_PROXY)} notrack")]),
        _chain("out_pods", "output", 0, _node_answers()),
        *(drops.counted(counter) for counter in COUNTERS),
    ]


def _chain(name: str, hook: str, priority: int, body: list[Rule]) -> ChainSpec:
    return ChainSpec(name, tuple(body), f"type filter hook {hook} priority {priority}; policy accept;")


def _ipv6(unplaced: bool) -> list[Rule]:
    sources = [f"iifname @{V6_FROM}", *([f"iifname != @{KNOWN_INTERFACES}"] if unplaced else [])]
    return [rule for source in sources for rule in _refuse_ipv6(f"{_V6} {source}")]


def _refuse_ipv6(v6: str) -> list[Rule]:
    discovery = f"{v6} icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }}"
    return [
        # Not beyond the link: a router forwards such a message like any other, whatever it carries.
        fixed(f"{discovery} ip6 daddr {{ fe80::/10, ff02::/16 }} accept"),
        fixed(f"{discovery} fib daddr type local accept"),
        # To answer a claimed source would send the packet on to it, quoted.
        fixed(f"{v6} fib saddr . iif oif missing goto x_ipv6", "spoofed source"),
        fixed(f"{v6} {drops.logging('ipv6')}"),
        # A reset ends a client's attempt at once; it waits a second after admin-prohibited.
        fixed(f"{v6} meta l4proto tcp counter name ipv6 reject with tcp reset", "IPv4 only"),
        fixed(f"{v6} counter name ipv6 reject with icmpv6 admin-prohibited", "IPv4 only"),
    ]


def _sources() -> list[Rule]:
    v4 = f"meta nfproto ipv4 iifname @{POD_INTERFACES}"
    return [
        fixed(f"ip saddr @{UNPLACED_FROM} goto x_unplaced", "interface not known yet"),
        fixed(f"{v4} iifname . ip saddr != @{ENDPOINTS} goto x_spoofed", "spoofed source"),
        fixed(f"iifname . ip saddr vmap @{DNS_MAP}"),
    ]


def _tproxy(proxy_port: int) -> list[Rule]:
    marked = _marked(constants.MARK_TO_PROXY)
    target = f"{constants.PROXY_ADDRESS}:{proxy_port}"
    udp_tcp = "meta nfproto ipv4 meta l4proto { tcp, udp }"
    return [
        fixed(f"{marked} {udp_tcp} tproxy ip to {target} accept", "to the resolver"),
        fixed(f"{marked} goto x_unproxied", "no resolver: closed"),
    ]


def _from_pods(proxy_port: int) -> list[Rule]:
    pods = f"iifname @{POD_INTERFACES}"
    resolver = f"{pods} meta l4proto {{ tcp, udp }} th dport {proxy_port} fib daddr type local"
    served_v6 = f"{_V6} iifname @{V6_TO}"
    return [
        fixed(f"{_marked(constants.MARK_TO_PROXY)} accept", "to the resolver"),
        fixed(f"{resolver} goto x_resolver_port", "the resolver's own port"),
        fixed(f"{served_v6} ct direction reply fib daddr type != local goto x_ipv6", "IPv4 only"),
        fixed(f"{served_v6} {chains.OPENED_BEFORE}"),
        fixed(f"iifname . ip saddr vmap @{FROM_MAP}"),
        fixed(f"iifname . ip saddr @{ENFORCED} goto x_unjudged", "no chain: closed"),
    ]


def _to_pods(unplaced: bool) -> list[Rule]:
    closed_v6 = [f"{_V6} oifname @{V6_TO}"]
    if unplaced:
        closed_v6.append(f"{_V6} oifname != @{KNOWN_INTERFACES}")
    return [
        fixed(f"{_V6} oifname @{V6_FROM} ct direction reply goto x_ipv6", "IPv4 only"),
        *(
            rule
            for v6 in closed_v6
            for rule in (
                fixed(f"{v6} ct direction reply accept", "the pod's own connections"),
                fixed(f"{v6} goto x_ipv6", "IPv4 only"),
            )
        ),
        fixed(f"ip daddr @{UNPLACED_TO} goto x_unplaced", "interface not known yet"),
        fixed(f"ip daddr @{UNPLACED_FROM} ct direction reply goto x_unplaced", "interface not known yet"),
        fixed(f"oifname . ip daddr vmap @{TO_MAP}"),
        fixed(f"oifname . ip daddr @{ENFORCED} goto x_unjudged", "no chain: closed"),
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
