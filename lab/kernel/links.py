"""Links, addresses and routes of a namespace, by rtnetlink.

A `Links` works in the namespace its socket was opened in, from any thread. Veth ends are created straight in
the namespaces they belong to, with chosen interface numbers: no interface is ever seen half-placed, none
passes through the root namespace, and nothing has to be looked up again. Addresses skip duplicate address
detection and routes say `proto boot`, as those of a container runtime.

Each call has been done when it returns, but for those in a `batch`: these go to the kernel together, in their
order, and a hundred cost little more than what the kernel has to do for them.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from acns.datapath import netlink
from acns.datapath.netlink import NetlinkSocket
from acns.errors import Bug, EnvironmentFault
from lab.kernel import netns, rtnetlink
from lab.kernel.rtnetlink import Address, Route

LOOPBACK_INDEX = 1
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200
_NEW = netlink.NLM_F_CREATE | netlink.NLM_F_EXCL
_BATCH_BYTES = 48 << 10
"""Fits into a send buffer of the default size."""
_OURS_TO_MEND = (errno.EEXIST, errno.EINVAL, errno.ENOENT, errno.ESRCH)

_OPTIONAL = ("net/netfilter/", "net/bridge/")


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair: where, what it is called, and its interface number there."""

    namespace: netns.Namespace
    name: str
    index: int


@dataclass(frozen=True, slots=True)
class _Request:
    """One change, and in words what it makes."""

    kind: int
    flags: int
    body: bytes
    what: str


class Links:
    """rtnetlink in one namespace. Close it, or use it in a `with` block."""

    def __init__(self, namespace: netns.Namespace | int | None = None) -> None:
        """None is the calling thread's own namespace."""

        def opened() -> NetlinkSocket:
            return NetlinkSocket(netlink.ROUTE)

        self._socket = opened() if namespace is None else netns.in_namespace(namespace, opened)
        self._batch: list[_Request] | None = None

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """What is asked for inside the `with` block is done at its end; the first that fails is the error."""
        self._batch = []
        try:
            yield
            self._send(self._batch)
        finally:
            self._batch = None

    def bridge(self, name: str, index: int) -> None:
        """A bridge that forwards at once (no spanning tree delay) and is up."""
        self._do(rtnetlink.NEWLINK, _NEW, rtnetlink.bridge(name, index), f"bridge {name}")

    def veth(self, ours: End, theirs: End, *, is_up: bool = False) -> None:
        """A veth pair, each end in its namespace from the first moment; with `is_up`, our end is up too (the
        other cannot be: it is made first, and alone)."""
        here = rtnetlink.end(ours.name, ours.index, ours.namespace.net, is_up=is_up)
        there = rtnetlink.end(theirs.name, theirs.index, theirs.namespace.net, is_up=False)
        self._do(rtnetlink.NEWLINK, _NEW, rtnetlink.veth(here, there), f"veth {ours.name} to {theirs.name}")

    def delete(self, index: int) -> None:
        """A link goes, with its addresses and routes; of a pair, both ends."""
        self._do(rtnetlink.DELLINK, 0, rtnetlink.link(index), f"end of link {index}")

    def enslave(self, index: int, bridge_index: int) -> None:
        body = rtnetlink.member(index, bridge_index)
        self._do(rtnetlink.NEWLINK, 0, body, f"port {index} of bridge {bridge_index}")

    def up(self, *indices: int) -> None:
        for index in indices:
            self._do(rtnetlink.NEWLINK, 0, rtnetlink.link(index, is_up=True), f"link {index} up")

    def addresses(self, index: int, addresses: Iterable[Address], *, prefix_route: bool = True) -> None:
        flags = _IFA_F_NODAD | (0 if prefix_route else _IFA_F_NOPREFIXROUTE)
        for address in addresses:
            usable = flags if address.version == 6 else flags & ~_IFA_F_NODAD
            body = rtnetlink.address(address, index, usable)
            self._do(rtnetlink.NEWADDR, _NEW, body, f"address {address}")

    def no_addresses(self, index: int, addresses: Iterable[Address]) -> None:
        """These go."""
        for address in addresses:
            body = rtnetlink.address(address, index, 0)
            self._do(rtnetlink.DELADDR, 0, body, f"end of address {address}")

    def routes(self, routes: Iterable[Route]) -> None:
        for one in routes:
            self._do(rtnetlink.NEWROUTE, _NEW, rtnetlink.route(one), f"route to {one.destination}")

    def no_routes(self, routes: Iterable[Route]) -> None:
        """These go."""
        for one in routes:
            self._do(rtnetlink.DELROUTE, 0, rtnetlink.route(one), f"end of route to {one.destination}")

    def route(
        self, destination: str, index: int, *, gateway: str = "", scope: int = 0, priority: int = 0
    ) -> None:
        """A route out of interface `index`."""
        through = ip_address(gateway) if gateway else None
        self.routes([Route(ip_network(destination), index, through, scope=scope, priority=priority)])

    def on_link_route(self, destination: str, index: int, *, priority: int = 0) -> None:
        """A route to a neighbour itself (`scope link`)."""
        self.route(destination, index, scope=scope_of(destination, rtnetlink.SCOPE_LINK), priority=priority)

    def pod_route(self, destination: str, index: int) -> None:
        """A node's route to one of its pods: `10.244.0.2 dev veth… scope host`, as the ptp plugin writes
        it.
        """
        self.route(destination, index, scope=scope_of(destination, rtnetlink.SCOPE_HOST))

    def _do(self, kind: int, flags: int, body: bytes, what: str) -> None:
        request = _Request(kind, flags, body, what)
        if self._batch is None:
            self._send([request])
        else:
            self._batch.append(request)

    def _send(self, requests: list[_Request]) -> None:
        """In as many parts as the socket's buffer wants."""
        part: list[_Request] = []
        size = 0
        for request in requests:
            size += len(request.body)
            if part and size > _BATCH_BYTES:
                self._send_part(part)
                part, size = [], len(request.body)
            part.append(request)
        if part:
            self._send_part(part)

    def _send_part(self, requests: list[_Request]) -> None:
        """The kernel reports each failure, and by the last one's acknowledgement that it is through."""
        numbered = {self._socket.next_sequence(): request for request in requests}
        last = next(reversed(numbered))
        asked = requests[0].what
        message = b"".join(
            netlink.packed(
                one.kind,
                one.flags | netlink.NLM_F_REQUEST | (netlink.NLM_F_ACK if number == last else 0),
                number,
                one.body,
            )
            for number, one in numbered.items()
        )
        self._socket.send(message, asked)
        failures = []
        for kind, number, _, body in self._socket.replies(asked):
            if kind != netlink.ERROR or number not in numbered:
                continue
            if code := netlink.error_number(body):
                failures.append(_explained(numbered[number].what, code))
            if number == last:
                break
        if failures:
            raise failures[0]


