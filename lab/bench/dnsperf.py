"""dnsperf in a pod: questions as a file, its report as numbers.

Answers count by their arrival whatever their code, so a denied name's is an answer too.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.bench.progress import say
from lab.errors import ProcessFailed
from lab.kernel import netns
from lab.kernel.netns import Namespace

_CLIENTS: Final = 20
_OUTSTANDING: Final = 64
_PATIENCE_S: Final = 300.0
_PATIENCE_OF_DNSPERF_S: Final = 5.0
_FACTS: Final = {
    "sent": re.compile(r"Queries sent:\s+(\d+)"),
    "completed": re.compile(r"Queries completed:\s+(\d+)"),
    "rate": re.compile(r"Queries per second:\s+([\d.]+)"),
}
_TRIES: Final = 5
_OWN_FAULT: Final = "failed to receive packet: Bad file descriptor"
"""dnsperf 2.10 (its issue 208): one of its threads may read from what the other has just closed to connect
anew. It gives up then, whoever answers; such a run is made again."""
_CODES: Final = re.compile(r"Response codes:\s+(.*)")
_CODE: Final = re.compile(r"(\w+) (\d+) \(")
_LATENCY: Final = re.compile(r"^> \S+ \S+ \S+ ([\d.]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Run:
    """One run's report. `latencies_ms`, in order of size: only of runs at a fixed rate."""

    sent: int
    completed: int
    rate: float
    latencies_ms: Sequence[float] = ()
    failed: int = 0
    """Of the answers those with another code than NOERROR."""

    @property
    def lost(self) -> int:
        return self.sent - self.completed

    def quantile_ms(self, share: float) -> float:
        """Of all that were answered; where nothing was, what dnsperf waits."""
        if not self.latencies_ms:
            return 1000 * _PATIENCE_OF_DNSPERF_S
        return self.latencies_ms[round(share * (len(self.latencies_ms) - 1))]


def write_questions(path: Path, names: Iterable[str]) -> Path:
    """A file of questions for these names' addresses."""
    path.write_text("".join(f"{name} A\n" for name in names))
    return path


def once(pod: Namespace, server: str, questions: Path) -> Run:
    """Every question once."""
    return _run(pod, server, questions, ("-n", "1", "-q", str(_OUTSTANDING)))


def saturating(pod: Namespace, server: str, questions: Path, seconds: float, *more: str) -> Run:
    """As many queries as are answered, 64 outstanding; `more` are further arguments."""
    load = ("-c", str(_CLIENTS), "-q", str(_OUTSTANDING))
    return _run(pod, server, questions, ("-l", f"{seconds:g}", *load, *more))


def at_rate(pod: Namespace, server: str, questions: Path, seconds: float, rate: int) -> Run:
    """So many queries a second, however fast the answers come."""
    load = ("-c", "10", "-q", "5000", "-Q", str(rate), "-v")
    return _run(pod, server, questions, ("-l", f"{seconds:g}", *load))


def _run(pod: Namespace, server: str, questions: Path, more: Sequence[str]) -> Run:
    argv = ["dnsperf", "-s", server, "-d", str(questions), "-t", "3", *more]
    done = _ended(pod, argv)
    found = {name: pattern.search(done.stdout) for name, pattern in _FACTS.items()}
    values = {name: float(match[1]) for name, match in found.items() if match}
    if len(values) != len(found):
        raise ProcessFailed(
            f"{' '.join(argv)} ended with code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
    latencies = sorted(1e3 * float(text) for text in _LATENCY.findall(done.stdout))
    codes = _CODES.search(done.stdout)
    failed = sum(int(count) for code, count in _CODE.findall(codes[1]) if code != "NOERROR") if codes else 0
    return Run(int(values["sent"]), int(values["completed"]), values["rate"], latencies, failed)


def _ended(pod: Namespace, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)

    for left in reversed(range(_TRIES)):
        done = netns.in_namespace(pod, run)
        if not left or _OWN_FAULT not in done.stdout + done.stderr:
            break
        say("dnsperf read from a socket that it had closed (its issue 208): this run again")
    return done
