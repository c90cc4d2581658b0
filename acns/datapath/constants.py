"""The numbers that the kernel side, the agents and the tests agree on.

Marks live in bits 8–11 of the packet mark, as Cilium's do, so that kube-proxy's 0x4000/0x8000 stay out of the
way; the grants live in `ct mark`. Changing one of these numbers orphans what an older agent left in the
kernel.
"""

from __future__ import annotations

FAMILY = "inet"
TABLE = "acns"

MARK_MASK = 0xF00
MARK_TO_PROXY = 0x200
"""A pod's DNS query on its way to the resolver; the routing rule delivers it locally."""
MARK_FROM_PROXY = 0xB00
"""SO_MARK of the resolver's transparent sockets: answers to pods, never tracked."""
MARK_AS_POD = 0x900
"""SO_MARK of the resolver's sockets that ask a DNS server as a pod (Cilium: PROXY_EGRESS_EPID)."""

ROUTE_TABLE = 2005
RULE_PREF = 9

PROXY_ADDRESS = "127.0.0.1"
PROXY_PORT = 10053

QUERY_RATE = 20_000
"""DNS messages a second that one pod gets through to the resolver; above the resolver's own limit, so that a
pod hears of its excess first."""

EGRESS_GRANT_MASK = 0x0000_FFFF
INGRESS_GRANT_MASK = 0xFFFF_0000

NFLOG_GROUP = 100
LOG_PREFIX = "acns:"
LOG_LIMIT = "20/second burst 40 packets"
"""Per id that drops: a look at what is denied, not a record of all of it."""
ANSWER_LIMIT = "50/second burst 50 packets"
"""Per id that drops; the kernel has a limit per destination besides (icmp_ratelimit)."""

TAKEOVER_COMMENT = "takeover"
"""On elements of the learned set that the resolver's writer has made while the shim was away."""

COMMENT_BYTES = 128
"""NFTNL_UDATA_COMMENT_MAXLEN: libnftables refuses longer comments."""
SELECTOR_COMMENT_BYTES = 100
LOG_PREFIX_BYTES = 127
"""NF_LOG_PREFIXLEN - 1."""
