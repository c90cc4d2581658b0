"""The world of the bypass tests, looked at from the other side: what may be known is known."""

from __future__ import annotations

from ..bypass.conftest import shared_world, world

__all__ = ["shared_world", "world"]
