"""The kernel as the shim uses it: transactions, elements, interfaces, live connections.

What our table holds is remembered: reading it back takes longer than changing it. nftables counts commits,
anybody's, in its generation; every commit of ours is counted along. As long as both counts agree nobody else
has changed anything; when they do not, the table is read again.

The slow calls (libnftables, dumps) run on one thread of their own; the element batches, tens of microseconds,
run where they are called. `lock` is held by whoever changes the cache and the kernel together, so that the
two never disagree about what was written.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from acns.datapath import conntrack
from acns.datapath.elements import Elements, Found, NoSuchSet, Overtaken
from acns.datapath.highest import HighestWins
from acns.datapath.model import Inventory, Ruleset
from acns.datapath.nft import Nft
from acns.datapath.transaction import COMMIT
from acns.errors import EnvironmentFault
from acns.shim.wiring import Wiring

Result = TypeVar("Result")
Left = Mapping[str, Mapping[bytes, float]]
"""Selector id → address → seconds left."""

_TRIES = 50


class Kernel:
    """Everything is bound to the network namespace in which this is made."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.touched = asyncio.Event()
        """Somebody else has committed something; set at the next `inventory`, for whoever looks after it."""
        self.others = 0
        """How often it was seen that somebody else had."""
        self.looked_at = 0
        """The last of these of which the learned set was looked at: what the resolver has put there in our
        stead, or lets stay for longer, is known."""
        self.nft = Nft()
        self.wiring = Wiring()
        self.fence: Callable[[], object] = lambda: None
        """Raises EnvironmentFault where this process may write no more: another has taken its place."""
        self._elements = Elements()
        self._reader = Elements(refresh_by_re_adding=self._elements.refresh_by_re_adding)  # the thread's
        self._careful = HighestWins(self._elements)
        self._held: Inventory | None = None
        self._generation = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nft")

    def may_write(self) -> None:
        """The fence as it is when this is called, for what is written elsewhere. Raises EnvironmentFault."""
        self.fence()

    # --- our table: the caller holds the lock -----------------------------------------------------------

    def is_as_left(self) -> bool:
        """Whether nobody else has committed anything since the table was last read."""
        return self._held is not None and self._elements.generation() == self._generation

    def is_ours_alone(self) -> bool:
        """Whether the learned set holds what we have put there, and what it held when last looked at."""
        return self.others == self.looked_at and self.is_as_left()

    async def inventory(self) -> Inventory:
        """What the table holds; the same object as the last commit left unless it had to be read again."""
        if self._held is None or not self.is_as_left():
            # First the number: what somebody commits during the reading shows at the next look.
            generation = self._elements.generation()
            if generation != self._generation:
                self.touched.set()
                self.others += 1
            self._generation = generation
            self._held = await self._run(self.nft.inventory)
        return self._held

    async def commit(self, transaction: str, ruleset: Ruleset) -> Inventory:
        """One transaction, all or nothing, after which the table is what `ruleset` says: returned as read.

        It is made for the table as `inventory` has it. Where that is another one by now, because this process
        stood still while somebody else went on, nothing is committed; what others do elsewhere does not
        matter. Raises EnvironmentFault, also for that, or Bug with nft's own words.
        """
        self.fence()
        held, self._held = self._held, None
        for _ in range(_TRIES):
            with contextlib.suppress(Overtaken):
                await self._run(lambda: self.nft.apply(transaction, self._generation))
                self._generation += transaction.count(f"{COMMIT}\n") + 1
                self._held = Inventory.of(ruleset)
                return self._held
            if await self.inventory() != held:
                break
        raise EnvironmentFault(
            "somebody else has changed our table since it was read, or never rests",
            hint="the policy is planned anew, from the newest objects",
        )

    def put(self, wanted: Mapping[str, Mapping[bytes, float]]) -> None:
        """Add or refresh elements: selector id → address → timeout_s. As `Elements.put`; none empty.

        Where somebody else has committed since the set was last looked at, it may have been the resolver, in
        our stead: then what the kernel has of these is read first, and no expiry is lowered.
        """
        self.fence()
        if self.others == self.looked_at:
            with contextlib.suppress(Overtaken):
                self._generation += self._elements.put(wanted, generation=self._generation)
                return
        self._careful.put(wanted, time.monotonic())
        if self._careful.written_on == self._generation:
            self._generation += self._careful.commits

    def retime(self, ids: Collection[str], wanted: Callable[[str, bytes, float], float]) -> None:
        """Give each element of these selectors another time to stay, also a shorter one: `wanted` says which,
        for its selector's id, its address and the seconds that are left."""
        self.fence()
        for _ in range(_TRIES):
            generation = self._elements.generation()
            elements = {
                id_: {address: wanted(id_, address, left_s) for address, left_s in left.items()}
                for id_, left in self._elements.read_surely().items()
                if id_ in ids
            }
            if not elements:
                return
            with contextlib.suppress(Overtaken):
                commits = self._elements.put(elements, generation=generation)
                self._generation += commits if generation == self._generation else 0
                return
        raise EnvironmentFault(
            f"the times of learned addresses were not changed: others committed {_TRIES} times meanwhile",
            hint="some program changes nftables in a loop",
        )

    def delete(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        """Remove elements, as `Elements.delete`; no selector without any."""
        self.fence()
        self._generation += self._elements.delete(unwanted)

    async def delete_many(self, unwanted: Mapping[str, Iterable[bytes]]) -> None:
        """The same of any number, beside what else there is to do."""
        if not unwanted:
            return
        self.fence()
        self._generation += await self._run(lambda: self._reader.delete(unwanted))

    async def delete_past(self, unwanted: Mapping[str, Set[bytes]], margin_s: float) -> Left:
        """Remove elements whose TTL is over. Those that have more than `margin_s` left stay, and are
        returned: the resolver has renewed them in our stead. As long as the set was looked at since anybody
        else committed there are none."""
        self.fence()
        if self.is_ours_alone():
            with contextlib.suppress(Overtaken):
                self._generation += self._elements.delete(unwanted, generation=self._generation)
                return {}
        for _ in range(_TRIES):
            generation = self._elements.generation()
            seen = await self.find(unwanted)
            renewed = {
                id_: kept
                for id_, found in seen.items()
                if (kept := {one: there.left_s for one, there in found.items() if there.left_s > margin_s})
            }
            past = {id_: gone for id_, one in unwanted.items() if (gone := one - renewed.get(id_, {}).keys())}
            with contextlib.suppress(Overtaken):
                commits = self._elements.delete(past, generation=generation)
                self._generation += commits if generation == self._generation else 0
                return renewed
        raise EnvironmentFault(
            f"expired addresses not removed: others committed {_TRIES} times meanwhile",
            hint="some program changes nftables in a loop",
        )

    def elements(self) -> Left:
        """All that the learned set has; nothing where there is none."""
        try:
            return self._elements.read_surely()
        except NoSuchSet:
            return {}

    async def read_elements(self) -> Left:
        """About the same. Needs no lock: what is changed meanwhile may be seen or not."""
        with contextlib.suppress(NoSuchSet):
            return await self._run(self._reader.read)
        return {}

    async def find(self, wanted: Mapping[str, Iterable[bytes]]) -> Mapping[str, Mapping[bytes, Found]]:
        """Of these, selector id → address, those that are there."""
        return await self._run(lambda: self._reader.find(wanted))

    # --- the rest ---------------------------------------------------------------------------------------

    async def live_destinations(self, sources: Set[bytes] | None) -> set[bytes]:
        """The IPv4 addresses (4 raw bytes) that live connections of these sources go to; None: of all."""
        return await self._run(lambda: conntrack.live_destinations(sources))

    def close(self) -> None:
        """Close everything; the table, the rule and the route stay."""
        self._thread.shutdown()
        self.nft.close()
        self._elements.close()
        self._reader.close()
        self.wiring.close()

    async def _run(self, call: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
