"""Worse links: packets lost, slowed down, late.

Loss is nftables' random numbers, in a table of its own: every kernel that can run a lab can do that. A rate
is a token bucket (`tbf`); a delay takes `netem`, which not every kernel has, and then it is an error and
never silently left out.
"""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import Any

from acns.errors import EnvironmentFault
from lab.kernel import netns

_ROOT = 0xFFFFFFFF
_HANDLES = {"tbf": 0x10000, "netem": 0x20000}
_BURST_MS = 20
_LATENCY_MS = 200
"""A packet waits no longer for its turn than so; then it is dropped, as a full queue of a router does."""
_LEAST_BURST_BYTES = 3200
_OF = 1_000_000
"""Shares are told as so many of these."""
_BEFORE_ALL, _AFTER_ALL = -500, 500


def loss_rules(table: str, interface: str, share: float) -> str:
    """nftables: this share of the packets that come in and go out by this interface is lost. Replaces the
    table."""
    lost = f"numgen random mod {_OF} < {round(share * _OF)} counter drop" if share < 1 else "counter drop"
    return f"""{without(table)}
table inet {table} {{
  chain in {{ type filter hook prerouting priority {_BEFORE_ALL}; policy accept;
    iifname "{interface}" {lost}
  }}
  chain out {{ type filter hook postrouting priority {_AFTER_ALL}; policy accept;
    oifname "{interface}" {lost}
  }}
}}
"""


def without(table: str) -> str:
    """nftables: deletes the table, also where there is none."""
    return f"add table inet {table}\ndelete table inet {table}\n"


def slow_down(
    namespace: netns.Namespace, interface: str, *, rate_kbit: int | None = None, delay_ms: int = 0
) -> None:
    """What leaves by this interface keeps to this rate, and is this late. Raises EnvironmentFault."""
    if delay_ms:
        rate = {"rate": f"{rate_kbit}kbit"} if rate_kbit else {}
        # Without a limit of its own netem drops what is more than 1,000 packets late.
        _qdisc(namespace, interface, "netem", delay=delay_ms * 1000, limit=100_000, **rate)
    elif rate_kbit:
        burst = max(_LEAST_BURST_BYTES, rate_kbit * _BURST_MS // 8)
        _qdisc(namespace, interface, "tbf", rate=f"{rate_kbit}kbit", burst=burst, latency=f"{_LATENCY_MS}ms")


def at_full_speed(namespace: netns.Namespace, interface: str) -> None:
    """What leaves by this interface does so at once, whatever it kept to before."""
    from pyroute2.netlink.exceptions import NetlinkError

    with _route(namespace) as route, contextlib.suppress(NetlinkError):  # there may be none
        for index in route.link_lookup(ifname=interface):
            route.tc("del", index=index, parent=_ROOT)


def _qdisc(namespace: netns.Namespace, interface: str, kind: str, **parameters: Any) -> None:
    from pyroute2.netlink.exceptions import NetlinkError

    with _route(namespace) as route:
        (index,) = route.link_lookup(ifname=interface)
        try:
            route.tc("replace", kind, index=index, parent=_ROOT, handle=_HANDLES[kind], **parameters)
        except NetlinkError as error:
            if error.code not in (errno.ENOENT, errno.EOPNOTSUPP):
                raise
            what = "delay packets on a link" if kind == "netem" else "limit a link's rate"
            raise EnvironmentFault(
                f"this kernel cannot {what}: it has no {kind}",
                hint=f"leave it out of 'links', or load sch_{kind} on the host (lab.doctor)",
            ) from error


def _route(namespace: netns.Namespace) -> Any:
    from pyroute2 import IPRoute

    return IPRoute(
        use_socket=netns.open_socket(namespace, socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
    )
