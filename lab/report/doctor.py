"""What this machine can do for a lab, printed: what is missing, what that costs, how to mend it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TextIO


class Feature(Protocol):
    """One probed thing, as lab.kernel.features reports it."""

    @property
    def name(self) -> str: ...
    @property
    def ok(self) -> bool: ...
    @property
    def required(self) -> bool: ...
    @property
    def detail(self) -> str: ...
    @property
    def cost(self) -> str: ...
    @property
    def mend(self) -> str: ...


def print_doctor(features: Sequence[Feature], out: TextIO | None = None) -> None:
    raise NotImplementedError


def doctor_json(features: Sequence[Feature]) -> str:
    raise NotImplementedError
