"""Counts each connection's packets at two points of a node: before its policy judges them, and after.

A table of the test's own in the node's namespace. Both counts are the kernel's, kept by the client's port and
both directions together; so "no packet was lost" and "no packet passed" are read as numbers, whatever else
the machine is doing. Service translation and masquerade do not show: ports are those of the original packet.
"""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from acns.datapath import netlink
from acns.datapath.nfnetlink import NetfilterSocket
from lab.kernel import netns
from lab.runtime.handles import NodeHandle

from .probes import happens

PROTOCOLS = {"tcp": 6, "udp": 17}
_KEY, _EXPRESSION = 1, 7  # of a set's element
_VALUE, _DATA, _PACKETS = 1, 2, 2
PATIENCE_S = 5.0
FIRST_PORT, LAST_PORT = 10_000, 32_000
"""Client ports that count; everything else on the node is not looked at."""

Key = tuple[int, int]
"""Protocol number, and the client's port."""


def _counting(set_name: str) -> str:
    key = "meta l4proto . ct original proto-src"
    ports = f"ct original proto-src {FIRST_PORT}-{LAST_PORT}"
    # nft knows no ports of connections without their protocol.
    return "\n".join(f"meta l4proto {one} {ports} update @{set_name} {{ {key} }}" for one in PROTOCOLS)


_RULESET = f"""
table inet gauge {{
  set before {{ type inet_proto . inet_service; size 65535; flags dynamic; counter; }}
  set after {{ type inet_proto . inet_service; size 65535; flags dynamic; counter; }}
  chain before {{
    type filter hook prerouting priority -199; policy accept;
    {_counting("before")}
  }}
  chain after {{
    type filter hook postrouting priority 400; policy accept;
    {_counting("after")}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Counts:
    """Packets so far: `before` the policy, `after` it."""

    before: defaultdict[Key, int]
    after: defaultdict[Key, int]


class Gauge:
    """The counts of one node."""

    def __init__(self, netfilter: NetfilterSocket) -> None:
        self._netfilter = netfilter

    @classmethod
    @contextmanager
    def on(cls, node: NodeHandle) -> Iterator[Gauge]:
        done = node.run(["nft", "-f", "-"], input=_RULESET)
        assert done.returncode == 0, done.stderr
        namespace = node.netns_fd()
        try:
            netfilter = netns.in_namespace(namespace, NetfilterSocket)
        finally:
            os.close(namespace)
        yield cls(netfilter)
        netfilter.close()
        node.run(["nft", "delete", "table", "inet", "gauge"])

    def read(self) -> Counts:
        """Read in the order in which packets pass: what is missing after was not lost, only not there yet."""
        before = self._set("before")
        return Counts(before, self._set("after"))

    def missing(self, silent: Mapping[Key, str]) -> list[str]:
        """What is lost for good of connections that send no more, and whose."""
        left = dict(silent)

        def all_came() -> bool:
            counts = self.read()
            for key in list(left):
                if counts.before[key] == counts.after[key]:
                    del left[key]
            return not left

        if happens(all_came, PATIENCE_S):
            return []
        counts = self.read()
        return [f"{counts.after[key]} of {counts.before[key]} packets of {left[key]}" for key in left]

    def _set(self, name: str) -> defaultdict[Key, int]:
        found: defaultdict[Key, int] = defaultdict(int)
        for element in self._netfilter.elements("gauge", name):
            protocol, port = struct.unpack("!BxxxHxx", _inner(element[_KEY], _VALUE))
            counter = netlink.attributes(_inner(element[_EXPRESSION], _DATA))
            found[protocol, port] = int.from_bytes(counter[_PACKETS], "big")
        return found


def _inner(nested: bytes, kind: int) -> bytes:
    return netlink.attributes(nested)[kind]