def scope_of(destination: str, scope: int) -> int:
    """IPv6 knows no scopes of routes."""
    return rtnetlink.SCOPE_UNIVERSE if ":" in destination else scope


def set_sysctls(values: Mapping[str, int]) -> None:
    """Set kernel parameters (`net/ipv4/ip_forward`) of the calling thread's namespace.

    Those of conntrack and of bridges are there only once they are used: they are left alone then. Each folder
    is looked up once: under /proc/sys/net the kernel looks through those of every namespace there is.
    """
    with contextlib.ExitStack() as opened:
        folders: dict[str, int] = {}
        for name, value in values.items():
            top = "/".join(name.split("/")[:2])
            try:
                if top not in folders:
                    folders[top] = os.open(f"/proc/sys/{top}", os.O_PATH | os.O_CLOEXEC)
                    opened.callback(os.close, folders[top])
                _write(name[len(top) + 1 :], folders[top], f"{value}\n")
            except FileNotFoundError as error:
                if not name.startswith(_OPTIONAL):
                    raise EnvironmentFault(f"this kernel has no parameter {name}") from error
            except OSError as error:
                raise EnvironmentFault(
                    f"cannot set {name}: {error.strerror}", hint="/proc/sys must be writable: run as root"
                ) from error


def _write(name: str, folder: int, text: str) -> None:
    descriptor = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _explained(what: str, code: int) -> Bug | EnvironmentFault:
    """The kernel's errno as an error of ours, which says what was being made."""
    text = f"{what}: the kernel says {os.strerror(code)}"
    if code in _OURS_TO_MEND:
        return Bug(text)
    return EnvironmentFault(text, hint="invoke lab.doctor says which kernel features are missing")
