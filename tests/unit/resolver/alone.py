"""A resolver's gate without an agent: one pod, one server, names under example.com; and one of them."""

from __future__ import annotations

import math
from typing import Final

from acns.dns import pattern, wire
from acns.fqdn import gate
from acns.resolver.agent import AgentLink
from acns.resolver.batch import sockaddr_of
from acns.resolver.commits import Commits
from acns.resolver.flight import ID_BYTES
from acns.resolver.intercept import Server
from acns.resolver.judged import Case
from acns.resolver.known import Promise
from acns.resolver.metrics import TCP, ResolverMetrics
from acns.resolver.proxy import Proxy
from acns.resolver.settings import ResolverSettings
from acns.resolver.unconfirmed import Unconfirmed
from acns.telemetry.journal import Journal

POD: Final = bytes((10, 244, 0, 2))
SERVER: Final[Server] = (bytes((10, 96, 0, 10)), 53)

NAME: Final = (b"a", b"example", b"com")
ADDRESS: Final = bytes((192, 0, 2, 1))
QUESTION: Final = b"\1a\7example\3com\0" + bytes.fromhex("0001 0001")
QUERY: Final = bytes.fromhex("0007 0100 0001 0000 0000 0000") + QUESTION
ANSWER: Final = (
    bytes.fromhex("0007 8180 0001 0001 0000 0000")
    + QUESTION
    + b"\xc0\x0c"
    + wire.record_tail(1, 1, 60, ADDRESS)
)


def proxy(
    server: Server = SERVER, settings: ResolverSettings | None = None, journal: Journal | None = None
) -> Proxy:
    """Nobody commits for it: an answer with an address that is not known leaves unprogrammed."""
    settings, journal = settings or ResolverSettings(), journal or Journal("", "resolver")
    metrics = ResolverMetrics()
    link = AgentLink(settings.fqdndata, metrics, journal)
    link.table = gate.PolicyTable(
        rules=[
            gate.DNSRule(1, (pattern.match_pattern("*.example.com"),), (gate.DNSServer(300, server[1], 6),))
        ],
        endpoints=[gate.EndpointAddress(POD, 1, 400)],
        prefixes=[gate.IdentityPrefix(server[0], 32, 300)],
    )
    commits = Commits(link, 0.1, Unconfirmed(100), None, metrics, journal)
    return Proxy(settings, link, commits, metrics, journal)


def keep_open(of: Proxy) -> None:
    """The name's address is in the kernel, and stays."""
    of.context.commits.known.promised(NAME, [ADDRESS], Promise(math.inf, math.inf))


def case_of(of: Proxy, query: bytes, server: Server = SERVER) -> Case:
    """What becomes of it over TCP."""
    judgements = of.transports[TCP].judgements
    judgements.use(of.table)
    return judgements.case(POD + sockaddr_of(*server) + query[ID_BYTES:], POD, server, query)


def under_id(packet: bytes, ident: int) -> bytes:
    return ident.to_bytes(ID_BYTES) + packet[ID_BYTES:]


def answer_to(query: bytes) -> bytes:
    """As the server says it, under the ID that it was asked."""
    return query[:ID_BYTES] + ANSWER[ID_BYTES:]
