"""What any agent's settings must hold, whatever else they say.

Each raises ValueError whose text begins with the setting's name, so that `acns.settings` finds its line.
"""

from __future__ import annotations

import dataclasses
from typing import Any


def check_texts(settings: Any) -> None:
    """No text of this dataclass has a NUL: no path, name or address may."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{field.name} must not have a NUL character")


def check_given(settings: Any, *names: str) -> None:
    """These must not be empty."""
    for name in names:
        if not getattr(settings, name):
            raise ValueError(f"{name} must not be empty")
