"""Which interface leads to each pod, which to none, and the way of redirected packets to the resolver.

Read from the kernel when its routes, rules or links have changed since, and not before: with hundreds of
links that takes milliseconds, and a change of policy has none to spare.
"""

from __future__ import annotations

from acns.datapath.routes import Links, Routes


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
            found = self._routes.links()
            self._links = self._links if found == self._links else found
            self._stale = False
        return self._links

    def close(self) -> None:
        """Close the sockets."""
        self._routes.close()
