"""What a pod can do, tried from inside it: `python -m lab.world.probe`, stdlib only.

Reads statements from stdin and writes rows to stdout, both JSON. Names go through the C library's
getaddrinfo with the pod's own resolv.conf, as real programs do it; only what getaddrinfo hides (REFUSED,
an empty answer) is asked with a packet made by hand. Everything runs at once under one deadline, except
that addresses given as numbers wait until the names are looked up: whether an address is open may depend
on a name that led to it.

`blocked` means that packets went unanswered or came back as prohibited. A closed port is not blocked: the
packet reached a server that said so. IPv6 is the exception, since the agents themselves answer its TCP
with a reset.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lab.spec.expect import Expectation, Row, parse
from lab.world import dnsquery
from lab.world.patience import LEAST_S, Patience, ready

DEADLINE_S = 2.0
SILENCE_AT_MOST_S = 6.0
ASKS_AGAIN_S = 2.0
"""As long as the usual deadline: only where packets get lost is there time for a second query."""
LATE_S = 1.0
"""An attempt's own time-outs end it at the deadline; a busy machine is late with that."""
_SILENT = errno.ETIMEDOUT
MUSL_PATIENCE_S = 8.0
"""musl gives up after 5 s, unless the pod's resolv.conf says else."""
RESOLV_CONF = Path("/etc/resolv.conf")
Endpoint = tuple[str, int]
Outcome = tuple[str, str]
"""What happened, in the words of `Expectation.words` where it is what was expected, and a detail."""


def command() -> list[str]:
    """argv without the interpreter; feed `request_text(…)` to stdin, give stdout to `rows`."""
    return ["-m", "lab.world.probe"]


def request_text(
    expectations: Sequence[Expectation],
    ca: Path,
    *,
    deadline_s: float = DEADLINE_S,
    musl: Path | None = None,
    slow_links: bool = False,
) -> str:
    """What the probe reads from stdin: all expectations of one pod; `musl` looks names up by that library.
    `slow_links`: how fast one address answers says nothing of another."""
    statements = [str(wanted) for wanted in expectations]
    request = {"version": 1, "ca": str(ca), "deadline_s": deadline_s, "statements": statements}
    return json.dumps({**request, "musl": str(musl or ""), "slow_links": slow_links})


def rows(output: str) -> list[Row]:
    """The probe's output as rows, in the order of the request."""
    return [Row(**row) for row in json.loads(output)["rows"]]


@dataclass(slots=True)
class Session:
    """What all attempts of a run share: the clock, whom to trust, and how many names are still looked up."""

    ca: Path
    deadline_s: float
    pending_names: int
    patience: Patience
    musl: str = ""
    """The program that looks names up by musl."""
    started: float = field(default_factory=time.monotonic)
    names_done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left_s(self) -> float:
        return max(0.01, self.started + self.deadline_s - time.monotonic())

    def name_done(self) -> None:
        with self.lock:
            self.pending_names -= 1
            if self.pending_names <= 0:
                self.names_done.set()


def run(
    expectations: Sequence[Expectation],
    ca: Path,
    deadline_s: float,
    musl: str = "",
    *,
    slow_links: bool = False,
) -> list[Row]:
    """Try everything; an attempt that has not come back shortly after the deadline counts as unanswered."""
    names = sum(wanted.is_about_names for wanted in expectations)
    most_s = _silence_s(deadline_s)
    patience = Patience(sum(map(_speaks, expectations)), most_s, most_s if slow_links else LEAST_S)
    session = Session(ca, deadline_s, names, patience, musl)
    if session.pending_names == 0:
        session.names_done.set()
    results: list[Row | None] = [None] * len(expectations)

    def attempt(index: int) -> None:
        results[index] = _row(expectations[index], session)

    threads = [threading.Thread(target=attempt, args=(i,), daemon=True) for i in range(len(expectations))]
    for thread in threads:
        thread.start()
    for thread, wanted in zip(threads, expectations, strict=True):
        thread.join(session.left_s + (MUSL_PATIENCE_S if wanted.by_musl else LATE_S))
    return [
        row or _judged(wanted, ("no answer", f"within {deadline_s:g} s"), deadline_s)
        for wanted, row in zip(expectations, results, strict=True)
    ]


