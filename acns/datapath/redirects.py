"""The DNS queries that go to the resolver: one `rules.dns` block as rules and sets."""

from __future__ import annotations

from dataclasses import dataclass

from acns.datapath import names, rules, sets
from acns.datapath.model import SetSpec
from acns.policy.model import DNSServers


@dataclass(frozen=True, slots=True)
class Redirect:
    """The servers of one block; the packets to those that are known one by one (`exact`), and to others."""

    id: str
    servers: DNSServers
    sets: tuple[SetSpec, ...]
    exact: tuple[str, ...]
    networks: tuple[str, ...]

    @property
    def text(self) -> str:
        return f"dns {self.servers.key}"

    @property
    def ports(self) -> frozenset[int]:
        """All ports that queries go to."""
        exact = {server.port for server in self.servers.exact}
        return frozenset(exact | {port for _, port in self.servers.ports})


def redirect(servers: DNSServers) -> Redirect:
    """The redirect of queries to these servers."""
    exact = sets.exact_server_set(servers) if servers.exact else None
    networks = sets.cidr_set(servers.networks) if servers.networks else None
    to_exact = rules.exact_server_matches(exact.name) if exact else []
    to_networks = rules.server_network_matches(servers, networks.name) if networks else []
    return Redirect(
        id=f"q_{names.digest(servers.key, *to_exact, *to_networks)}",
        servers=servers,
        sets=tuple(spec for spec in (exact, networks) if spec),
        exact=tuple(to_exact),
        networks=tuple(to_networks),
    )
