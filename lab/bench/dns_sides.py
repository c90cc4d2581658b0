"""Who is compared: no proxy at all, dnsdist, dnsmasq with nftset, and this project's agent pair.

Each has a wire of its own, with the scripted DNS server at its far end, and stands there for the whole run;
idle, it costs the others nothing. The pair is real: both daemons, fed with manifests, journal and metrics on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Final

from acns import settings as settings_files
from acns.datapath import constants
from acns.resolver.settings import ResolverSettings
from acns.shim.settings import ShimSettings
from lab.bench import dns_names, wire
from lab.bench.cluster import NODE, NODE_ADDRESS
from lab.bench.dns_manifests import manifests
from lab.bench.wire import Wire
from lab.errors import EnvironmentFault, ProcessFailed
from lab.kernel import links, netns, nft
from lab.kernel.links import End, Links
from lab.kernel.rtnetlink import Route
from lab.runtime.readiness import http_missing

DIRECT, DNSDIST, DNSMASQ, OURS = "no proxy", "dnsdist", "dnsmasq", "resolver"
BUDGETED, SHARED = "resolver with its budgets", "resolver with a share for each pod"
_PACKAGES: Final = {"dnsperf": "dnsperf", "dnsdist": "dnsdist", "dnsmasq": "dnsmasq-base"}
_FIRST_MORE_INDEX: Final = 1_000
_FIRST_MORE_INNER: Final = 3
_SERVER_INDEX: Final = 2
_READY_S: Final = 60.0
_NO_LIMIT: Final = 1_000_000
"""Queries a second: one pod is measured as far as it goes."""
_USUAL_KERNEL_RATE: Final = constants.QUERY_RATE
_SHARE, _KERNEL_SHARE = 1_000, 1_333
"""Queries a second of one pod, where an operator gives each its share: what the real service warns at. The
kernel's is above the resolver's in the proportion of the usual ones."""
_BUDGETED_PODS: Final = 4
_PODS: Final = Route(IPv4Network("100.64.0.0/10"), links.LOOPBACK_INDEX, is_local=True)
"""Whoever asks, the DNS server answers."""
_SOON_REUSED: Final = {"net/ipv4/tcp_max_tw_buckets": 1_000}
"""For pods that make a connection for each query: with half of its ports in TIME-WAIT (RFC 9293, 3.3.2) a
pod's kernel searches some 5 ms for a free one, whoever is asked."""
_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
_SET = "table inet bench { set learned { type ipv4_addr; flags timeout; timeout 5m; }\n}\n"

Pair = tuple[ShimSettings, ResolverSettings]


@dataclass(frozen=True, slots=True)
class Side:
    """One contender. `asked`: whom its pod asks. `processes`: what the proxy is; `others`: what it needs."""

    name: str
    wire: Wire
    asked: str
    processes: Sequence[int] = ()
    others: Sequence[int] = ()
    upstream: int = 0

    def cpu_s(self) -> float:
        """User and system time that its proxy has used so far."""
        return sum(map(cpu_s, self.processes))


def missing() -> None:
    """Raises EnvironmentFault when a program is not there."""
    absent = [package for program, package in _PACKAGES.items() if not shutil.which(program)]
    if absent:
        raise EnvironmentFault(
            f"programs to compare with are missing: {', '.join(absent)}",
            hint=f"apt-get install --no-install-recommends {' '.join(absent)}",
        )


def cpu_s(pid: int) -> float:
    """User and system time of a process and its threads."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def resident_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


@contextlib.contextmanager
def standing(folder: Path, pods: int) -> Iterator[dict[str, Side]]:
    """All contenders, ready, for the time of a block. Ours serves `pods` pods."""
    with contextlib.ExitStack() as stack:
        sides = {}
        for name, enter in ((DIRECT, _direct), (DNSDIST, _dnsdist), (DNSMASQ, _dnsmasq)):
            laid, upstream = stack.enter_context(_wire())
            sides[name] = stack.enter_context(enter(laid, folder, upstream))
        for name, count, settings in (
            (OURS, pods, _settings(folder)),
            (BUDGETED, _BUDGETED_PODS, _budgeted(_settings(folder / "budgeted"))),
            (SHARED, _BUDGETED_PODS, _shared(_settings(folder / "shared"))),
        ):
            laid, upstream = stack.enter_context(_wire())
            sides[name] = stack.enter_context(_ours(name, laid, upstream, count, settings))
        yield sides


@contextlib.contextmanager
def _wire() -> Iterator[tuple[Wire, int]]:
    """A wire with the DNS server at its end, and that server's process."""
    with wire.laid(dns_names.pod(0), [dns_names.SERVER]) as laid:
        with Links(laid.server) as server:
            server.routes([_PODS])
        netns.in_namespace(laid.pod, lambda: links.set_sysctls(_SOON_REUSED))
        argv = [sys.executable, "-m", "lab.bench.dns_upstream", str(dns_names.SERVER)]
        with wire.serving(laid.server, argv, "ready") as upstream:
            yield laid, upstream


