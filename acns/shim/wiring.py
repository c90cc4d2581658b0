"""Which interface leads to each pod, which to none, and the way of redirected packets to the resolver.

Read from the kernel when its routes, rules or links have changed since, and not before: with hundreds of
links that takes milliseconds, and a change of policy has none to spare.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from acns.datapath.routes import Routes


@dataclass(frozen=True, slots=True)
class Links:
    """The node's links, by name. `interfaces`: of every address that has one of its own; `uplinks`: those
    that lead to no pod."""

    interfaces: Mapping[IPv4Address, str] = field(default_factory=dict)
    uplinks: frozenset[str] = frozenset()


class Wiring:
    """Bound to the network namespace in which it is made. For one thread."""

    def __init__(self) -> None:
        self._routes = Routes()
        self._links = Links()
        self._stale = True

    def fileno(self) -> int:
        """Readable when something has changed: for `loop.add_reader`; then ask `has_changed()`."""
        return self._routes.fileno()

    def has_changed(self) -> bool:
        """Whether anything may have changed since `links` was last read."""
        self._stale |= self._routes.drain()
        return self._stale

    def links(self) -> Links:
        """The same object until something changes. The resolver's rule and route are mended on the way."""
        if self.has_changed():
            self._routes.ensure_proxy_route()
            found = Links(self._routes.interfaces(), self._routes.uplinks())
            self._links = self._links if found == self._links else found
            self._stale = False
        return self._links

    def close(self) -> None:
        """Close the sockets."""
        self._routes.close()
