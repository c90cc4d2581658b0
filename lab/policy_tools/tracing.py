"""What a node's rules do with one packet, as the kernel tells it: nftables' own tracing, read from netlink.

A table of ours (never the agents') marks the packets that were announced, and nothing else; the kernel then
reports every rule that such a packet meets. Two empty chains, behind all that filters, say that it came
through: `left` where it leaves the node (or goes to a pod), `delivered` where it goes to the node itself. The
table belongs to our netlink socket: however this program ends, the kernel removes it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from nftables import Nftables

from acns.datapath import netlink, nfnetlink
from acns.datapath.netlink_events import GENERIC_BYTES, EventSocket, Overrun
from acns.datapath.nfnetlink import NetfilterSocket
from acns.errors import Bug, PeerError
from lab.kernel import netns, sockets
from lab.policy_tools.packets import Probe

TABLE = f"acns-lab-trace-{os.getpid()}"
LEFT, DELIVERED = "left", "delivered"

_BUFFER_BYTES = 64 << 20
"""Every step of a packet is a message of its own, for which the kernel takes 2 KiB; used as far as needed."""

# linux/netfilter/nfnetlink.h, nf_tables.h
_GROUP = 1 << (9 - 1)  # NFNLGRP_NFTRACE
_TRACE = 10 << 8 | 17  # NFNL_SUBSYS_NFTABLES, NFT_MSG_TRACE
_EVENT_TABLE, _EVENT_CHAIN, _EVENT_HANDLE, _EVENT_KIND, _EVENT_VERDICT, _EVENT_ID = 1, 2, 3, 4, 5, 6
_EVENT_IP, _EVENT_TRANSPORT, _EVENT_POLICY = 8, 9, 16
_VERDICT_CODE = 1
_KIND_POLICY = 1
_DROP, _ACCEPT = 0, 1
_RULE_TABLE, _RULE_CHAIN, _RULE_HANDLE, _RULE_USERDATA = 1, 2, 3, 7
_COMMENT = 0  # of a rule's user data

_ECHO_REPLY = b"\0"
_PORTS = frozenset({6, 17, 132})

_TABLE_TEXT = f"""
table inet {TABLE} {{
    flags owner
    set probes {{ typeof ip saddr . ip id; }}
    set answers {{ typeof ip daddr . meta l4proto . th dport; }}
    set echoes {{ typeof ip daddr . icmp id; }}
    chain announced {{
        ip saddr . ip id @probes meta nftrace set 1
        jump their_answers
    }}
    chain their_answers {{
        ip daddr . meta l4proto . th dport @answers meta nftrace set 1
        icmp type echo-reply ip daddr . icmp id @echoes meta nftrace set 1
    }}
    chain arriving {{
        type filter hook prerouting priority -500; policy accept;
        jump announced
    }}
    chain translated_back {{
        type filter hook prerouting priority -95; policy accept;
        jump their_answers
    }}
    chain own {{
        type filter hook output priority -500; policy accept;
        jump their_answers
    }}
    chain {LEFT} {{
        type filter hook postrouting priority 90; policy accept;
    }}
    chain {DELIVERED} {{
        type filter hook input priority 200; policy accept;
    }}
}}
"""

Key = tuple[str, bytes, int, int]
"""`probe` or `answer`, the pod's address, protocol, identification or port."""


@dataclass(frozen=True, slots=True)
class Step:
    """One rule that a packet met, or the end of a base chain. `handle` is 0 where it is no rule.

    `destination`: where the packet goes now, where the kernel said so.
    """

    key: Key
    table: str
    chain: str
    handle: int
    drops: bool
    accepts: bool
    destination: IPv4Address | None


