"""What takes privileges is done first; then they are given up, before a single packet is read.

The resolver reads what pods and DNS servers send, so it runs without CAP_NET_ADMIN: it could change any rule
of the node with that. What it needs of it, it gets beforehand: the listener's large buffer, and a process of
its own that writes learned addresses and nothing else (`acns.writer`). Left to it are transparent sockets
(CAP_NET_RAW) on the port of a DNS server (CAP_NET_BIND_SERVICE).
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

from acns import privileges
from acns.resolver import intercept
from acns.resolver.settings import ResolverSettings
from acns.resolver.writer_link import WriterLink
from acns.telemetry import log as logs

log = logs.named(__name__)


@dataclass(frozen=True, slots=True)
class Privileged:
    """`queries`: the UDP listener, not bound yet. `writer`: None where takeover is off."""

    queries: socket.socket
    writer: WriterLink | None

    def close(self) -> None:
        self.queries.close()
        if self.writer:
            self.writer.close()


def then_give_up(settings: ResolverSettings) -> Privileged:
    """Do it, and keep no more than is needed from here on. Before any thread is started."""
    made = Privileged(intercept.open_udp(), WriterLink.start() if settings.takeover else None)
    kept = {privileges.NET_RAW, privileges.NET_BIND_SERVICE}
    if privileges.mark_needs_admin():
        log.warning(
            "running with CAP_NET_ADMIN: this kernel wants it for SO_MARK", since="Linux 5.17 does not"
        )
        kept.add(privileges.NET_ADMIN)
    privileges.keep_only(kept)
    return made
