"""Links, addresses and routes of a namespace, by rtnetlink.

A `Links` works in the namespace its socket was opened in, from any thread. Veth ends are created straight in
the namespaces they belong to, with chosen interface numbers: no interface is ever seen half-placed, none
passes through the root namespace, and nothing has to be looked up again. Addresses skip duplicate address
detection and routes say `proto boot`, as those of a container runtime.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

from acns.errors import Bug, EnvironmentFault
from lab.kernel import netns

LOOPBACK_INDEX = 1
_PROTO_BOOT = 3
_SCOPE_LINK = 253
_SCOPE_HOST = 254
_IFA_F_NODAD = 0x02
_IFA_F_NOPREFIXROUTE = 0x200

_OPTIONAL = ("net/netfilter/", "net/bridge/")

Address = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair: where, what it is called, and its interface number there."""

    namespace: netns.Namespace
    name: str
    index: int


class Links:
    """rtnetlink in one namespace. Close it, or use it in a `with` block."""

    def __init__(self, namespace: netns.Namespace | int | None = None) -> None:
        """None is the calling thread's own namespace."""
        from pyroute2 import IPRoute

        kind = (socket.AF_NETLINK, socket.SOCK_DGRAM, socket.NETLINK_ROUTE)
        opened = socket.socket(*kind) if namespace is None else netns.open_socket(namespace, *kind)
        self._rtnl: Any = IPRoute(use_socket=opened)

    def __enter__(self) -> Links:
        return self

    def __exit__(self, *_: object) -> None:
        self._rtnl.close()

    def bridge(self, name: str, index: int) -> None:
        """A bridge that forwards at once (no spanning tree delay) and is up."""
        with _explained(f"bridge {name}"):
            self._rtnl.link("add", kind="bridge", ifname=name, index=index, br_forward_delay=0)
        self.up(index)

    def veth(self, ours: End, theirs: End) -> None:
        """A veth pair, each end in its namespace from the first moment."""
        peer = {"ifname": theirs.name, "index": theirs.index, "net_ns_fd": theirs.namespace.net}
        with _explained(f"veth {ours.name} to {theirs.name}"):
            self._rtnl.link(
                "add",
                kind="veth",
                ifname=ours.name,
                index=ours.index,
                net_ns_fd=ours.namespace.net,
                peer=peer,
            )

    def enslave(self, index: int, bridge_index: int) -> None:
        with _explained(f"port {index} of bridge {bridge_index}"):
            self._rtnl.link("set", index=index, master=bridge_index, state="up")

    def up(self, *indices: int) -> None:
        for index in indices:
            with _explained(f"link {index} up"):
                self._rtnl.link("set", index=index, state="up")

    def addresses(self, index: int, addresses: Iterable[Address], *, prefix_route: bool = True) -> None:
        flags = _IFA_F_NODAD | (0 if prefix_route else _IFA_F_NOPREFIXROUTE)
        for address in addresses:
            usable = flags if address.version == 6 else flags & ~_IFA_F_NODAD
            with _explained(f"address {address}"):
                self._rtnl.addr(
                    "add",
                    index=index,
                    address=str(address.ip),
                    prefixlen=address.network.prefixlen,
                    IFA_FLAGS=usable,
                )

    def route(self, destination: str, index: int, **more: Any) -> None:
        """A route out of interface `index`; `more` is what rtnetlink calls `gateway`, `prefsrc`, `scope`."""
        family = socket.AF_INET6 if ":" in destination else socket.AF_INET
        with _explained(f"route to {destination}"):
            self._rtnl.route("add", family=family, dst=destination, oif=index, proto=_PROTO_BOOT, **more)

    def on_link_route(self, destination: str, index: int, **more: Any) -> None:
        """A route to a neighbour itself (`scope link`)."""
        self.route(destination, index, **({} if ":" in destination else {"scope": _SCOPE_LINK}), **more)

    def pod_route(self, destination: str, index: int) -> None:
        """A node's route to one of its pods: `10.244.0.2 dev veth… scope host`, as the ptp plugin writes
        it.
        """
        self.route(destination, index, **({} if ":" in destination else {"scope": _SCOPE_HOST}))


def set_sysctls(values: Mapping[str, int]) -> None:
    """Set kernel parameters (`net/ipv4/ip_forward`) of the calling thread's namespace.

    Those of conntrack and of bridges are there only once they are used: they are left alone then.
    """
    for name, value in values.items():
        try:
            Path("/proc/sys", name).write_text(f"{value}\n")
        except FileNotFoundError as error:
            if not name.startswith(_OPTIONAL):
                raise EnvironmentFault(f"this kernel has no parameter {name}") from error
        except OSError as error:
            raise EnvironmentFault(
                f"cannot set {name}: {error.strerror}", hint="/proc/sys must be writable: run as root"
            ) from error


@contextlib.contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn a netlink error into ours, which says what was being made."""
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        yield
    except NetlinkError as error:
        if error.code in (errno.EEXIST, errno.EINVAL, errno.ENOENT, errno.ESRCH):
            raise Bug(f"{what}: the kernel says {os.strerror(error.code)}") from error
        raise EnvironmentFault(
            f"{what}: the kernel says {os.strerror(error.code)}",
            hint="invoke lab.doctor says which kernel features are missing",
        ) from error
