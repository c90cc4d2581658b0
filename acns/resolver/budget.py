"""How much the resolver takes on at once: overall, and in shares so that one pod's flood, or one dead DNS
server, is not everybody's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar
from weakref import WeakValueDictionary

from acns.resolver.settings import ResolverSettings

LARGE_OCTETS: Final = 2_048
"""A query that is longer counts by its octets, too: each is kept until its end, over TCP twice. So does an
answer while it waits for its commit."""
LARGE_AT_ONCE_BYTES: Final = 8 << 20
LARGE_OF_ENDPOINT_BYTES: Final = 1 << 20

Kept = TypeVar("Kept")


class Share:
    """How much one key has taken. `large_bytes`: of that, of queries and answers that are large."""

    __slots__ = ("__weakref__", "large_bytes", "taken")

    def __init__(self) -> None:
        self.taken = 0
        self.large_bytes = 0


class Budget:
    """Counts what is taken against two limits. Every `take` that said True needs its `give`."""

    def __init__(self, total: int, per_key: int) -> None:
        self.total = total
        self.per_key = per_key
        self.taken = 0
        self._shares: WeakValueDictionary[object, Share] = WeakValueDictionary()

    def share(self, key: object) -> Share:
        """The key's: the same for everybody, as long as anybody holds it."""
        return _kept(self._shares, key, Share)

    def take(self, share: Share) -> bool:
        """Whether there is room for one more of this share; it is then taken."""
        if share.taken >= self.per_key or self.taken >= self.total:
            return False
        share.taken += 1
        self.taken += 1
        return True

    def give(self, share: Share) -> None:
        """Give one back."""
        share.taken -= 1
        self.taken -= 1


class Lane:
    """What one endpoint has in flight to one DNS server: it counts in what the endpoint has, and in what the
    server has to do."""

    __slots__ = ("__weakref__", "endpoint", "server", "taken")

    def __init__(self, endpoint: Share, server: Share) -> None:
        self.endpoint = endpoint
        self.server = server
        self.taken = 0


class InFlight:
    """Queries being worked on. A server that has died keeps each until its time is up: the limits with a
    server in them leave room for queries to the others. Every `take` that said True needs its `give`.

    Who takes often counts `taken` himself, here and in a lane's three places, and keeps to the limits; large
    queries are seldom.
    """

    def __init__(self, *, total: int, per_endpoint: int, per_server: int, per_lane: int) -> None:
        self.total = total
        self.per_endpoint = per_endpoint
        self.per_server = per_server
        self.per_lane = per_lane
        self.taken = 0
        self.large_bytes = 0
        self._endpoints: WeakValueDictionary[object, Share] = WeakValueDictionary()
        self._servers: WeakValueDictionary[object, Share] = WeakValueDictionary()
        self._lanes: WeakValueDictionary[object, Lane] = WeakValueDictionary()

    @classmethod
    def of(cls, settings: ResolverSettings) -> InFlight:
        return cls(
            total=settings.max_in_flight,
            per_endpoint=settings.max_in_flight_per_endpoint,
            per_server=settings.max_in_flight_per_server,
            per_lane=settings.max_in_flight_per_endpoint_and_server,
        )

    def lane(self, endpoint: object, server: object) -> Lane:
        """The same for everybody, as long as anybody holds it."""
        return _kept(
            self._lanes,
            (endpoint, server),
            lambda: Lane(_kept(self._endpoints, endpoint, Share), _kept(self._servers, server, Share)),
        )

    def take(self, lane: Lane, octets: int = 0) -> bool:
        """Whether there is room for one more query, so long; it is then taken."""
        if octets > LARGE_OCTETS and not self.take_large(lane, octets):
            return False
        if (
            lane.taken >= self.per_lane
            or lane.endpoint.taken >= self.per_endpoint
            or lane.server.taken >= self.per_server
            or self.taken >= self.total
        ):
            self.give_large(lane, octets)
            return False
        lane.taken += 1
        lane.endpoint.taken += 1
        lane.server.taken += 1
        self.taken += 1
        return True

    def give(self, lane: Lane, octets: int = 0) -> None:
        """Give one back, with the octets that it was taken with."""
        lane.taken -= 1
        lane.endpoint.taken -= 1
        lane.server.taken -= 1
        self.taken -= 1
        self.give_large(lane, octets)

    def take_large(self, lane: Lane, octets: int) -> bool:
        """Whether there is room for so many octets more, beside the number of queries; they are then taken.
        What is not large takes none, and needs its `give_large` all the same."""
        if octets <= LARGE_OCTETS:
            return True
        endpoint = lane.endpoint
        if (
            endpoint.large_bytes + octets > LARGE_OF_ENDPOINT_BYTES
            or self.large_bytes + octets > LARGE_AT_ONCE_BYTES
        ):
            return False
        endpoint.large_bytes += octets
        self.large_bytes += octets
        return True

    def give_large(self, lane: Lane, octets: int) -> None:
        """Give them back."""
        if octets > LARGE_OCTETS:
            lane.endpoint.large_bytes -= octets
            self.large_bytes -= octets


def _kept(known: WeakValueDictionary[object, Kept], key: object, make: Callable[[], Kept]) -> Kept:
    found = known.get(key)
    if found is None:
        found = known[key] = make()
    return found
