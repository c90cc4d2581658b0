"""The objects of a resource in order, edition after edition, at the cost of what has changed between two."""

from __future__ import annotations

import bisect

from acns.policy.changes import Edition
from acns.policy.objects import Object, Ref
from acns.shim.sources.kubernetes.wire import Key


class Arranged:
    """Values by key. A key without a value is not there."""

    def __init__(self) -> None:
        self._keys: list[Key] = []
        self._values: list[Object] = []
        self._edition: Edition[Object] = Edition.first(())
        self._step: dict[Ref, tuple[Object | None, Object | None]] = {}
        """What is not as in that edition."""

    def put(self, key: Key, before: Object | None, after: Object | None) -> None:
        """`after` is there now, where `before` was."""
        if after is before:
            return
        at = bisect.bisect_left(self._keys, key)
        if before is None:
            self._keys.insert(at, key)
        if after is None:
            del self._keys[at]
        self._values[at : at + (before is not None)] = [] if after is None else [after]
        ref = (after or before).ref  # type: ignore[union-attr]
        self._step[ref] = (self._step[ref][0] if ref in self._step else before, after)

    def edition(self) -> Edition[Object]:
        """All of them; the same object until something changes."""
        if self._step:
            # Of a list that is mostly new there is nothing to be gained by saying so.
            mostly = 2 * len(self._step) > len(self._values)
            old, step = self._edition, self._step
            self._edition = Edition.first(self._values) if mostly else old.next(self._values, step)
            self._step = {}
        return self._edition