@contextlib.contextmanager
def _direct(laid: Wire, folder: Path, upstream: int) -> Iterator[Side]:
    _add_pods(laid, _BUDGETED_PODS)
    yield Side(DIRECT, laid, str(dns_names.SERVER), upstream=upstream)


@contextlib.contextmanager
def _dnsdist(laid: Wire, folder: Path, upstream: int) -> Iterator[Side]:
    file = folder / "dnsdist.conf"
    file.write_text(
        f'setLocal("{dns_names.PROXY}:53")\nsetACL("0.0.0.0/0")\nsetMaxUDPOutstanding(65535)\n'
        f'newServer{{address="{dns_names.SERVER}:53", checkInterval=10, sockets=16}}\n'
    )
    argv = ["dnsdist", "--supervised", "--disable-syslog", "-C", str(file), "-u", "root"]
    with _program(laid, argv, folder / "dnsdist.log") as pid:
        _until_answered(laid)
        yield Side(DNSDIST, laid, str(dns_names.PROXY), [pid], upstream=upstream)


@contextlib.contextmanager
def _dnsmasq(laid: Wire, folder: Path, upstream: int) -> Iterator[Side]:
    nft.load(laid.node, _SET)
    argv = [
        *(
            "dnsmasq",
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--no-resolv",
            "--no-hosts",
            "--pid-file=",
        ),
        *(f"--server={dns_names.SERVER}", f"--listen-address={dns_names.PROXY}", "--bind-interfaces"),
        *("--cache-size=0", "--dns-forward-max=10000", "--user=root"),
        f"--nftset=/{dns_names.ZONE}/4#inet#bench#learned",
    ]
    with _program(laid, argv, folder / "dnsmasq.log") as pid:
        _until_answered(laid)
        yield Side(DNSMASQ, laid, str(dns_names.PROXY), [pid], upstream=upstream)


@contextlib.contextmanager
def _ours(name: str, laid: Wire, upstream: int, pods: int, settings: Pair) -> Iterator[Side]:
    _add_pods(laid, pods)
    shim, resolver = settings
    folder = Path(shim.manifests).parent
    Path(shim.manifests).mkdir(parents=True)
    for file, text in manifests(pods).items():
        Path(shim.manifests, file).write_text(text)
    with (
        _agent(laid, folder, "shim", shim, shim.http_socket) as shim_pid,
        _agent(laid, folder, "resolver", resolver, resolver.http_socket) as pid,
    ):
        yield Side(name, laid, str(dns_names.SERVER), [pid, *_children(pid)], [shim_pid], upstream)


