"""Where FQDNData is served: a unix socket by path, or TCP on the host's own loopback.

TCP is there for real peers, without TLS and without knowing who calls: whoever reaches the port can open the
firewall, and whoever answers on it says what is allowed. So it never leaves the host: both agents refuse an
address that is not a loopback one, whatever filters may stand around it.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import quote

from acns.telemetry import sockets

_UNIX = "unix:"


def check_peer(address: str) -> None:
    """`address` is `unix:PATH` or a loopback `host:port`. Raises ValueError that says what it should be, or
    InputError where the path is too long."""
    path = address.removeprefix(_UNIX)
    if path not in ("", address):
        if path.startswith("//") and not path.startswith("///"):
            raise ValueError(
                f"'{address}' names a host; one slash is enough, as in unix:/run/acns/fqdndata.sock"
            )
        sockets.check_path(path)
        return
    if ":" not in address:
        raise ValueError(
            f"'{address}' is neither unix:PATH nor host:port, as in unix:/run/acns/fqdndata.sock"
        )
    check_tcp(address)


def for_grpc(address: str) -> str:
    """As gRPC takes it: in what comes after `unix:` it decodes `%`, and `?` and `#` end the path."""
    if not address.startswith(_UNIX):
        return address
    return _UNIX + quote(os.fsencode(address.removeprefix(_UNIX)))


def check_tcp(address: str) -> None:
    """`address` is a loopback `host:port`. Raises ValueError that says what it should be."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65_535):
        raise ValueError(f"'{address}' is no host:port with a port from 1 to 65535, as in 127.0.0.1:10095")
    if not _is_loopback(host):
        raise ValueError(
            f"'{address}' is not on the loopback: FQDNData has no TLS, and whoever reaches it can open the "
            "firewall; use 127.0.0.1:10095 or a unix socket"
        )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        if host.startswith("[") and host.endswith("]"):
            return ipaddress.IPv6Address(host[1:-1]).is_loopback
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
