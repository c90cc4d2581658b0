"""What is sound of something that is not: so that one bad field does not hide what is wrong with the others.

What a model refuses is taken out, entry by entry and field by field, until it takes the rest. Entries of a
list move up then; `moved` tells for each list which entries are still there, so that what is found in the
rest is reported at its place in the original. Who reads a salvaged rule asks the original whether a field was
given.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import pydantic

from acns.located import Path

Model = TypeVar("Model", bound=pydantic.BaseModel)
Moved = Mapping[Path, tuple[int, ...]]
"""List, by its path in the salvaged value → the original indices of its entries."""


def salvaged(model: type[Model], value: Any) -> tuple[Model | None, Moved]:
    """The sound rest of `value`; None where there is none."""
    out: set[Path] = set()
    while True:
        moved: dict[Path, tuple[int, ...]] = {}
        rest = _without(value, (), (), out, moved)
        try:
            return model.model_validate(rest), moved
        except pydantic.ValidationError as error:
            bad = {original(_refused(each), moved) for each in error.errors(include_url=False)}
        if () in bad or bad <= out:
            return None, {}
        out |= bad


def original(at: Path, moved: Moved) -> Path:
    """Where in the original something is that is at `at` in the salvaged value."""
    if not moved:
        return at
    return tuple(
        moved[at[:n]][step] if isinstance(step, int) and at[:n] in moved else step
        for n, step in enumerate(at)
    )


def _refused(error: Mapping[str, Any]) -> Path:
    """What to take out: the field or the entry; where something is missing, what it is missing in."""
    loc = tuple(step for step in error["loc"] if step != "[key]")
    return loc[:-1] if error["type"] == "missing" else loc


def _without(
    value: Any, at: Path, now_at: Path, out: Iterable[Path], moved: dict[Path, tuple[int, ...]]
) -> Any:
    """`at`: in the original; `now_at`: in what is returned."""
    if isinstance(value, dict):
        return {
            key: _without(each, (*at, key), (*now_at, key), out, moved)
            for key, each in value.items()
            if (*at, key) not in out
        }
    if not isinstance(value, list):
        return value
    kept = tuple(index for index in range(len(value)) if (*at, index) not in out)
    if len(kept) < len(value):
        moved[now_at] = kept
    return [
        _without(value[index], (*at, index), (*now_at, new), out, moved) for new, index in enumerate(kept)
    ]