def _children(pid: int) -> list[int]:
    """The resolver's writer."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _budgeted(settings: Pair) -> Pair:
    """With the budgets and the bound of every day."""
    shim, resolver = settings
    usual = ResolverSettings()
    return (
        replace(shim, max_queries_per_second_per_pod=_USUAL_KERNEL_RATE),
        replace(
            resolver,
            max_queries_per_second_per_pod=usual.max_queries_per_second_per_pod,
            max_new_names_per_second_per_pod=usual.max_new_names_per_second_per_pod,
            max_new_names_at_once_per_pod=usual.max_new_names_at_once_per_pod,
            commit_timeout_ms=usual.commit_timeout_ms,
        ),
    )


def _shared(settings: Pair) -> Pair:
    """With those budgets, and a bound of its own for each pod."""
    shim, resolver = _budgeted(settings)
    return (
        replace(shim, max_queries_per_second_per_pod=_KERNEL_SHARE),
        replace(resolver, max_queries_per_second_per_pod=_SHARE),
    )


def _settings(folder: Path) -> Pair:
    fqdndata = folder / "fqdndata"
    shim = ShimSettings(
        node=NODE,
        manifests=str(folder / "manifests"),
        state_dir=str(folder / "state"),
        fqdndata_socket=str(fqdndata),
        http_socket=str(folder / "shim-http"),
        profile="cilium",
        max_queries_per_second_per_pod=_NO_LIMIT,
        journal_file=str(folder / "shim-journal"),
        log_file=str(folder / "shim-log"),
    )
    resolver = ResolverSettings(
        fqdndata=f"unix:{fqdndata}",
        http_socket=str(folder / "resolver-http"),
        state_dir=str(folder / "resolver-state"),
        handover_socket="",
        shim_ledger=str(folder / "state" / "ledger.log"),
        journal_file=str(folder / "resolver-journal"),
        log_file=str(folder / "resolver-log"),
        upstream_timeout_ms=2_000,
        # With the default bound answers may leave unprogrammed where a busy machine makes the shim slow: here
        # an early answer shall be a mistake of the resolver's.
        commit_timeout_ms=5_000,
        max_queries_per_second_per_pod=_NO_LIMIT,
        max_new_names_per_second_per_pod=_NO_LIMIT,
        max_new_names_at_once_per_pod=_NO_LIMIT,
    )
    return shim, resolver


@contextlib.contextmanager
def _agent(
    laid: Wire, folder: Path, name: str, settings: ShimSettings | ResolverSettings, http_socket: str
) -> Iterator[int]:
    file = folder / f"{name}.toml"
    file.write_text(settings_files.render(asdict(settings)))
    argv = [sys.executable, "-m", f"acns.{name}", "--settings", str(file)]
    with _program(laid, argv, folder / f"{name}.out") as pid:
        _until_ready(Path(http_socket), Path(settings.log_file))
        yield pid


@contextlib.contextmanager
def _program(laid: Wire, argv: Sequence[str], output: Path) -> Iterator[int]:
    """On the node of the wire."""

    def start() -> subprocess.Popen[bytes]:
        with output.open("wb") as out:
            return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    with netns.in_namespace(laid.node, start) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


def _until_ready(http_socket: Path, log_file: Path) -> None:
    end, lacking = time.monotonic() + _READY_S, "?"
    while lacking:
        try:
            lacking = asyncio.run(http_missing(http_socket))
        except OSError as error:
            lacking = str(error)
        if lacking and time.monotonic() > end:
            raise ProcessFailed(f"not ready: {lacking}; {log_file.read_text()[-2_000:]}")
        time.sleep(0.02)


def _until_answered(laid: Wire) -> None:
    """A proxy answers the pod."""
    from lab.bench.dns_load import query

    end = time.monotonic() + _READY_S
    with laid.socket(2) as pod:
        pod.settimeout(0.1)
        while time.monotonic() < end:
            try:
                pod.connect((str(dns_names.PROXY), 53))
                pod.send(query(dns_names.known(0), 1))
                pod.recv(4096)
            except OSError:
                time.sleep(0.02)
                continue
            return
    raise ProcessFailed("a proxy does not answer")


def _add_pods(laid: Wire, pods: int) -> None:
    """More pods on the node, all in the namespace of the first: each with an interface and address."""
    more = range(1, pods)
    with Links() as own:
        for number in more:
            inside = End(laid.pod, dns_names.pod_interface(number), _inner(number))
            own.veth(End(laid.node, f"veth{number}", _outer(number)), inside)
    with Links(laid.node) as node:
        for number in more:
            node.up(_outer(number))
            node.addresses(_outer(number), [IPv4Interface(f"{dns_names.PROXY}/32")], prefix_route=False)
            node.pod_route(f"{dns_names.pod(number)}/32", _outer(number))
    with Links(laid.pod) as pod:
        for number in more:
            index, gateway = _inner(number), str(dns_names.PROXY)
            pod.up(index)
            pod.addresses(index, [IPv4Interface(dns_names.pod(number))])
            pod.on_link_route(f"{gateway}/32", index, priority=index)
            pod.route("0.0.0.0/0", index, gateway=gateway, priority=index)
    with Links(laid.server) as server:
        server.routes(
            [Route(IPv4Network(dns_names.pod(number)), _SERVER_INDEX, NODE_ADDRESS) for number in more]
        )


def _outer(number: int) -> int:
    return _FIRST_MORE_INDEX + number


def _inner(number: int) -> int:
    """What the kernel gives it: behind the loopback and the first pod's interface."""
    return _FIRST_MORE_INNER + number - 1
