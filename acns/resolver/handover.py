"""From one resolver process to the next: what they say to each other over a socket, descriptors and all.

The next one (`--takeover`) connects when it could serve. The old one then stops reading and sends its two
listeners, whose queues go with them, and in a file without a name the policy that it serves by: what is on a
full or slow disk may be older. (An older version takes no third descriptor, or gives none; then the next one
goes by the disk.) The next one says that it has them. Then each TCP connection of a pod goes as soon as
nothing of it is in flight or unsent, with the octets that were read and not yet worked on. The old one closes
the link only when it has answered all that it had taken on and is about to end. So every query is read by
exactly one of the two, and on a TCP connection the next one answers only after the old one.

Until then the old one keeps copies of its listeners. When the next one dies, or does not say in time that it
has them, it serves on with those; a next one that wakes up later hears that it is to end.

SOCK_SEQPACKET: a message and its descriptors come together. Whoever reaches the socket gets the node's DNS,
so it is of mode 0600, and only processes of our own user are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from acns.errors import EnvironmentFault, PeerError
from acns.resolver.intercept import Address, Server
from acns.telemetry import log as logs
from acns.telemetry import sockets

log = logs.named(__name__)

_LISTENERS, _CONNECTION, _TAKEN_BACK = b"L", b"C", b"B"
_HAVE_THEM: Final = b"H"
CONFIRM_S: Final = 2.0
"""For a successor to say so; pods' queries wait in the listener's queue meanwhile, and pods wait 5 s."""
HANDS_OVER_S: Final = 10.0
"""For a predecessor to begin; one that hangs never does."""
NO_DESCRIPTORS_PAUSE_S: Final = 0.1
_ADDRESSES: Final = struct.Struct("!4sH4sH")
_MOST_BYTES: Final = 1 << 18
_LISTENERS_GIVEN: Final = 2
_MOST_DESCRIPTORS: Final = _LISTENERS_GIVEN + 1
_PEER: Final = struct.Struct("=iII")  # struct ucred
_BUFFER_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Connection:
    """A pod's TCP connection between two queries. `unread`: octets that nobody has worked on."""

    socket: socket.socket
    pod: Address
    server: Server
    unread: bytes


@dataclass(frozen=True, slots=True)
class Listeners:
    """Where redirected queries arrive."""

    udp: socket.socket
    tcp: socket.socket


# --- the old one -------------------------------------------------------------------------------------------


class SuccessorGone(PeerError):
    """It has ended, or does not answer."""


