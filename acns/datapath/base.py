"""The base chains: fixed names, few rules, the same on every node. They find the endpoint and dispatch.

In a packet's order (the numbers are nft priorities):

* `pre_raw` (prerouting -300): IPv6 of restricted pods is refused here, spoofed sources dropped, and DNS
  queries to gated servers marked and taken past connection tracking: the Service translation at -100 must
  not see them.
* `pre_tproxy` (prerouting -150): marked packets go to the resolver. Without a listening socket `tproxy`
  breaks off its rule, so the `drop` after it is what keeps a dead resolver closed.
* `pre_egress` (prerouting -90): after Service translation, before routing: sees node-local destinations too.
* `fwd_replies`, `out_replies` (forward and output 0): what comes back to a restricted pod.
* `out_raw` (output -300): the resolver's answers are not tracked. Tracked, they would leave entries that
  swallow the pod's next query from the same port once the rules are gone.
"""

from __future__ import annotations

from acns.datapath import constants, names, rules
from acns.datapath.model import ChainSpec, Rule

DNS_MAP, EGRESS_MAP, REPLIES_MAP = "dns_redirect", "egress", "replies"
POD_INTERFACES, ENDPOINTS, UNPLACED, V6_BLOCKED = "pod_ifaces", "endpoints", "unplaced", "v6_blocked"
ENFORCED = "enforced"

COUNTERS = {
    "spoofed": "IPv4 packets from a pod's interface with another source than the pod's",
    "unplaced": "packets of a restricted pod whose interface is not known yet",
    "ipv6": "IPv6 packets of restricted pods, refused",
    "unjudged": "packets of restricted pods that found no chain of theirs: never, on a sound table",
    "unproxied": "redirected DNS queries that found no resolver",
    "resolver_port": "packets of pods straight to the resolver's own port",
    "midstream": "TCP packets to restricted pods that open a connection without SYN",
    "invalid": "packets to restricted pods that belong to no connection",
}


def base_chains(proxy_port: int) -> list[ChainSpec]:
    """All base chains."""
    return [
        _chain("pre_raw", "prerouting", -300, _ipv6() + _sources()),
        _chain("pre_tproxy", "prerouting", -150, _tproxy(proxy_port)),
        _chain("pre_egress", "prerouting", -90, _egress(proxy_port)),
        _chain("fwd_replies", "forward", 0, _dispatch_back()),
        _chain(
            "out_raw", "output", -300, [(f"{rules.has_packet_mark(constants.MARK_FROM_PROXY)} notrack", "")]
        ),
        _chain("out_replies", "output", 0, _output()),
    ]


def _chain(name: str, hook: str, priority: int, texts: list[tuple[str, str]]) -> ChainSpec:
    return ChainSpec(
        name,
        tuple(Rule(f"b_{names.digest(name, text)}", text, note) for text, note in texts),
        f"type filter hook {hook} priority {priority}; policy accept;",
    )


def _ipv6() -> list[tuple[str, str]]:
    v6 = f"meta nfproto ipv6 iifname @{V6_BLOCKED}"
    discovery = f"{v6} icmpv6 type {{ nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert }}"
    return [
        # Not beyond the link: a router forwards such a message like any other, whatever it carries.
        (f"{discovery} ip6 daddr {{ fe80::/10, ff02::/16 }} accept", ""),
        (f"{discovery} fib daddr type local accept", ""),
        # To answer a claimed source would send the packet on to it, quoted.
        (f"{v6} fib saddr . iif oif missing counter name ipv6 drop", "spoofed source"),
        # A reset ends a client's attempt at once; it waits a second after admin-prohibited.
        (f"{v6} meta l4proto tcp counter name ipv6 reject with tcp reset", "IPv4 only"),
        (f"{v6} counter name ipv6 reject with icmpv6 admin-prohibited", "IPv4 only"),
    ]


def _sources() -> list[tuple[str, str]]:
    v4 = f"meta nfproto ipv4 iifname @{POD_INTERFACES}"
    return [
        (f"ip saddr @{UNPLACED} counter name unplaced drop", "interface not known yet"),
        (f"{v4} iifname . ip saddr != @{ENDPOINTS} counter name spoofed drop", "spoofed source"),
        (f"iifname . ip saddr vmap @{DNS_MAP}", ""),
    ]


def _tproxy(proxy_port: int) -> list[tuple[str, str]]:
    marked = rules.has_packet_mark(constants.MARK_TO_PROXY)
    target = f"{constants.PROXY_ADDRESS}:{proxy_port}"
    return [
        (
            f"{marked} meta nfproto ipv4 meta l4proto {{ tcp, udp }} tproxy ip to {target} accept",
            "to the resolver",
        ),
        (f"{marked} counter name unproxied drop", "no resolver: closed"),
    ]


def _egress(proxy_port: int) -> list[tuple[str, str]]:
    local = (
        f"iifname @{POD_INTERFACES} meta l4proto {{ tcp, udp }} th dport {proxy_port} fib daddr type local"
    )
    return [
        (f"{rules.has_packet_mark(constants.MARK_TO_PROXY)} accept", "to the resolver"),
        (f"{local} counter name resolver_port drop", "the resolver's own port"),
        (f"iifname . ip saddr vmap @{EGRESS_MAP}", ""),
        (f"iifname . ip saddr @{ENFORCED} counter name unjudged drop", "no chain: closed"),
    ]


def _output() -> list[tuple[str, str]]:
    return [
        # A reset for a connection that nobody knows any more; what a node says to its pods is its own.
        ("ct state invalid accept", "the node's own"),
        *_dispatch_back(),
    ]


def _dispatch_back() -> list[tuple[str, str]]:
    return [
        (f"oifname . ip daddr vmap @{REPLIES_MAP}", ""),
        (f"oifname . ip daddr @{ENFORCED} ct direction reply counter name unjudged drop", "no chain: closed"),
    ]
