"""`DEST[:PORT[/PROTO]]` of `policy.explain`: what a person types, and what in the cluster it means.

    web, default/web              a pod                  198.51.100.7    an address, whoever has it
    service default/web           a Service              host            the pod's own node
    web.default.svc.cluster.local a Service, by name     remote-node     another node; or a node's name
    api.example.com               a name outside         world           somewhere outside the cluster

Behind it `:443` or `:443/tcp`, `:53/udp`, `:9999/sctp`, `:udp` (every port), `:icmp` (echo request) or
`:icmp-13`; nothing means all traffic. Raises InputError for what there is not, with what there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.name import Name
from acns.errors import InputError
from acns.located import did_you_mean
from acns.policy.directory import Resident
from acns.policy.model import ICMP, Ports, Protocol, Traffic
from acns.policy.objects import Service
from acns.policy.overview import Overview
from acns.policy.wording import ECHO, HIGHEST_PORT

_SHAPE = re.compile(
    r"(?P<who>.*?)(?::(?:(?P<port>\d+)(?:/(?P<with>tcp|udp|sctp))?|(?P<every>tcp|udp|sctp)|icmp(?:-(?P<type>\d+))?))?",
    re.IGNORECASE,
)
_SERVICE = re.compile(r"(?:service|svc)[ /](?:(?P<namespace>[^/ ]+)/)?(?P<name>[^/ ]+)")
_SERVICE_NAME = re.compile(
    r"(?P<name>[^.]+)\.(?P<namespace>[^.]+)\.svc(?:\.cluster\.local)?\.?", re.IGNORECASE
)
_DOMAIN_NAME = re.compile(r"(?:[-a-zA-Z0-9_]+\.)+[-a-zA-Z0-9_]*[a-zA-Z][-a-zA-Z0-9_]*\.?")


@dataclass(frozen=True, slots=True)
class AtAddress:
    """One address."""

    address: IPv4Address


@dataclass(frozen=True, slots=True)
class AtService:
    """A Service; with the `name` under which it is looked up first, where one was given."""

    service: Service
    name: Name | None = None


@dataclass(frozen=True, slots=True)
class AtName:
    """A name outside the cluster, whatever it resolves to."""

    name: Name


_BROADCAST = IPv4Address("255.255.255.255")


@dataclass(frozen=True, slots=True)
class Outside:
    """Somewhere outside the cluster, where no rule for a narrower part of it reaches."""


Target = AtAddress | AtService | AtName | Outside


@dataclass(frozen=True, slots=True)
class Destination:
    """Who is connected to, with what traffic (None: all), and as it was `asked`."""

    target: Target
    traffic: Traffic
    asked: str


def parse(text: str, overview: Overview, source: Resident) -> Destination:
    """What a person means by `text`, as `source` would."""
    if text.count(":") > 1:
        raise InputError(f"'{text}' is no destination: only IPv4 is enforced, and shown, here")
    match = _SHAPE.fullmatch(text.strip())
    who = match["who"].strip() if match else ""
    if match is None or not who:
        raise InputError(f"'{text}' is no destination", hint="write for example api.example.com:443")
    return Destination(_target(who, overview, source), _traffic(text, match), text.strip())


def traffic(text: str) -> Traffic:
    """`443`, `443/tcp`, `icmp`, …: what stands behind a destination's colon."""
    match = _SHAPE.fullmatch(f":{text.strip().removeprefix(':')}")
    if match is None or match["who"]:
        raise InputError(
            f"'{text}' is no port", hint="write 443, 53/udp, icmp-8, or udp for all of its ports"
        )
    return _traffic(text, match)


def _traffic(text: str, match: re.Match[str]) -> Traffic:
    if match["port"]:
        port = int(match["port"])
        if not 0 < port <= HIGHEST_PORT:
            raise InputError(f"'{text}': {port} is no port", hint="1 to 65535; leave it out for all traffic")
        return Ports(Protocol((match["with"] or "TCP").upper()), port, port)
    if match["every"]:
        return Ports(Protocol(match["every"].upper()), 0, 0)
    if match["who"] == match[0]:
        return None
    kind = int(match["type"] or ECHO)
    if kind > 255:
        raise InputError(f"'{text}': {kind} is no ICMP type", hint="0 to 255; echo request is 8")
    return ICMP(kind)


