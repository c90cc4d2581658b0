"""What any agent's settings must hold, whatever else they say.

Each raises ValueError whose text begins with the setting's name, so that `acns.settings` finds its line.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any, Final

from acns.errors import InputError
from acns.telemetry import page_address, sockets

MOST: Final = 2**31 - 1
"""No number is larger: nft, timers and sizes take it."""


@contextlib.contextmanager
def of(name: str) -> Iterator[None]:
    """What is found wrong meanwhile is wrong with this setting."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    except InputError as error:
        raise ValueError(f"{name}: {error.message}") from error


def check_numbers(settings: Any) -> None:
    """No integer of this dataclass is larger than what works with it can take."""
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, int) and value > MOST:
            raise ValueError(f"{field.name} must be at most {MOST}")


def check_pages(settings: Any) -> None:
    """`http_socket` is a path that the kernel can hold, a `host:port`, or empty."""
    place = settings.http_socket
    with of("http_socket"):
        if page_address.is_path(place):
            sockets.check_link(place.removeprefix("unix:"))
        elif place:
            page_address.split_host_port(place)


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
