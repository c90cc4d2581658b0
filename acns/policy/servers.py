"""The DNS servers of a rule, in the form in which a pod's packets name them.

Policy speaks of backends and their ports; the redirection sees a packet before Service translation, so it
must know the ClusterIPs too. A Service stands for its backends only if all of them are selected and share one
identity: the resolver sees only the ClusterIP and cannot tell which of them will answer. A Service that
fails this is left out (its queries are then denied, never let through unseen) and reported.

A plain L4 rule for one of these servers opens every name on it (Cilium keeps rules per port and selector: a
selector without DNS rules allows all). That holds for the same port number only: a rule without ports, for
port 0 or for a range is another, less specific entry, and the redirection goes first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from acns.policy.directory import Directory, Front
from acns.policy.model import Addresses, CIDRs, DNSServers, Everything, Host, Peer, ServerAddress, World
from acns.policy.peers import covers

PortSet = frozenset[tuple[int, int]]  # protocol number, port

ANYWHERE = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True)
class Mixed:
    """A Service that cannot stand for its backends, and why."""

    service: str
    reason: str


Report = Callable[[Mixed], None]


@dataclass(frozen=True, slots=True)
class View:
    """A cluster as one node sees it."""

    directory: Directory
    node_name: str

    def covers(self, peers: Iterable[Peer], address: IPv4Address) -> bool:
        return covers(peers, address, self.directory, self.node_name)

    def identity(self, address: IPv4Address) -> str:
        return self.directory.identity_at(address, self.node_name)


def servers_of(peers: Sequence[Peer], ports: PortSet, view: View, report: Report) -> DNSServers | None:
    """The servers that `peers` name, at `ports`; None where no server is there (yet)."""
    if any(isinstance(peer, Everything) for peer in peers):
        return _any_server(peers, ports, view, report)
    exact = {*_direct(peers, ports, view), *_translated(peers, ports, view, report)}
    networks = tuple(collapse_addresses(_networks(peers)))
    if not exact and not networks:
        return None
    key = f"{_peers_text(peers)}@{_text(ports)}"
    return DNSServers(key, frozenset(exact), networks, ports if networks else frozenset())


def _any_server(peers: Sequence[Peer], ports: PortSet, view: View, report: Report) -> DNSServers:
    """Any destination. A ClusterIP is no server by itself: its backend's port decides, and may be another."""
    exact = frozenset(_translated(peers, ports, view, report))
    good = {(server.address, server.protocol, server.port) for server in exact}
    fronts = view.directory.fronts.values()
    wrong = {
        front.address
        for front in fronts
        if (front.protocol, front.port) in ports and front.backends and front.key not in good
    }
    key = f"{Everything().key}@{_text(ports)}"
    return DNSServers(key, exact, _without([ANYWHERE], wrong), ports, outside_only=False)


def _direct(peers: Iterable[Peer], ports: PortSet, view: View) -> Iterator[ServerAddress]:
    for peer in peers:
        addresses: frozenset[IPv4Address] = frozenset()
        if isinstance(peer, Addresses):
            addresses = peer.addresses
        elif isinstance(peer, Host):
            addresses = view.directory.addresses_of(view.node_name)
        for address in addresses:
            for protocol, port in ports:
                yield ServerAddress(address, protocol, port, view.identity(address))


def _translated(peers: Sequence[Peer], ports: PortSet, view: View, report: Report) -> Iterator[ServerAddress]:
    for front in view.directory.fronts.values():
        if not any(_selected(front, backend, peers, ports, view) for backend in front.backends):
            continue
        identities = {view.identity(address) for address, _ in front.backends}
        if not all(_selected(front, backend, peers, ports, view) for backend in front.backends):
            report(Mixed(front.service, "only some of its backends are selected"))
        elif len(identities) > 1:
            report(Mixed(front.service, "its backends have different labels, so different identities"))
        else:
            yield ServerAddress(front.address, front.protocol, front.port, identities.pop())


def _selected(
    front: Front, backend: tuple[IPv4Address, int], peers: Iterable[Peer], ports: PortSet, view: View
) -> bool:
    address, port = backend
    return (front.protocol, port) in ports and view.covers(peers, address)


def _networks(peers: Iterable[Peer]) -> Iterator[IPv4Network]:
    for peer in peers:
        if isinstance(peer, CIDRs):
            yield from peer.networks
        elif isinstance(peer, World):
            yield ANYWHERE


def opened_by(peers: Sequence[Peer], ports: PortSet, redirected: DNSServers, view: View) -> DNSServers | None:
    """The part of `redirected` on which a plain rule for `peers` and `ports` opens every name."""
    exact = frozenset(server for server in redirected.exact if _opens(peers, ports, server, view))
    common = redirected.ports & ports
    networks: tuple[IPv4Network, ...] = ()
    outside_only = True
    if common and redirected.networks:
        networks, outside_only = _common_networks(peers, redirected)
        if not redirected.outside_only and outside_only:
            exact |= _inside(peers, common, view)
    if not exact and not networks:
        return None
    key = f"open:{_peers_text(peers)}@{_text(ports)}&{redirected.key}"
    return DNSServers(key, exact, networks, common if networks else frozenset(), outside_only)


def _inside(peers: Iterable[Peer], ports: PortSet, view: View) -> frozenset[ServerAddress]:
    """The pods, nodes and Services that a plain rule names, where any server at all is redirected."""
    part = servers_of([peer for peer in peers if not isinstance(peer, CIDRs | World)], ports, view, _silent)
    return part.exact if part else frozenset()


def _opens(peers: Sequence[Peer], ports: PortSet, server: ServerAddress, view: View) -> bool:
    front = view.directory.fronts.get((server.address, server.protocol, server.port))
    if front is None:
        return (server.protocol, server.port) in ports and view.covers(peers, server.address)
    return all(_selected(front, backend, peers, ports, view) for backend in front.backends)


def _common_networks(peers: Iterable[Peer], redirected: DNSServers) -> tuple[tuple[IPv4Network, ...], bool]:
    if any(isinstance(peer, Everything) for peer in peers):
        return redirected.networks, redirected.outside_only
    wanted = list(_networks(peers))
    pairs = ((ours, theirs) for ours in redirected.networks for theirs in wanted if ours.overlaps(theirs))
    # Of two overlapping networks one contains the other.
    common = [ours if ours.prefixlen >= theirs.prefixlen else theirs for ours, theirs in pairs]
    return tuple(collapse_addresses(common)), True


def _without(networks: Iterable[IPv4Network], addresses: Iterable[IPv4Address]) -> tuple[IPv4Network, ...]:
    left = list(networks)
    for address in sorted(addresses):
        single = IPv4Network(address)
        left = [
            part
            for network in left
            for part in (network.address_exclude(single) if single.subnet_of(network) else (network,))
        ]
    return tuple(sorted(left))


def _silent(_: Mixed) -> None:
    """The rule that redirects reports; a rule that only opens names need not."""


def _peers_text(peers: Iterable[Peer]) -> str:
    return "|".join(sorted(peer.key for peer in peers))


def _text(ports: PortSet) -> str:
    return ",".join(f"{port}/{protocol}" for protocol, port in sorted(ports))
