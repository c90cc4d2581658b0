"""The DNS servers of a rule, in the form in which a pod's packets name them.

Policy speaks of backends and their ports; the redirection sees a packet before Service translation, so it
must know the ClusterIPs too. A Service stands for its backends only if all of them are selected: the resolver
sees only the ClusterIP and cannot tell which of them will answer. A Service that fails this is `Undecidable`:
it is reported, and its queries go to the resolver all the same, which has no names for it and refuses them.
(Left alone, they would pass unseen where a rule without ports opens a backend.)

A plain L4 rule for one of these servers opens every name on it (Cilium keeps rules per port and selector: a
selector without DNS rules allows all). That holds for the same port number only: a rule without ports, for
port 0 or for a range is another, less specific entry, and the redirection goes first.

The resolver knows a server by identity and port. So names that a rule lets be asked of one pod (at its named
port, or through a Service with another port) may be asked of all pods with equal labels that are redirected
at that port, as with Cilium's own identities.

A deny goes before all of this: a server that is denied is no server, so its packets are not redirected but
dropped by the egress chain. Networks keep what a deny takes from them: there the redirection asks the denies
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, collapse_addresses

from acns.policy.model import Addresses, CIDRs, DNSServers, Everything, Host, Match, ServerAddress, World
from acns.policy.networks import common, without
from acns.policy.rules import Target, Targets, key_of
from acns.policy.services import Backend, Front
from acns.policy.traffic import includes, packet, text
from acns.policy.view import View

PortSet = frozenset[tuple[int, int]]  # protocol number, port

ANYWHERE = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True, order=True)
class Undecidable:
    """A Service that cannot stand for its backends, why, and how pods address it."""

    service: str
    reason: str
    server: ServerAddress


Report = Callable[[Undecidable], None]


def servers_of(targets: Targets, view: View, report: Report) -> DNSServers | None:
    """The servers at `targets`; None where no server is there (yet)."""
    exact = frozenset({*_direct(targets, view), *_translated(targets, view, report)})
    ports = _network_ports(targets)
    anywhere = any(isinstance(target.peer, Everything) for target in targets)
    if anywhere:
        networks = without((ANYWHERE,), _misleading(ports, exact, view))
    else:
        networks = tuple(collapse_addresses(_networks(targets)))
    if not exact and not networks:
        return None
    return DNSServers(key_of(targets), exact, networks, ports, outside_only=not anywhere)


def without_denied(
    servers: DNSServers, denies: Sequence[Match], view: View, report: Report
) -> DNSServers | None:
    """What is left of `servers` for an endpoint with these denies; None where nothing is."""
    hits = {server: list(_hits(server, denies, view)) for server in servers.exact}
    gone = {server for server, found in hits.items() if any(found)}
    if not gone:
        return servers
    for server in sorted(gone):
        if not all(hits[server]):
            front = view.directory.services.fronts[server.address, server.protocol, server.port]
            report(Undecidable(front.service, "only some of its backends are denied", server))
    exact, networks = servers.exact - gone, servers.networks
    if not servers.outside_only:  # a ClusterIP would be redirected there although its backends are denied
        denied = {IPv4Network(each.address) for each in gone if (each.protocol, each.port) in servers.ports}
        networks = without(networks, tuple(sorted(denied)))
    if not exact and not networks:
        return None
    why = {f"{each.peer.key} {text(each.traffic)}" for found in hits.values() for each in found if each}
    key = f"{servers.key} but {', '.join(sorted(why))}"
    return replace(servers, key=key, exact=exact, networks=networks)


def opened_by(targets: Targets, redirected: DNSServers, view: View) -> DNSServers | None:
    """The part of `redirected` on which a plain rule for `targets` opens every name."""
    exact = frozenset(server for server in redirected.exact if _opens(targets, server, view))
    if not redirected.outside_only:
        exact |= _inside(targets, redirected.ports, view)
    ports = redirected.ports & _network_ports(targets)
    networks, outside_only = _common_networks(targets, redirected) if ports else ((), True)
    if not exact and not networks:
        return None
    key = f"open:{key_of(targets)}&{redirected.key}"
    return DNSServers(key, exact, networks, ports if networks else frozenset(), outside_only)


# --- pods, nodes, and the Services before them ------------------------------------------------------------


def _direct(targets: Targets, view: View) -> Iterator[ServerAddress]:
    for target in targets:
        for address in _addresses(target, view):
            yield ServerAddress(address, target.protocol, target.port, view.identity(address))


def _addresses(target: Target, view: View) -> frozenset[IPv4Address]:
    match target.peer:
        case Addresses(key):
            return view.members(key)
        case Host():
            return view.directory.addresses_of(view.node_name)
    return frozenset()


def _translated(targets: Targets, view: View, report: Report) -> Iterator[ServerAddress]:
    for front in _fronts(targets, view):
        selected = [_selected(front.protocol, backend, targets, view) for backend in front.backends]
        if not any(selected):
            continue
        identity = view.identity_behind(front.address)
        server = ServerAddress(front.address, front.protocol, front.port, identity)
        if all(selected):
            yield server
        else:
            report(Undecidable(front.service, "only some of its backends are selected", server))


def _fronts(targets: Targets, view: View) -> Iterable[Front]:
    """Those that can have a selected backend."""
    services = view.directory.services
    if any(is_wide(target) for target in targets):
        return services.fronts.values()
    addresses = frozenset[IPv4Address]().union(*(_addresses(target, view) for target in targets))
    found = (front for address in addresses & services.before.keys() for front in services.before[address])
    return {front.key: front for front in found}.values()


def _selected(protocol: int, backend: Backend, targets: Targets, view: View) -> bool:
    address, port = backend
    return any(
        (target.protocol, target.port) == (protocol, port) and view.covers(target.peer, address)
        for target in targets
    )


def _backends(server: ServerAddress, view: View) -> Iterable[Backend]:
    """Who answers there: a Service's backends, or the server itself."""
    front = view.directory.services.fronts.get((server.address, server.protocol, server.port))
    return front.backends if front else ((server.address, server.port),)


