"""The cluster's DNS server in the hands of a test: it says what it is told to, and keeps what it was asked.

What it keeps is what has come out at the far end, so a denied question that is in it has got through.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import dns.message
import dns.name
import dns.rcode
import dns.rrset

from acns.resolver.framing import Frames, framed
from lab.runtime.handles import Inside

Peer = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """A message as it came: from whom, over what, and how to answer it."""

    message: bytes
    peer: Peer
    transport: str
    answer: Callable[[bytes], object]


Script = Callable[[Asked], None]


class ScriptedDNS:
    """Listens in a pod, on UDP and TCP port 53 and on more. A name without a script does not exist."""

    def __init__(self, place: Inside, more_ports: tuple[int, ...] = ()) -> None:
        self.place = place
        self.asked: list[Asked] = []
        self._scripts: dict[bytes, Script] = {}
        self._selector = selectors.DefaultSelector()
        self._ending = threading.Event()
        self._failures: list[BaseException] = []
        for port in (53, *more_ports):
            self._listen(port)
        self._thread = threading.Thread(target=self._run, name="scripted dns", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()
        self.check()

    def check(self) -> None:
        """Raise what went wrong in our thread."""
        if self._failures:
            raise self._failures[0]

    def script(self, name: str, script: Script) -> None:
        """From now on questions for this name are its business."""
        self._scripts[question_name(name)] = script

    def answers_with(self, name: str, *records: str) -> None:
        """From now on this name has these records, `TTL TYPE DATA` each."""
        self.script(
            name, lambda asked: asked.answer(answer(asked.message, *(f"{name} {one}" for one in records)))
        )

    def was_asked(self, needle: bytes) -> bool:
        return any(needle.lower() in one.message.lower() for one in self.asked)

    def _listen(self, port: int) -> None:
        for kind, on_input in ((socket.SOCK_DGRAM, self._datagram), (socket.SOCK_STREAM, self._accept)):
            made = self.place.open_socket(socket.AF_INET, kind)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(("", port))
            if kind == socket.SOCK_STREAM:
                made.listen()
            self._watch(made, partial(on_input, made))

    def _watch(self, made: socket.socket, on_input: Callable[[], None]) -> None:
        made.setblocking(False)
        self._selector.register(made, selectors.EVENT_READ, on_input)

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                for key, _ in self._selector.select(0.05):
                    key.data()
        except BaseException as error:  # noqa: BLE001 - raised again by `close`
            self._failures.append(error)

    def _datagram(self, bound: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            message, peer = bound.recvfrom(65_535)
            self._take(Asked(message, peer, "udp", lambda answer: bound.sendto(answer, peer)))

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            accepted, peer = listener.accept()
            self._watch(accepted, partial(self._stream, accepted, peer, Frames()))

    def _stream(self, accepted: socket.socket, peer: Peer, frames: Frames) -> None:
        try:
            data = accepted.recv(1 << 17)
        except ConnectionError:
            data = b""
        if not data:
            self._selector.unregister(accepted)
            accepted.close()
            return
        frames.feed(data)
        while (message := frames.take()) is not None:
            self._take(Asked(message, peer, "tcp", lambda answer: accepted.send(framed(answer))))

    def _take(self, asked: Asked) -> None:
        self.asked.append(asked)
        name = asked.message[12 : asked.message.find(b"\0", 12) + 1].lower()
        self._scripts.get(name, _no_such_name)(asked)


def question_name(text: str) -> bytes:
    wire: bytes = dns.name.from_text(text).canonicalize().to_wire()
    return wire


def answer(
    asked: bytes,
    *records: str,
    authority: tuple[str, ...] = (),
    additional: tuple[str, ...] = (),
    rcode: int = 0,
) -> bytes:
    """What an honest server says, with these records, `NAME TTL TYPE DATA` each, in this order."""
    made = dns.message.make_response(dns.message.from_wire(asked))
    made.set_rcode(dns.rcode.Rcode(rcode))
    sections = ((made.answer, records), (made.authority, authority), (made.additional, additional))
    for section, texts in sections:
        for text in texts:
            owner, ttl, kind, data = text.split(" ", 3)
            name = dns.name.from_text(owner)
            section.append(dns.rrset.from_text(name, int(ttl), "IN", kind, data))
    return made.to_wire(max_size=65_535)


def _no_such_name(asked: Asked) -> None:
    """Also for what is no question: whoever gets that far is to be seen, not to break us."""
    with contextlib.suppress(Exception):
        asked.answer(answer(asked.message, rcode=3))
