"""Services and what is behind them: the *fronts* that pods see before translation, and who answers there.

Backends count whether ready or not: what a policy means must not change with every readiness probe.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.policy.changes import Change
from acns.policy.objects import EndpointSlice, Service
from acns.policy.selectors import K8S, Labels, Selector

PROTOCOL_NUMBERS = {"TCP": 6, "UDP": 17, "SCTP": 132}

Backend = tuple[IPv4Address, int]  # address, port
FrontKey = tuple[IPv4Address, int, int]  # address, protocol number, port
ServiceKey = tuple[str, str]  # namespace, name


@dataclass(frozen=True, slots=True)
class Front:
    """One port of a Service at one of its ClusterIPs, and the backends behind it."""

    service: str
    address: IPv4Address
    protocol: int
    port: int
    backends: frozenset[Backend]

    @property
    def key(self) -> FrontKey:
        return (self.address, self.protocol, self.port)


class Services:
    """The index. `fronts`: by what pods address; of two Services with one ClusterIP the first by name
    counts. `before`: the fronts that have an address among their backends. `behind`: a ClusterIP's backends,
    those of all its fronts."""

    def __init__(self) -> None:
        self.fronts: dict[FrontKey, Front] = {}
        self.before: dict[IPv4Address, list[Front]] = {}
        self.behind: dict[IPv4Address, set[IPv4Address]] = {}
        self.addresses: frozenset[IPv4Address] = frozenset()
        self._services: dict[ServiceKey, Service] = {}
        self._slices: dict[ServiceKey, dict[str, EndpointSlice]] = {}
        self._fronts: dict[ServiceKey, tuple[Front, ...]] = {}

    def update(self, services: Change[Service], slices: Change[EndpointSlice]) -> frozenset[IPv4Address]:
        """Take over what is new; returns who is or was behind what pods address and has changed."""
        for service in services.gone:
            del self._services[service.namespace, service.name]
        for service in services.come:
            self._services[service.namespace, service.name] = service
        for gone in slices.gone:
            del self._slices[gone.namespace, gone.service][gone.name]
        for come in slices.come:
            self._slices.setdefault((come.namespace, come.service), {})[come.name] = come
        touched = {(each.namespace, each.name) for each in services.objects}
        touched |= {(each.namespace, each.service) for each in slices.objects}
        changed = {front.key for key in touched for front in self._rebuild(key)}
        if services:
            self.addresses = frozenset(
                address for service in self._services.values() for address in service.cluster_ips
            )
        return self._index(changed) if changed else frozenset()

    def named(self, name: str, namespace: str) -> list[Service]:
        """The Service of that name; in no namespace given, those of all namespaces, as Cilium has it."""
        if namespace:
            found = self._services.get((namespace, name))
            return [found] if found else []
        return [self._services[key] for key in sorted(self._services) if key[1] == name]

    def selected(self, selector: Selector, namespace: str) -> list[Service]:
        """Those whose own labels match, in `namespace` or, where that is "", in all."""
        return [
            service
            for key, service in sorted(self._services.items())
            if namespace in ("", service.namespace)
            if selector.matches(Labels.of((K8S, name, value) for name, value in service.labels.items()))
        ]

    def endpoints(self, namespace: str, name: str) -> frozenset[IPv4Address]:
        """All addresses in the slices of a Service, whether or not there is such an object."""
        slices = self._slices.get((namespace, name), {}).values()
        return frozenset(
            address for each in slices for endpoint in each.endpoints for address in endpoint.addresses
        )

    def _rebuild(self, key: ServiceKey) -> Iterable[Front]:
        """The fronts of one Service anew; returns those that came or went."""
        service, old = self._services.get(key), self._fronts.pop(key, ())
        slices = self._slices.get(key, {})
        if not slices:
            self._slices.pop(key, None)
        new = tuple(_fronts_of(service, slices.values())) if service else ()
        if new:
            self._fronts[key] = new
        return set(old) ^ set(new)

    def _index(self, changed: Iterable[FrontKey]) -> frozenset[IPv4Address]:
        """All fronts anew; returns the backends, before and after, of those that may be others now."""
        old = self.behind
        claims = (front for key in sorted(self._fronts, reverse=True) for front in self._fronts[key])
        self.fronts = {front.key: front for front in claims}
        self.before, self.behind = {}, {}
        for front in self.fronts.values():
            backends = {address for address, _ in front.backends}
            self.behind.setdefault(front.address, set()).update(backends)
            for address in backends:
                self.before.setdefault(address, []).append(front)
        at = {address for address, _, _ in changed}
        return frozenset[IPv4Address]().union(
            *(behind.get(address, ()) for behind in (old, self.behind) for address in at)
        )


def _fronts_of(service: Service, slices: Iterable[EndpointSlice]) -> Iterator[Front]:
    for port in service.ports:
        number = PROTOCOL_NUMBERS.get(port.protocol)
        if number is None:
            continue
        backends = frozenset(
            (address, target.port)
            for each in slices
            for target in each.ports
            # Slices repeat the name of the Service's port; an unnamed one is the only one.
            if (target.name, target.protocol) == (port.name, port.protocol)
            for endpoint in each.endpoints
            for address in endpoint.addresses
        )
        for address in service.cluster_ips:
            yield Front(service.key, address, number, port.port, backends)
