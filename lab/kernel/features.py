"""What this machine can do for a lab: each thing tried for real, in a namespace that is thrown away.

A feature names what its absence costs and how to mend it, so that `lab.doctor` is a list of things to do.
What is `required` keeps a lab from working; the rest narrows it.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from acns.datapath import selectors
from acns.errors import AcnsError, EnvironmentFault
from lab.kernel import impair, links, netns, nft, userns
from lab.kernel.links import End, Links
from lab.kernel.netns import Namespace

_CAP_SYS_ADMIN, _CAP_NET_ADMIN, _CAP_NET_RAW = 21, 12, 13
_OTHER_KERNEL = "run on a distribution's kernel (Debian 12's has it), or load the module on the host"
_IP_TRANSPARENT = 19
_NETLINK_NETFILTER = 12
_CT_GET = 1 << 8 | 1
_NLM_F_REQUEST_DUMP = 0x301
_NLMSG_ERROR = 2


@dataclass(frozen=True, slots=True)
class Feature:
    """One probed thing. `detail` is what was seen; `cost` and `mend` matter where it is not ok."""

    name: str
    ok: bool
    required: bool
    detail: str
    cost: str
    mend: str


@dataclass(frozen=True, slots=True)
class _Probe:
    """`attempt` returns a detail; it raises when the thing is missing."""

    name: str
    attempt: Callable[[Namespace], str]
    cost: str
    mend: str = _OTHER_KERNEL
    required: bool = True


def probe() -> list[Feature]:
    """Every feature, in the order in which it makes sense to mend them. Leaves nothing behind."""
    ordinary = _ordinary_user()
    found = [*ordinary, _privileges(), *_tools()]
    try:
        scratch = netns.make()
    except AcnsError as error:
        cost = "no lab at all; nothing below could be tried"
        return [*found, Feature("namespaces", False, True, error.message, cost, "run as root (--privileged)")]
    found.append(Feature("namespaces", True, True, "network, mount, host name", "", ""))
    with netns.keeping(scratch):
        return [*found, *(_tried(one, scratch) for one in _kernel_probes())]


def _tried(one: _Probe, scratch: Namespace) -> Feature:
    try:
        detail = one.attempt(scratch)
    except (AcnsError, OSError, ImportError, AssertionError) as error:
        detail = error.message.splitlines()[0] if isinstance(error, AcnsError) else str(error)
        return Feature(one.name, False, one.required, detail, one.cost, one.mend)
    return Feature(one.name, True, one.required, detail, one.cost, one.mend)


def _ordinary_user() -> list[Feature]:
    """What it costs not to be root, after entering a user namespace; nothing to say of root."""
    uid = os.geteuid()
    try:
        if not userns.enter():
            return []
        detail = f"uid {uid}, root in a user namespace of its own"
    except EnvironmentFault as error:
        detail = error.message
    cost = (
        "socket buffers end at net.core.rmem_max (taps and flow logs lose more under load), no kernel module "
        "is loaded on demand, everything in the lab is one uid, benchmarks do not run"
    )
    return [Feature("root", False, False, detail, cost, "run as root (sudo)")]


def _privileges() -> Feature:
    with open("/proc/self/status") as stream:
        effective = next(int(line.split()[1], 16) for line in stream if line.startswith("CapEff"))
    wanted = {"CAP_SYS_ADMIN": _CAP_SYS_ADMIN, "CAP_NET_ADMIN": _CAP_NET_ADMIN, "CAP_NET_RAW": _CAP_NET_RAW}
    missing = [name for name, bit in wanted.items() if not effective >> bit & 1]
    detail = f"uid {os.geteuid()}" + (f", without {', '.join(missing)}" if missing else "")
    return Feature(
        "privileges", not missing, True, detail, "no lab at all", "run as root (sudo, --privileged)"
    )


def _tools() -> Iterator[Feature]:
    for tool, required, cost, package in (
        ("dnsmasq", True, "no cluster DNS pod", "dnsmasq-base"),
        ("unbound", False, "no DNS server of kind unbound", "unbound"),
        ("musl-gcc", False, "no statement 'by musl'", "gcc musl-tools"),
        ("nsenter", False, "no way in from a shell; lab.exec works", "util-linux"),
        ("nft", False, "rules cannot be read by hand; libnftables is what the lab uses", "nftables"),
        ("ip", False, "links cannot be read by hand inside pods", "iproute2"),
        ("curl", False, "tests with a real HTTP client are skipped", "curl"),
        ("dig", False, "tests with a real DNS client are skipped", "bind9-dnsutils"),
        ("tcpdump", False, "no captures by tcpdump; the lab's taps work", "tcpdump"),
        ("conntrack", False, "connections cannot be listed by hand", "conntrack"),
        ("busybox", False, "no test with busybox's resolver", "busybox"),
    ):
        path = shutil.which(tool)
        yield Feature(
            tool, path is not None, required, path or "not found", cost, f"apt-get install {package}"
        )
    for name, cost, package in (
        ("nftables", "no rules at all", "libnftables1"),
        ("pcap", "no lab: its recorder compiles its filters with it", "libpcap0.8"),
    ):
        library = ctypes.util.find_library(name)
        mend = f"apt-get install {package}"
        yield Feature(f"lib{name}", library is not None, True, library or "not found", cost, mend)


def _kernel_probes() -> Iterator[_Probe]:
    yield _Probe("PID namespaces", _pid_namespace, "no lab: its processes could outlive it")
    yield _Probe("nftables binding", _binding, "no rules at all", "pip install pip-nftables")
    yield _Probe("veth", _veth, "no pods")
    yield _Probe("bridge", _bridge, "no underlay between nodes")
    yield _Probe("IPv6", _ipv6, "no lab: that it is kept in is part of each", "boot without ipv6.disable=1")
    yield _Probe("transparent sockets", _transparent_socket, "no redirection of DNS")
    for name, rules, cost in _RULES:
        yield _Probe(name, _loads(rules), cost)
    yield _Probe(
        "nft refresh by re-adding",
        _readding,
        "each refresh is a delete and an add",
        "Linux 6.12",
        required=False,
    )
    yield _Probe("tbf", _slowed(rate_kbit=1000), "no 'rate_kbit' in a topology's links", required=False)
    yield _Probe("netem", _slowed(delay_ms=1), "no 'delay_ms' in a topology's links", required=False)
    yield _Probe("conntrack netlink", _conntrack, "addresses in use cannot be told from idle ones")


def _hook(kind: str, hook: str, priority: int, rule: str) -> str:
    return f"chain c {{ type {kind} hook {hook} priority {priority}; {rule}; }}"


def _set(what: str, elements: str) -> str:
    return f"set s {{ type ipv4_addr; flags {what}; elements = {{ {elements} }}; }}"


_LEARNED = "\n".join(
    [
        f"set s {{ typeof {selectors.KEY_TYPE}; flags timeout; }}",
        _hook("filter", "forward", 0, "numgen inc mod 1 offset 7 . numgen inc mod 1 offset 9 . ip daddr @s"),
    ]
)
_RULES = (
    ("nft NAT", _hook("nat", "prerouting", -100, "ip daddr 10.96.0.1 dnat ip to 10.0.0.1"), "no Services"),
    ("nft masquerade", _hook("nat", "postrouting", 100, "masquerade"), "pods cannot reach the Internet"),
    (
        "nft tproxy",
        _hook("filter", "prerouting", -150, "meta l4proto udp tproxy ip to 127.0.0.1:10053"),
        "no redirection of DNS",
    ),
    ("nft sets with timeouts", _set("timeout", "192.0.2.1 timeout 9s"), "no learned addresses"),
    ("nft numgen", _LEARNED, "no rules about names"),
    ("nft interval sets", _set("interval", "192.0.2.0/24"), "no CIDR rules"),
    (
        "nft concatenated maps",
        "map m { type ifname . ipv4_addr : verdict; }",
        "no dispatch by interface and address",
    ),
    ("nft notrack", _hook("filter", "prerouting", -300, "notrack"), "no redirection behind Services"),
    ("nft log group", _hook("filter", "forward", 0, "log group 100"), "no record of dropped packets (NFLOG)"),
    ("nft ct mark", _hook("filter", "forward", 0, "ct mark set 0x1"), "no cut of live connections"),
    (
        "nft ct original",
        _hook("filter", "forward", 0, "ct original ip daddr 10.96.0.1 drop"),
        "no policy on Services",
    ),
    (
        "nft reject in prerouting",
        _hook("filter", "prerouting", -150, "meta l4proto tcp reject with tcp reset"),
        "clients wait where they could be told at once",
    ),
)
"""(name, content of a table, what its absence costs); all required."""


def _loads(rules: str) -> Callable[[Namespace], str]:
    def attempt(scratch: Namespace) -> str:
        nft.load(scratch, f"table inet probe {{\n{rules}\n}}")
        nft.load(scratch, "delete table inet probe")
        return "loads"

    return attempt


def _pid_namespace(_: Namespace) -> str:
    netns.on_thread(lambda: netns.unshare(netns.CLONE_NEWPID))
    return "can be made"


def _binding(scratch: Namespace) -> str:
    nft.listing(scratch)
    return "works"


def _veth(scratch: Namespace) -> str:
    with netns.keeping(netns.make()) as other, Links(scratch) as probe_links:
        probe_links.veth(End(scratch, "probe", 100), End(other, "eth0", 2))
    return "a pair across namespaces"


def _slowed(**how: int) -> Callable[[Namespace], str]:
    def attempt(scratch: Namespace) -> str:
        impair.slow_down(scratch, "lo", **how)
        return "works"

    return attempt


def _bridge(scratch: Namespace) -> str:
    with Links(scratch) as probe_links:
        probe_links.bridge("probe-br", 101)
    return "can be made"


def _ipv6(scratch: Namespace) -> str:
    def attempt() -> None:
        links.set_sysctls({"net/ipv6/conf/all/disable_ipv6": 0})
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).close()

    netns.in_namespace(scratch, attempt)
    return "can be switched on"


def _transparent_socket(scratch: Namespace) -> str:
    with netns.open_socket(scratch, socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.SOL_IP, _IP_TRANSPARENT, 1)
    return "IP_TRANSPARENT"


def _readding(scratch: Namespace) -> str:
    table = "set s { type ipv4_addr; flags timeout; elements = { 192.0.2.1 timeout 10s }; }"
    nft.load(scratch, f"table inet probe {{\n{table}\n}}")
    nft.load(scratch, "add element inet probe s { 192.0.2.1 timeout 1000s }")
    text = nft.listing(scratch)
    nft.load(scratch, "delete table inet probe")
    assert "timeout 16m40s" in text, "a second add leaves the old timeout"
    return "a second add sets the new timeout"


def _conntrack(scratch: Namespace) -> str:
    with netns.open_socket(scratch, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as opened:
        opened.settimeout(2)
        opened.bind((0, 0))
        header = struct.pack("=IHHII", 20, _CT_GET, _NLM_F_REQUEST_DUMP, 1, 0)
        opened.send(header + struct.pack("=BBH", socket.AF_INET, 0, 0))
        kind = struct.unpack_from("=IH", opened.recv(65536))[1]
    assert kind != _NLMSG_ERROR, "the kernel refuses to list connections"
    return "lists connections"