def _hits(server: ServerAddress, denies: Sequence[Match], view: View) -> Iterator[Match | None]:
    """For each of its backends a deny that hits it."""
    for address, port in _backends(server, view):
        asked = packet(server.protocol, port)
        hits = (each for each in denies if includes(each.traffic, asked) and view.covers(each.peer, address))
        yield next(hits, None)


def _opens(targets: Targets, server: ServerAddress, view: View) -> bool:
    return all(_selected(server.protocol, each, targets, view) for each in _backends(server, view))


def _inside(targets: Targets, ports: PortSet, view: View) -> frozenset[ServerAddress]:
    """The pods, nodes and Services that a plain rule names, where any server at all is redirected."""
    inner = (each for each in targets if not is_wide(each) and (each.protocol, each.port) in ports)
    part = servers_of(tuple(inner), view, _silent)
    return part.exact if part else frozenset()


# --- networks -------------------------------------------------------------------------------------------


def is_wide(target: Target) -> bool:
    """Whether it means addresses, whoever has them."""
    return isinstance(target.peer, Everything | World | CIDRs)


def _networks(targets: Targets) -> Iterator[IPv4Network]:
    for target in targets:
        if isinstance(target.peer, CIDRs):
            yield from target.peer.networks
        elif isinstance(target.peer, World):
            yield ANYWHERE


def _network_ports(targets: Targets) -> PortSet:
    """All peers of a rule have the same ports by number, so this holds for each of its networks."""
    return frozenset((target.protocol, target.port) for target in targets if is_wide(target))


def _misleading(ports: PortSet, good: Iterable[ServerAddress], view: View) -> tuple[IPv4Network, ...]:
    """ClusterIPs that are no servers at these ports, though they have them: their backends' ports decide."""
    servers = {(server.address, server.protocol, server.port) for server in good}
    fronts = view.directory.services.fronts.values()
    wrong = (front for front in fronts if (front.protocol, front.port) in ports and front.backends)
    return tuple(sorted({IPv4Network(each.address) for each in wrong if each.key not in servers}))


def _common_networks(targets: Targets, redirected: DNSServers) -> tuple[tuple[IPv4Network, ...], bool]:
    if any(isinstance(target.peer, Everything) for target in targets):
        return redirected.networks, redirected.outside_only
    return common(redirected.networks, tuple(_networks(targets))), True


def _silent(_: Undecidable) -> None:
    """The rule that redirects reports; a rule that only opens names need not."""