class Handover:
    """Waits at `path` for a successor; empty: there will be none.

    `asked` is set when it is there, `gone` when it has ended since.
    """

    def __init__(self, path: str) -> None:
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self._confirmed = asyncio.Event()
        self._log_not_accepted = logs.Seldom()
        self._path = path
        self._inode = 0
        self._loop = asyncio.get_running_loop()
        self._listener: socket.socket | None = None
        self._successor: socket.socket | None = None

    def start(self) -> None:
        """Wait for it from now on. A predecessor's socket at this path is replaced."""
        if self._path:
            self._listener = _listening(sockets.check_path(self._path))
            self._inode = Path(self._path).lstat().st_ino
            self._accept_on(self._listener)

    async def give_listeners(self, listeners: Listeners, policy: bytes | None) -> None:
        """They are the successor's when this returns; the caller's copies must not be read. Raises
        SuccessorGone."""
        with contextlib.ExitStack() as given:
            descriptors = [listeners.udp.fileno(), listeners.tcp.fileno()]
            if policy is not None:
                with contextlib.suppress(OSError):  # no descriptors, no memory: it is on disk, too
                    descriptors.append(given.enter_context(_in_memory(policy)).fileno())
            await self._send(_LISTENERS, *descriptors)
        try:
            async with asyncio.timeout(CONFIRM_S):
                await self._confirmed.wait()
        except TimeoutError as error:
            assert self._successor, "it was just sent to"
            self._hear(self._successor)  # it may be this process that stood still
            if not self._confirmed.is_set():
                raise SuccessorGone(f"the successor does not answer within {CONFIRM_S:g} s") from error

    async def give(self, connection: Connection) -> None:
        """It is the successor's from now on. Raises SuccessorGone; then it is the caller's still."""
        ip, port = connection.pod
        addresses = _ADDRESSES.pack(socket.inet_aton(ip), port, *connection.server)
        await self._send(_CONNECTION + addresses + connection.unread, connection.socket.fileno())
        connection.socket.close()

    def take_back(self) -> None:
        """The successor has nothing any more, and is told so if it lives; wait for another."""
        if self._successor:
            with contextlib.suppress(OSError):
                self._successor.send(_TAKEN_BACK)
        self.close()
        for event in (self.asked, self.gone, self._confirmed):
            event.clear()
        self.start()

    def close(self) -> None:
        """The successor sees that all is answered."""
        if self._listener:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            sockets.remove(self._path, self._inode)
            self._listener = None
        if self._successor:
            self._loop.remove_reader(self._successor)
            self._successor.close()
            self._successor = None

    def _accept_on(self, listener: socket.socket) -> None:
        if listener is self._listener:
            self._loop.add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        try:
            made, _ = listener.accept()
        except BlockingIOError:
            return
        except OSError as error:  # no descriptors, no memory: it would be ready again at once
            if self._log_not_accepted():
                log.warning("a successor cannot be accepted yet", error=error.strerror)
            self._loop.remove_reader(listener)
            self._loop.call_later(NO_DESCRIPTORS_PAUSE_S, self._accept_on, listener)
            return
        pid, uid, _ = _PEER.unpack(made.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
        if uid != os.geteuid() or self._successor:
            log.warning("refused to hand over", pid=pid, uid=uid)
            made.close()
            return
        log.info("handing over", pid=pid)
        made.setblocking(False)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._successor = made
        self._loop.add_reader(made, self._hear, made)
        self.asked.set()

    def _hear(self, successor: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            try:
                heard = successor.recv(len(_HAVE_THEM))
            except ConnectionError:
                heard = b""
            if heard:
                self._confirmed.set()
            else:
                self._loop.remove_reader(successor)
                self.gone.set()

    async def _send(self, message: bytes, *descriptors: int) -> None:
        """With descriptors. Raises SuccessorGone."""
        assert self._successor, "only who has asked is given anything"
        while True:
            try:
                socket.send_fds(self._successor, [message], descriptors)
                return
            except BlockingIOError:
                await _writable(self._loop, self._successor)
            except OSError as error:
                raise SuccessorGone(f"the successor is gone: {error.strerror}") from error


# --- the next one -------------------------------------------------------------------------------------------


class Predecessor:
    """The resolver that hands over to this one. Make it with `at`."""

    def __init__(self, link: socket.socket) -> None:
        self.policy: bytes | None = None
        """What it serves by, once it has given its listeners; None: it did not say."""
        self._link = link
        self._log_lost = logs.Seldom()
        self._loop = asyncio.get_running_loop()

    @classmethod
    def at(cls, path: str) -> Predecessor | None:
        """The one that waits there; None: there is none. To connect is to ask for everything. Raises
        PeerError where it accepts nobody."""
        place = str(sockets.check_path(path))
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            link.connect(place)
        except OSError as error:
            link.close()
            if isinstance(error, (FileNotFoundError, ConnectionRefusedError)):
                return None
            if isinstance(error, BlockingIOError):  # those who asked before wait there still
                raise PeerError(
                    "the resolver that should hand over accepts nobody", hint="it may hang"
                ) from error
            raise EnvironmentFault(
                f"cannot connect to {path}: {error.strerror}", hint="see handover_socket"
            ) from error
        return cls(link)

    async def listeners(self) -> Listeners | None:
        """None: it went away without a word. Raises PeerError where it does not hand over."""
        try:
            async with asyncio.timeout(HANDS_OVER_S):
                message, given = await self._receive()
        except TimeoutError as error:
            raise PeerError(
                f"the resolver that should hand over does not within {HANDS_OVER_S:g} s", hint="it may hang"
            ) from error
        if not message:
            return None
        if message == _LISTENERS and len(given) < _LISTENERS_GIVEN:
            raise EnvironmentFault(
                "no descriptors for what the resolver before hands over", hint="raise the limit (ulimit -n)"
            )
        if message != _LISTENERS:
            raise PeerError("the resolver that should hand over speaks otherwise", hint="an older version?")
        udp, tcp, *policy = given
        self.policy = _content(policy[0]) if policy else None
        await self._confirm()
        return Listeners(_owned(udp), _owned(tcp))

    async def _confirm(self) -> None:
        """One that has died meanwhile need not hear it: what it gave is there."""
        try:
            self._link.send(_HAVE_THEM)
        except OSError as error:
            message, _ = await self._receive()
            if message == _TAKEN_BACK:
                raise _taken_back() from error

    async def take_over(self, adopt: Callable[[Connection], None], lost: Callable[[], None]) -> None:
        """Adopt every connection until the predecessor has ended; `lost` is called for one that this process
        has no descriptor for, which is closed by that. Raises PeerError when the predecessor serves on."""
        while True:
            message, given = await self._receive()
            if not message:
                self.close()
                return
            if message == _TAKEN_BACK:
                raise _taken_back()
            if message.startswith(_CONNECTION):
                ip, port, *server = _ADDRESSES.unpack_from(message, 1)
                unread = message[1 + _ADDRESSES.size :]
                pod = socket.inet_ntoa(ip), port
                if given:
                    adopt(Connection(_owned(given[0]), pod, (server[0], server[1]), unread))
                else:
                    lost()
                    if self._log_lost():
                        log.error("a pod's connection is lost: no descriptor for it", pod=pod[0])

    def close(self) -> None:
        self._link.close()

    async def _receive(self) -> tuple[bytes, list[int]]:
        """Nothing: the other end is closed. Without the descriptors that this process has no room for."""
        reported = False
        while True:
            try:
                message, descriptors, _, _ = socket.recv_fds(self._link, _MOST_BYTES, _MOST_DESCRIPTORS)
                return message, descriptors
            except BlockingIOError:
                await _readable(self._loop, self._link)
            except ConnectionError:
                if reported:
                    return b"", []
                reported = True  # before what came last; that is still to be read


def _taken_back() -> PeerError:
    return PeerError(
        "the resolver that should hand over serves on: this one was too slow", hint="start it again"
    )


def _owned(descriptor: int) -> socket.socket:
    os.set_inheritable(descriptor, False)
    made = socket.socket(fileno=descriptor)
    made.setblocking(False)
    return made


def _in_memory(content: bytes) -> IO[bytes]:
    """A file without a name. Raises OSError."""
    file = os.fdopen(os.memfd_create("policy"), "wb")
    try:
        file.write(content)
        file.flush()
    except OSError:
        file.close()
        raise
    return file


def _content(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)  # where it was written to its end
        return file.read()


def _listening(path: Path) -> socket.socket:
    there = sockets.is_there(path)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    try:
        os.fchmod(made.fileno(), 0o600)
        if there:
            path.unlink(missing_ok=True)
        made.bind(str(path))
        made.listen(1)
    except OSError as error:
        made.close()
        raise EnvironmentFault(
            f"cannot listen on {path}: {error.strerror}", hint="see handover_socket"
        ) from error
    return made


async def _readable(loop: asyncio.AbstractEventLoop, link: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_reader(link, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(link)


async def _writable(loop: asyncio.AbstractEventLoop, link: socket.socket) -> None:
    ready = asyncio.Event()
    loop.add_writer(link, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_writer(link)
