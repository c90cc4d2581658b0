"""Where an agent's pages may be: a unix socket's path, or `host:port`. Light to import, for settings."""

from __future__ import annotations

from acns.errors import InputError


def is_path(address: str) -> bool:
    """Whether `address` means a unix socket."""
    return address.startswith(("unix:", "/", "./"))


def split_host_port(address: str) -> tuple[str, int]:
    """`host:port` in its parts; InputError when it is none."""
    host, colon, port = address.rpartition(":")
    if not colon or not _is_host(host) or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise InputError(f"'{address}' is neither a path nor host:port", hint="for example 127.0.0.1:9091")
    return host.strip("[]"), int(port)


def _is_host(text: str) -> bool:
    """Whether it could be asked for: a resolver's library takes no empty label, and none over 63 octets."""
    try:
        return bool(text.encode("idna"))
    except UnicodeError:
        return False
