"""A connection explained: each way that it may take, each share of its traffic, both ends of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.errors import InputError
from acns.policy.learnings import Learnings
from acns.policy.misses import Question
from acns.policy.model import Direction, Ports, Protocol, Traffic
from acns.policy.objects import Service
from acns.policy.overview import Local, Overview
from acns.policy.reasons import Said, Side, reasons
from acns.policy.routes import Outcome, Route
from acns.policy.services import Front
from acns.policy.shares import Share, shares
from acns.policy.traffic import Packet
from acns.policy.wording import names_text, traffic_text, who


@dataclass(frozen=True, slots=True)
class Part:
    """One share of the traffic on one way. `through`: the Service's translation, where there is one.
    `redirects`: the rules that take it to the resolver, and those that let every name pass there, with the
    names that may be asked for.
    `packet` stands for all of the share."""

    to: str
    through: str
    traffic: str
    outcome: Outcome
    sides: tuple[Side, ...]
    redirects: tuple[Said, ...]
    route: Route
    packet: Packet


def parts(
    overview: Overview,
    source: Local,
    asked: IPv4Address,
    wanted: Traffic,
    learned: Learnings,
    called: str = "",
) -> tuple[Part, ...]:
    """All parts of what `source` sends to `asked`, an address or a ClusterIP; a Service's port with nobody
    behind it is a part that is denied.

    `called`: what the address stands for, if it is not itself what is asked about.
    Raises InputError for a port that a Service does not have.
    """
    service = service_at(overview, asked)
    if service is None:
        routes = [(Route(source, asked, asked, overview.at(asked)), wanted)]
    else:
        routes = [
            (route, route.front_packet) for route in _translated(overview, source, service, asked, wanted)
        ]
    return tuple(
        _part(overview, route, share, learned, called or _called(route.reached, overview))
        if share.judgement.redirects or not route.is_dead
        else _dead_part(route, share)
        for route, traffic in routes
        for share in shares(route, traffic, learned)
    )


def untranslated(
    overview: Overview, source: Local, asked: IPv4Address, wanted: Traffic, learned: Learnings
) -> tuple[Part, ...]:
    """All parts of what `source` sends to a ClusterIP whose Service has no such port: nobody gets it, but the
    resolver what it takes."""
    service = service_at(overview, asked)
    assert service is not None
    route = Route(source, asked, asked)
    nobody = f"nobody (Service {service.key} does not translate {traffic_text(wanted)})"
    through = f"Service {service.key} {asked}"
    return tuple(
        _part(overview, route, share, learned, _called(asked, overview))
        if share.judgement.redirects
        else Part(nobody, through, share.text, Outcome.DENIED, (), (), route, share.packet)
        for share in shares(route, wanted, learned, lambda judgement: bool(judgement.redirects))
    )


def service_at(overview: Overview, address: IPv4Address) -> Service | None:
    """The Service with that ClusterIP; of two the first by name."""
    return next((each for each in overview.cluster.services if address in each.cluster_ips), None)


def _translated(
    overview: Overview, source: Local, service: Service, asked: IPv4Address, wanted: Traffic
) -> Iterator[Route]:
    for front in fronts(overview, service, asked, wanted):
        if not front.backends:
            yield Route(source, asked, asked, None, front)
        for address, port in sorted(front.backends):
            yield Route(source, asked, address, overview.at(address), front, port)


def fronts(overview: Overview, service: Service, asked: IPv4Address, wanted: Traffic) -> list[Front]:
    """The ports of a Service that `wanted` means. Raises InputError where it has none such."""
    known = sorted(
        (front for front in overview.directory.services.fronts.values() if front.address == asked),
        key=lambda front: (front.port, front.protocol),
    )
    found = [front for front in known if wanted is None or _is_wanted(front, wanted)]
    if not found:
        listed = ", ".join(_front_text(front) for front in known)
        raise InputError(
            f"Service {service.key} does not translate {traffic_text(wanted)}: such packets reach nobody",
            hint=f"its ports: {listed or 'none'}",
        )
    return found


def _is_wanted(front: Front, wanted: Traffic) -> bool:
    if not isinstance(wanted, Ports) or front.protocol not in wanted.protocol.numbers():
        return False
    return wanted.first in (0, front.port)


def _front_text(front: Front) -> str:
    name = next(one for one in Protocol if one.numbers() == (front.protocol,))
    return f"{front.port}/{name}"


def _called(address: IPv4Address, overview: Overview) -> str:
    return f"{who(address, overview.directory)} ({address})"


def _dead_part(route: Route, share: Share) -> Part:
    """Connections to the port are rejected where Services are translated, whatever policies say."""
    to = "nobody (its EndpointSlices have no address for this port)"
    return Part(to, _through(route), share.text, Outcome.DENIED, (), (), route, share.packet)


def _through(route: Route) -> str:
    if route.front is None:
        return ""
    front = f"Service {route.front.service} {route.asked}:{route.front.port}"
    return front if route.is_dead else f"{front} → port {route.backend_port}"


def _part(overview: Overview, route: Route, share: Share, learned: Learnings, called: str) -> Part:
    judgement = share.judgement
    asked = (*judgement.redirects, *judgement.opens)
    redirects = tuple(Said(one.origin, names_text(one.names)) for one in asked)
    sides = () if redirects else tuple(_sides(overview, route, share, learned, called))
    outcome = judgement.outcome
    return Part(called, _through(route), share.text, outcome, sides, redirects, route, share.packet)


def _sides(overview: Overview, route: Route, share: Share, learned: Learnings, called: str) -> Iterator[Side]:
    arriving = route.translated(share.packet)
    words = share.text if route.front is None else traffic_text(arriving)
    egress = Question(
        route.sender, Direction.EGRESS, route.reached, called, arriving, words, share.packet, learned
    )
    yield reasons(egress, share.judgement.egress, overview)
    if route.receiver is not None and share.judgement.ingress is not None:
        source, there = route.sender.address, overview.on(route.receiver.node.node)
        sender = _called(source, there)
        ingress = Question(
            route.receiver, Direction.INGRESS, source, sender, arriving, words, share.packet, Learnings()
        )
        yield reasons(ingress, share.judgement.ingress, there)
