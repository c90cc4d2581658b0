"""The DNS queries that go to the resolver: one `rules.dns` block as rules and sets."""

from __future__ import annotations

from dataclasses import dataclass

from acns.datapath import names, rules, sets
from acns.datapath.model import SetSpec
from acns.policy.model import DNSServers


@dataclass(frozen=True, slots=True)
class Redirect:
    """The servers of one block: `matches` are the packets to them."""

    id: str
    servers: DNSServers
    sets: tuple[SetSpec, ...]
    matches: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"dns {self.servers.key}"


def redirect(servers: DNSServers) -> Redirect:
    """The redirect of queries to these servers."""
    exact = sets.exact_server_set(servers) if servers.exact else None
    networks = sets.cidr_set(servers.networks) if servers.networks else None
    matches = rules.servers_matches(servers, exact.name if exact else "", networks.name if networks else "")
    return Redirect(
        id=f"q_{names.digest(servers.key, *matches)}",
        servers=servers,
        sets=tuple(spec for spec in (exact, networks) if spec),
        matches=tuple(matches),
    )