def _row(wanted: Expectation, session: Session) -> Row:
    begun = time.monotonic()
    try:
        outcome = _VERBS[wanted.verb](wanted, session)
    except (OSError, ValueError) as error:
        outcome = ("error", str(error) or repr(error))
    row = _judged(wanted, outcome, elapsed_s := time.monotonic() - begun)
    if _speaks(wanted):
        session.patience.spoke(elapsed_s if row.ok else math.inf)
    return row


def _speaks(wanted: Expectation) -> bool:
    """Whether it tells how long a connection takes here."""
    return wanted.verb == "connects"


def _judged(wanted: Expectation, outcome: Outcome, elapsed_s: float) -> Row:
    actual, detail = outcome
    agrees, elapsed_ms = actual == wanted.words, round(elapsed_s * 1000, 1)
    return Row(wanted.pod, wanted.about, wanted.port, wanted.words, actual, agrees, detail, elapsed_ms)


def _resolves(wanted: Expectation, session: Session) -> Outcome:
    if wanted.over_tcp or wanted.server:
        reply = _ask(wanted, "A", session)
        if isinstance(reply, str) or reply.rcode != "NOERROR":
            return (reply, "") if isinstance(reply, str) else (reply.rcode, reply.summary)
        return "resolves" if "A" in reply.types else "no address", reply.summary
    if wanted.by_musl:
        return _by_musl(wanted.name, session)
    found = _lookup(wanted.name, 0, session)
    if isinstance(found, str):
        return "does not resolve", found
    addresses = [address for address, _ in found]
    return "resolves" if any("." in a for a in addresses) else "only IPv6", ", ".join(addresses)


def _by_musl(name: str, session: Session) -> Outcome:
    try:
        done = subprocess.run([session.musl, name], capture_output=True, text=True, timeout=MUSL_PATIENCE_S)
    except subprocess.TimeoutExpired:
        return "no answer", f"within {MUSL_PATIENCE_S:g} s"
    finally:
        session.name_done()
    said = ", ".join(done.stdout.split())
    return ("resolves" if done.returncode == 0 and "." in said else "fails"), said


def _fails(wanted: Expectation, session: Session) -> Outcome:
    outcome, detail = _resolves(wanted, session)
    return ("fails" if outcome == "does not resolve" else outcome), detail


def _rcode(wanted: Expectation, session: Session) -> Outcome:
    reply = _ask(wanted, "A", session)
    return (reply, "") if isinstance(reply, str) else (reply.rcode, reply.summary)


def _truncated(wanted: Expectation, session: Session) -> Outcome:
    reply = _ask(wanted, "A", session)
    if isinstance(reply, str):
        return reply, ""
    return ("truncated" if reply.truncated else "not truncated"), reply.summary


def _empty(wanted: Expectation, session: Session) -> Outcome:
    record_type = wanted.record_type or "AAAA"
    reply = _ask(wanted, record_type, session)
    if isinstance(reply, str):
        return reply, ""
    if reply.rcode != "NOERROR":
        return reply.rcode, reply.summary
    return (f"has {record_type}" if record_type in reply.types else f"empty {record_type}"), reply.summary