class NodeTrace:
    """One node, traced from construction to `close`; `namespace` is a descriptor of its network namespace."""

    def __init__(self, namespace: int) -> None:
        self._announced: set[Key] = set()
        self._of_id: dict[bytes, Key | None] = {}
        self._comments: dict[tuple[str, int], str] = {}
        self._events, self._netfilter, self._nft = netns.in_namespace(
            namespace, lambda: (EventSocket(groups=_GROUP), NetfilterSocket(), Nftables())
        )
        try:
            sockets.enlarge_receive_buffer(self._events.socket, _BUFFER_BYTES)
            self._run(_TABLE_TEXT)
            self.read_comments()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        self._events.close()
        self._netfilter.close()
        del self._nft  # and with its socket the table

    def fileno(self) -> int:
        """Readable when there are steps."""
        return self._events.fileno()

    def announce(self, probes: Iterable[Probe]) -> None:
        """From now on these packets are traced, and their answers."""
        announced = list(probes)
        self._announced |= {key for one in announced for key in (probe_key(one), answer_key(one))}
        sets = {
            "probes": [f"{one.source} . {one.ident}" for one in announced],
            "answers": [
                f"{one.source} . {one.protocol} . {one.port}" for one in announced if one.protocol in _PORTS
            ],
            "echoes": [f"{one.source} . {one.port}" for one in announced if one.protocol == 1],
        }
        lines = [
            f"add element inet {TABLE} {name} {{ {', '.join(each)} }}" for name, each in sets.items() if each
        ]
        self._run("\n".join(lines))

    def read(self) -> list[Step] | None:
        """The steps that have been reported; None when there are none now. Raises PeerError when some were
        lost."""
        try:
            received = self._events.receive()
        except Overrun as overrun:
            raise PeerError("the kernel could not report all steps of a trace", hint="try again") from overrun
        if received is None:
            return None
        found = (self._step(body[GENERIC_BYTES:]) for kind, _, body in received if kind == _TRACE)
        return [step for step in found if step]

    def comment(self, step: Step) -> str:
        """The comment of the rule: in the agents' table its id and what it is about."""
        return self._comments.get((step.table, step.handle), "")

    def read_comments(self) -> None:
        """Rules come and go; handles are never given again."""
        for one in self._netfilter.objects(nfnetlink.GETRULE, b"", "reading the rules' comments", family=0):
            values = netlink.attributes(one)
            handle = int.from_bytes(values[_RULE_HANDLE], "big")
            self._comments[netlink.name(values[_RULE_TABLE]), handle] = _comment(
                values.get(_RULE_USERDATA, b"")
            )

    def _step(self, body: bytes) -> Step | None:
        values = netlink.attributes(body)
        key = self._key(values)
        if key is None:
            return None
        return Step(
            key,
            netlink.name(values[_EVENT_TABLE]),
            netlink.name(values[_EVENT_CHAIN]),
            int.from_bytes(values.get(_EVENT_HANDLE, b""), "big"),
            _verdict(values) == _DROP,
            _verdict(values) == _ACCEPT,
            IPv4Address(values[_EVENT_IP][16:20]) if _EVENT_IP in values else None,
        )

    def _key(self, values: netlink.Attributes) -> Key | None:
        """Whose packet it is: its headers say so with the first step in a base chain, and from then on the
        kernel's number for it."""
        id_ = values.get(_EVENT_ID, b"")
        if header := values.get(_EVENT_IP):
            protocol, ident = header[9], int.from_bytes(header[4:6], "big")
            port = _answered_port(protocol, values.get(_EVENT_TRANSPORT, b""))
            keys = (("probe", header[12:16], protocol, ident), ("answer", header[16:20], protocol, port))
            self._of_id[id_] = next((key for key in keys if key in self._announced), None)
        return self._of_id.get(id_)

    def _run(self, text: str) -> None:
        code, _, error = self._nft.cmd(text)
        if code:
            raise Bug(f"nftables refuses the trace's rules:\n{error.strip()}", hint="invoke lab.doctor")


def probe_key(probe: Probe) -> Key:
    """Under which the steps of a probe are reported."""
    return ("probe", probe.source.packed, probe.protocol, probe.ident)


def answer_key(probe: Probe) -> Key:
    """Under which the steps of its answer are reported."""
    return ("answer", probe.source.packed, probe.protocol, probe.port)


def _answered_port(protocol: int, transport: bytes) -> int:
    """What an answer is known by: the port it goes to, or an echo's identifier."""
    if protocol in _PORTS:
        return int.from_bytes(transport[2:4], "big")
    return int.from_bytes(transport[4:6], "big") if transport[:1] == _ECHO_REPLY else 0


def _verdict(values: netlink.Attributes) -> int:
    """Negative where the packet goes on to another rule."""
    if int.from_bytes(values.get(_EVENT_KIND, b""), "big") == _KIND_POLICY:
        return int.from_bytes(values.get(_EVENT_POLICY, b""), "big")
    verdict = netlink.attributes(values.get(_EVENT_VERDICT, b""))
    return int.from_bytes(verdict.get(_VERDICT_CODE, b"\xff"), "big", signed=True)


def _comment(userdata: bytes) -> str:
    """Entries of a byte of type, a byte of length, and the value."""
    offset = 0
    while offset + 2 <= len(userdata):
        kind, length = userdata[offset], userdata[offset + 1]
        if kind == _COMMENT:
            return userdata[offset + 2 : offset + 2 + length].rstrip(b"\0").decode("utf-8", "replace")
        offset += 2 + length
    return ""