def _target(who: str, overview: Overview, source: Resident) -> Target:
    if (address := _address(who)) is not None:
        if why := _never_sent(address):
            raise InputError(f"{address} {why}: no policy is about it")
        return at_address(address, overview)
    if who == "world":
        return Outside()
    if who == "host":
        return AtAddress(_node_address(source.node_name, overview))
    if who == "remote-node":
        return AtAddress(_other_node(source.node_name, overview))
    if match := _SERVICE.fullmatch(who):
        return AtService(service(match["name"], match["namespace"], overview, source))
    if match := _SERVICE_NAME.fullmatch(who):
        found = service(match["name"], match["namespace"], overview, source)
        return AtService(found, names.from_text(f"{found.name}.{found.namespace}.svc.cluster.local."))
    return _by_name(who, overview, source)


def _by_name(who: str, overview: Overview, source: Resident) -> Target:
    if resident := overview.find_pod(who, source.endpoint.namespace):
        return AtAddress(resident.endpoint.address)
    if who in overview.directory.nodes:
        return AtAddress(_node_address(who, overview))
    for pod in overview.cluster.pods:
        if who in (pod.key, pod.name) and pod.host_network and pod.pod_ip is not None:
            return AtAddress(pod.pod_ip)  # it is where its node is
    if _DOMAIN_NAME.fullmatch(who):
        return AtName(_name(who))
    for each in overview.cluster.services:
        if who in (each.key, each.name):
            raise InputError(f"there is no pod or node '{who}'", hint=f"did you mean 'service {each.key}'?")
    name, colon, what = who.rpartition(":")
    if colon:
        hint = "443, 53/udp, icmp-8; what the name of a port stands for differs from pod to pod"
        raise InputError(f"'{what}' is no port of '{name}'", hint=hint)
    known = set(_known(overview))
    raise InputError(f"there is no pod, Service or node '{who}'", hint=did_you_mean(who, known))


def _name(text: str) -> Name:
    try:
        return names.from_text(text)
    except ValueError as error:
        raise InputError(str(error)) from None


def _never_sent(address: IPv4Address) -> str:
    """Why no packet to that address leaves a pod for another place; empty where one may."""
    if address.is_loopback or address.is_unspecified:
        return "is the pod itself"
    if address.is_multicast or address == _BROADCAST:
        return "is not one host"
    return ""


def at_address(address: IPv4Address, overview: Overview) -> Target:
    """A ClusterIP is its Service."""
    for each in overview.cluster.services:
        if address in each.cluster_ips:
            return AtService(each)
    return AtAddress(address)


def service(name: str, namespace: str | None, overview: Overview, source: Resident) -> Service:
    """The Service of that name; without a namespace the source's own."""
    wanted = namespace or source.endpoint.namespace
    for each in overview.cluster.services:
        if (each.name, each.namespace) == (name, wanted):
            return each
    known = {each.key for each in overview.cluster.services}
    raise InputError(f"there is no Service {wanted}/{name}", hint=did_you_mean(f"{wanted}/{name}", known))


def _address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text)
    except ValueError:
        return None


def _node_address(node: str, overview: Overview) -> IPv4Address:
    """The address that its Node object gives first; the gateway of its pods where there is none."""
    for each in overview.cluster.nodes:
        if each.name == node and each.addresses:
            return each.addresses[0]
    if found := overview.directory.addresses_of(node):
        return min(found)
    raise InputError(f"no address of node '{node}' is known", hint="a Node object has it in its status")


def _other_node(node: str, overview: Overview) -> IPv4Address:
    others = sorted(name for name in overview.directory.nodes if name != node)
    if not others:
        raise InputError(f"there is no other node than {node}")
    return _node_address(others[0], overview)


def _known(overview: Overview) -> Iterator[str]:
    for one in overview.residents:
        yield from (one.key, one.endpoint.pod)
    yield from (f"service {each.key}" for each in overview.cluster.services)
    yield from overview.directory.nodes
    yield from ("host", "world", "remote-node")