def _ask(wanted: Expectation, record_type: str, session: Session) -> dnsquery.Reply | str:
    """The reply of the pod's DNS server, or of the one that the statement names; asked again where there is
    time for it. Where silence is expected it is the whole bound."""
    server = str(wanted.server or nameserver())
    bound_s = _silence_s(session.deadline_s) if wanted.verb == "unanswered" else session.deadline_s
    end = time.monotonic() + min(session.left_s, bound_s)
    ask = dnsquery.ask_over_tcp if wanted.over_tcp else dnsquery.ask
    try:
        while (left_s := end - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                return ask(server, wanted.name, record_type, min(left_s, ASKS_AGAIN_S))
        return "no answer"
    finally:
        session.name_done()


def _silence_s(deadline_s: float) -> float:
    """How long nothing must come back until that is silence."""
    return min(deadline_s / 2, SILENCE_AT_MOST_S)


def nameserver(path: Path | None = None) -> str:
    """The pod's DNS server: the first of its resolv.conf."""
    for line in (path or RESOLV_CONF).read_text().splitlines():
        words = line.split()
        if len(words) >= 2 and words[0] == "nameserver":
            return words[1]
    raise ValueError("resolv.conf names no nameserver")


def _lookup(name: str, port: int, session: Session) -> list[Endpoint] | str:
    """The addresses in the order a client would try them, or why there are none."""
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return str(error.strerror)
    finally:
        session.name_done()
    return [(str(sockaddr[0]), port) for _, _, _, _, sockaddr in found]


def _targets(wanted: Expectation, session: Session) -> list[Endpoint] | str:
    if wanted.address is None:
        return _lookup(wanted.name, wanted.port or 0, session)
    session.names_done.wait(session.left_s / 2)
    return [(wanted.name, wanted.port or 0)]


def _connects(wanted: Expectation, session: Session) -> Outcome:
    targets = _targets(wanted, session)
    if isinstance(targets, str):
        return "does not resolve", targets
    failure: Outcome = ("does not resolve", "no address")
    for target in targets:
        outcome = _try(target, lambda opened: ready(session.left_s, opened) is not None)
        if isinstance(outcome, socket.socket):
            with outcome:
                return _converse(outcome, wanted, session)
        failure = outcome
    return failure


def _blocked(wanted: Expectation, session: Session) -> Outcome:
    """All addresses at once: one that is open makes the statement false, wherever it stands in the answer."""
    targets = _targets(wanted, session)
    if isinstance(targets, str):
        return "does not resolve", targets

    def hears(opened: socket.socket) -> bool:
        return session.patience.hears(opened, session.left_s + LATE_S / 2)  # after a slow look-up, too

    with ThreadPoolExecutor(len(targets)) as pool:
        outcomes = list(pool.map(lambda target: _try(target, hears), targets))
    for outcome, (address, port) in zip(outcomes, targets, strict=True):
        if isinstance(outcome, socket.socket):
            outcome.close()
            return "connects", f"to {address} port {port}"
        if outcome[0] != "blocked":
            return outcome
    return "blocked", outcomes[0][1] if isinstance(outcomes[0], tuple) else ""


def _try(target: Endpoint, is_answered: Callable[[socket.socket], bool]) -> socket.socket | Outcome:
    """A TCP connection, or what became of it."""
    family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    opened.setblocking(False)
    try:
        code = opened.connect_ex(target)
        if code == errno.EINPROGRESS:
            code = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if is_answered(opened) else _SILENT
        if code:
            raise OSError(code, os.strerror(code))
    except TimeoutError:
        opened.close()
        return "blocked", f"{target[0]}: no answer"
    except ConnectionRefusedError as error:
        opened.close()
        return ("blocked" if family == socket.AF_INET6 else "closed"), f"{target[0]}: {error.strerror}"
    except OSError as error:
        opened.close()
        return "blocked", f"{target[0]}: {error.strerror}"
    return opened


def _converse(opened: socket.socket, wanted: Expectation, session: Session) -> Outcome:
    """Over HTTP(S), the answer must come from a server that was asked for this name."""
    peer = opened.getpeername()[0]
    if wanted.scheme == "tcp":
        return "connects", f"to {peer}"
    name = wanted.name.rstrip(".")
    opened.settimeout(session.left_s)
    try:
        if wanted.scheme == "https":
            context = ssl.create_default_context(cafile=str(session.ca))
            with context.wrap_socket(opened, server_hostname=name) as secured:
                body = _get(secured, name)
        else:
            body = _get(opened, name)
    except (OSError, ValueError) as error:
        return "connects, then fails", f"{peer}: {error}"
    if f"host: {f'[{name}]' if ':' in name else name}" not in body.splitlines():
        return "another name answers", f"{peer}: {body[:80]!r}"
    return "connects", f"{wanted.scheme} from {peer}"


def _get(opened: socket.socket, name: str) -> str:
    host = f"[{name}]" if ":" in name else name
    opened.sendall(f"GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    received = b""
    while part := opened.recv(65_536):
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    if b" 200 " not in head.partition(b"\r\n")[0]:
        raise ValueError(f"not a 200: {head[:60]!r}")
    return body.decode(errors="replace")


_VERBS: dict[str, Callable[[Expectation, Session], Outcome]] = {
    "resolves": _resolves,
    "fails": _fails,
    "refused": _rcode,
    "nxdomain": _rcode,
    "truncated": _truncated,
    "unanswered": _rcode,
    "empty": _empty,
    "connects": _connects,
    "blocked": _blocked,
}


def main() -> int:
    request = json.load(sys.stdin)
    expectations = [parse(statement) for statement in request["statements"]]
    found = run(
        expectations,
        Path(request["ca"]),
        request["deadline_s"],
        request["musl"],
        slow_links=request["slow_links"],
    )
    json.dump({"version": 1, "rows": [asdict(row) for row in found]}, sys.stdout)
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
