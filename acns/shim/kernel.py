"""The kernel as the shim uses it: transactions, elements, interfaces, live connections.

The slow calls (libnftables, conntrack dumps) run on one thread of their own; the element batches, tens of
microseconds, run where they are called. `lock` is held by whoever changes the cache and the kernel together,
so that the two never disagree about what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from typing import TypeVar

from acns.datapath import conntrack
from acns.datapath.elements import Elements
from acns.datapath.model import Inventory
from acns.datapath.nft import Nft
from acns.datapath.routes import Routes

Result = TypeVar("Result")


class Kernel:
    """Everything is bound to the network namespace in which this is made."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.nft = Nft()
        self.elements = Elements()
        self.routes = Routes()
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nft")

    async def inventory(self) -> Inventory:
        return await self._run(self.nft.inventory)

    async def apply(self, transaction: str) -> None:
        """One nft transaction, all or nothing. Raises EnvironmentFault or Bug with nft's own words."""
        await self._run(lambda: self.nft.apply(transaction))

    async def live_destinations(self) -> set[bytes]:
        """The IPv4 addresses (4 raw bytes) that live connections go to."""
        return await self._run(conntrack.live_destinations)

    def interfaces(self, addresses: Iterable[IPv4Address]) -> Mapping[IPv4Address, str]:
        return self.routes.interfaces(addresses)

    def close(self) -> None:
        self._thread.shutdown()
        self.nft.close()
        self.elements.close()
        self.routes.close()

    async def _run(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
