"""The plan of the traffic and of the edits: a function of the seed alone. Times are seconds from the start.

Made in epochs of EPOCH_S, so that the names of an epoch can be published before it begins. Each new name has
a label and an address that occur nowhere else: wherever they are seen, it is this query or this connection.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal

from lab.spec.topology import InternetName

from . import world

EPOCH_S = 20.0
QUERIES_PER_S = 100
EXPIRED_AFTER_S = 45.0
"""A new name's address is tried again so much later: it is closed by then."""
_FIRST_NEW = int(IPv4Address("198.18.0.1"))
_MOST_NEW = 1 << 17
_TCP_SHARE = 0.03
"""dnsmasq has a process for each connection, which waits minutes for an Internet that was lost."""
_EDIT_PAUSE_S = (2.0, 7.0)


@dataclass(frozen=True, slots=True)
class Ask:
    """A query; a connection to what was answered at once if it `connects`, and again after so long each."""

    at_s: float
    pod: str
    name: str
    transport: Literal["udp", "tcp"] = "udp"
    connects: bool = False
    again_after_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Knock:
    """A connection to an address of a name's, asked for or not."""

    at_s: float
    pod: str
    name: str
    address: str
    port: int = world.PORT


@dataclass(frozen=True, slots=True)
class Stray:
    """A query straight to the Internet's DNS server."""

    at_s: float
    pod: str
    name: str


Event = Ask | Knock | Stray


@dataclass(frozen=True, slots=True)
class Edit:
    """The pod's policy has this selector from now on, or no more."""

    at_s: float
    pod: str
    selector: str
    present: bool

    def __str__(self) -> str:
        return f"{'give' if self.present else 'take'} {self.pod} {self.selector}"


@dataclass(frozen=True, slots=True)
class Epoch:
    """`names`: those that exist from its beginning on."""

    names: dict[str, InternetName]
    events: list[Event]


def epoch(seed: int, number: int) -> Epoch:
    return _Maker(seed, number).epoch()


def edits(seed: int, until_s: float) -> Iterator[Edit]:
    """Each selector that comes and goes is absent at first."""
    rng = random.Random(f"{seed} edits")
    present: set[tuple[str, str]] = set()
    at_s = rng.uniform(*_EDIT_PAUSE_S)
    while at_s < until_s:
        one = rng.choice(world.PODS), rng.choice((world.EXTRA, world.EXTRA, *world.KEPT))
        present ^= {one}
        yield Edit(round(at_s, 2), *one, one in present)
        at_s += rng.uniform(*_EDIT_PAUSE_S)


class _Maker:
    """Makes one epoch."""

    _KINDS = ("known", "new", "extra", "kept", "denied", "others", "deeper", "stray")
    _WEIGHTS = (42, 16, 8, 12, 12, 6, 3, 1)

    def __init__(self, seed: int, number: int) -> None:
        self._rng = random.Random(f"{seed} epoch {number}")
        self._start_s = number * EPOCH_S
        self._names: dict[str, InternetName] = {}
        per_epoch = int(EPOCH_S * QUERIES_PER_S)
        self._addresses = (_FIRST_NEW + one % _MOST_NEW for one in itertools.count(number * per_epoch))

    def epoch(self) -> Epoch:
        events: list[Event] = []
        for number in range(int(EPOCH_S * QUERIES_PER_S)):
            at_s = self._start_s + (number + self._rng.random()) / QUERIES_PER_S
            (kind,) = self._rng.choices(self._KINDS, self._WEIGHTS)
            pod = self._rng.choice((*world.PODS, world.FREE))
            events += self._events(kind, round(at_s, 4), pod)
        return Epoch(self._names, sorted(events, key=lambda event: event.at_s))

    def _events(self, kind: str, at_s: float, pod: str) -> Iterator[Event]:
        other = self._rng.choice([one for one in world.PODS if one != pod])
        transport: Literal["udp", "tcp"] = "tcp" if self._rng.random() < _TCP_SHARE else "udp"
        match kind:
            case "known" | "kept":
                name = self._rng.choice(world.known(pod) if kind == "known" else world.KEPT)
                yield Ask(at_s, pod, name, transport, connects=self._rng.random() < 0.15)
                if self._rng.random() < 0.05:
                    yield self._knock(at_s + 0.3, pod, name, world.OTHER_PORT)
            case "new":
                yield Ask(at_s, pod, self._new(world.zone(pod)), transport, True, self._again())
            case "extra":
                name = self._new(world.EXTRA.removeprefix("*."))
                yield Ask(at_s, pod, name, transport, True, self._again())
                yield self._knock(at_s + 0.8, other, name)
            case "denied":
                name = self._new(world.DENIED)
                yield Ask(at_s, pod, name, transport)
                yield self._knock(at_s + 0.3, pod, name)
            case "others":
                name = self._rng.choice((self._new(world.zone(other)), *world.known(other)))
                yield Ask(at_s, pod, name, transport)
                yield self._knock(at_s + 0.3, pod, name)
            case "deeper":
                yield Ask(at_s, pod, self._new(f"sub.{world.zone(pod)}"), transport)
            case "stray":
                yield Stray(at_s, pod, f"{self._label()}.{world.STRAY}")

    def _again(self) -> tuple[float, ...]:
        chance = self._rng.random()
        return (1.0,) if chance < 0.3 else (EXPIRED_AFTER_S,) if chance < 0.5 else ()

    def _knock(self, at_s: float, pod: str, name: str, port: int = world.PORT) -> Knock:
        records = self._names.get(name) or world.lasting_names()[name]
        return Knock(at_s, pod, name, str(self._rng.choice(records.a)), port)

    def _new(self, zone: str) -> str:
        name = f"{self._label()}.{zone}"
        self._names[name] = InternetName(
            a=(IPv4Address(next(self._addresses)),), ttl_s=self._rng.randint(3, 8)
        )
        return name

    def _label(self) -> str:
        return f"x{self._rng.getrandbits(48):012x}"
