"""Anybody's text for a terminal or a page."""

from __future__ import annotations


def line(text: str) -> str:
    """Nothing in it moves the reader's cursor or colours his screen."""
    return text if text.isprintable() else "".join(one if one.isprintable() else "?" for one in text)
