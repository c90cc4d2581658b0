"""One slice of load on one contender: started, watched, and told as numbers."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.bench import dns_floods, dns_names, dns_sides, dnsperf
from lab.bench.dns_sides import Side
from lab.errors import ProcessFailed
from lab.kernel import netns, nft

_FLOOD_BEGINS_S, _FLOOD_MORE_S = 0.5, 3.0
_UNTIL_ALL_PROBES_ARE_THERE_S = 0.5


def saturated(side: Side, questions: Path, seconds: float, *more: str) -> dict[str, float]:
    """As fast as answers come: rate, and what a query cost whom."""
    before = _costs(side)
    started = time.monotonic()
    run = dnsperf.saturating(side.wire.pod, side.asked, questions, seconds, *more)
    took_s = time.monotonic() - started
    proxy_s, others_s, upstream_s = (
        after - earlier for after, earlier in zip(_costs(side), before, strict=True)
    )
    completed = max(run.completed, 1)
    return {
        "rate": max(run.rate, 1e-9),
        "lost": run.lost,
        "cpu_us": 1e6 * proxy_s / completed,
        "others_us": 1e6 * others_s / completed,
        "upstream_share": 100 * upstream_s / took_s,
    }


def at_rate(side: Side, questions: Path, seconds: float, rate: int) -> dict[str, float]:
    """So many queries a second for names that there are: latencies, and what got no answer or another."""
    run = dnsperf.at_rate(side.wire.pod, side.asked, questions, seconds, rate)
    return {"median_ms": run.quantile_ms(0.5), "p99_ms": run.quantile_ms(0.99), "lost": run.lost + run.failed}


def loaded(side: Side, kind: str, *arguments: object, pods: Sequence[str] = ()) -> dict[str, float]:
    """Load of `dns_load`."""
    found = _load(side, kind, *arguments, pods=pods)
    each = found["by_pod"]
    squares = sum(one * one for one in each)
    return {
        "rate": max(found["answered"] / found["took_s"], 1e-9),
        "lost": found["sent"] - found["answered"],
        "fairness": sum(each) ** 2 / (len(each) * squares) if squares else 0.0,
    }


def new_names(side: Side, first: int, count: int, at_once: int) -> dict[str, float]:
    """Names that nobody asked for. An answer was early when the datagram to its address did not arrive."""
    with _counting(side) as probes:
        found = _load(side, "new", "--first", first, "--count", count, "--at-once", at_once)
        time.sleep(_UNTIL_ALL_PROBES_ARE_THERE_S)
    return {
        "rate": found["answered"] / found["took_s"],
        "lost": count - found["answered"],
        "early": found["answered"] - probes.count,
    }


@contextlib.contextmanager
def flooding(side: Side, kind: str, seconds: float) -> Iterator[None]:
    """Beside the block, for about its time: the second pod floods."""
    argv = [sys.executable, "-m", "lab.bench.dns_floods", kind, side.asked, "1", str(seconds + _FLOOD_MORE_S)]
    nft.load(side.wire.pod, dns_floods.NO_RESETS)
    process = netns.in_namespace(side.wire.pod, lambda: subprocess.Popen(argv))
    time.sleep(_FLOOD_BEGINS_S)
    try:
        yield
    finally:
        process.kill()
        process.wait()
        nft.load(side.wire.pod, "delete table ip quiet")


@dataclass(slots=True)
class _Probes:
    count: int = 0


@contextlib.contextmanager
def _counting(side: Side) -> Iterator[_Probes]:
    """The datagrams that arrive at the addresses behind names."""
    probes = _Probes()
    receiver = netns.open_socket(side.wire.server, socket.AF_INET, socket.SOCK_DGRAM)
    with receiver:
        receiver.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_RCVBUFFORCE", 33), 16 << 20)
        receiver.bind(("", dns_names.PROBE_PORT))
        receiver.settimeout(0.05)
        ended = threading.Event()

        def count() -> None:
            while not ended.is_set():
                with contextlib.suppress(TimeoutError):
                    receiver.recv(16)
                    probes.count += 1

        thread = threading.Thread(target=count, daemon=True)
        thread.start()
        try:
            yield probes
        finally:
            ended.set()
            thread.join()


def _load(side: Side, kind: str, *arguments: object, pods: Sequence[str] = ()) -> dict[str, Any]:
    argv = [sys.executable, "-m", "lab.bench.dns_load", kind, side.asked, *map(str, arguments)]

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, input=json.dumps(pods), capture_output=True, text=True, check=False)

    done = netns.in_namespace(side.wire.pod, run)
    if done.returncode:
        raise ProcessFailed(f"{' '.join(argv)} ended with code {done.returncode}:\n{done.stderr}")
    return dict(json.loads(done.stdout))


def _costs(side: Side) -> tuple[float, float, float]:
    """CPU time so far: of the proxy, of what it needs, of the DNS server."""
    return side.cpu_s(), sum(map(dns_sides.cpu_s, side.others)), dns_sides.cpu_s(side.upstream)
