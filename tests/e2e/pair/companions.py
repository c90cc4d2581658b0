"""What goes on in the lab while agents die: a download, an untouched pod's traffic, a watch on the kernel.

Each lives for a `with` block, in a thread of its own, and keeps the record of what went wrong for it.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from acns.datapath.elements import Elements, NoSuchSet
from acns.datapath.selectors import selector_id
from acns.dns.pattern import FQDNSelector
from lab.kernel import netns
from lab.runtime.handles import NodeHandle, PodHandle

from . import probes
from .wire import DNS_PORT, Wire, query

CHUNK_BYTES = 16 << 10
PACE_BYTES_PER_S = 1 << 20
PATIENCE_S = 5.0


@contextmanager
def repeating(step: Callable[[], None], every_s: float) -> Iterator[None]:
    """`step` again and again in a thread until the block ends, which raises what it raised."""
    ended = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not ended.wait(every_s):
                step()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
    if failures:
        raise failures[0]


class Download:
    """A curl in a pod, one connection over HTTPS, that lasts as long as the test wants it to.

    The server sends what it can; the pace is set here, by how fast curl's output is taken. `finish` takes the
    rest at full speed.
    """

    def __init__(self, pod: PodHandle, host: str, size_bytes: int = 64 << 20) -> None:
        url = f"https://{host}/download?bytes={size_bytes}"
        self.size_bytes = size_bytes
        self.received_bytes = 0
        self._hurry = threading.Event()
        self._curl = pod.popen(
            ["curl", "-sS", "--no-buffer", url], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def __enter__(self) -> Download:
        return self

    def __exit__(self, *error: object) -> None:
        self._hurry.set()
        self._curl.kill()
        self._thread.join()
        self._curl.communicate()

    def finish(self) -> tuple[int, int, str]:
        """How many bytes came in all, curl's exit code and what it complained of."""
        self._hurry.set()
        self._thread.join()
        _, complaint = self._curl.communicate()
        return self.received_bytes, self._curl.returncode, complaint.decode()

    def _read(self) -> None:
        assert self._curl.stdout is not None
        while part := os.read(self._curl.stdout.fileno(), CHUNK_BYTES):
            self.received_bytes += len(part)
            self._hurry.wait(len(part) / PACE_BYTES_PER_S)


class Steady:
    """A pod that asks for `name` and connects to `server` all the time; judged at the pod's own tap."""

    def __init__(self, cable: Wire, name: str, server: tuple[str, int]) -> None:
        self.cable = cable
        self._name = name
        self._server = server

    @contextmanager
    def running(self) -> Iterator[Steady]:
        with repeating(self._step, every_s=0.01):
            yield self

    @property
    def queries(self) -> int:
        return len(probes.queries_out(self.cable.tap))

    @property
    def unanswered(self) -> list[bytes]:
        """The messages of queries to which no answer came back."""
        answered = {message[:2] for message in probes.answers_in(self.cable.tap)}
        asked = map(probes.message, probes.queries_out(self.cable.tap))
        return [message for message in asked if message[:2] not in answered]

    @property
    def connections(self) -> int:
        return len({syn.key for syn in probes.syns(self.cable.tap)})

    @property
    def hindered(self) -> list[probes.Syn]:
        """SYNs that had to be sent again, or that nobody accepted."""
        sent = probes.syns(self.cable.tap)
        count = Counter(syn.key for syn in sent)
        accepted = probes.accepted(self.cable.tap)
        return [syn for syn in sent if count[syn.key] > 1 or syn.sequence not in accepted]

    def _step(self) -> None:
        with self.cable.pod.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_S)
            client.connect((self.cable.cluster_dns, DNS_PORT))
            client.send(query(self._name, ident=self.cable.rng.getrandbits(16)))
            with contextlib.suppress(TimeoutError):
                client.recv(4096)
        with self.cable.pod.open_socket(socket.AF_INET, socket.SOCK_STREAM) as stream:
            stream.settimeout(PATIENCE_S)
            with contextlib.suppress(TimeoutError):
                stream.connect(self._server)


class KernelWatch:
    """Reads the learned sets of a node all the time: what is required must be there, in every sample."""

    def __init__(self, node: NodeHandle) -> None:
        self.samples = 0
        self.missing: defaultdict[str, int] = defaultdict(int)
        """Address → samples without it."""
        self.lowered: dict[str, float] = {}
        """Address → by how many seconds its expiry once went down."""
        self._required: dict[FQDNSelector, dict[str, float]] = {}
        namespace = node.netns_fd()
        try:
            self._elements = netns.in_namespace(namespace, lambda: Elements(refresh_by_re_adding=True))
        finally:
            os.close(namespace)

    @contextmanager
    def running(self) -> Iterator[KernelWatch]:
        try:
            with repeating(self._step, every_s=0.005):
                yield self
        finally:
            self._elements.close()

    def require(self, selector: FQDNSelector, *addresses: str) -> None:
        """From now on the selector must open these."""
        known = self._required.get(selector, {})
        self._required = {**self._required, selector: {**dict.fromkeys(addresses, -math.inf), **known}}

    def _step(self) -> None:
        for selector, expiries in self._required.items():
            self._look(selector_id(selector), expiries)
        self.samples += 1

    def _look(self, id_: str, expiries: dict[str, float]) -> None:
        began = time.monotonic()
        try:
            found = self._elements.read().get(id_, {})
        except NoSuchSet:
            found = {}
        ended = time.monotonic()
        for address, at_least in expiries.items():
            left_s = found.get(socket.inet_aton(address))
            if left_s is None:
                self.missing[address] += 1
                continue
            # The kernel reckoned somewhere between; half a second is for rounding.
            if ended + left_s < at_least - 0.5:
                self.lowered[address] = at_least - (ended + left_s)
            expiries[address] = max(at_least, began + left_s)
