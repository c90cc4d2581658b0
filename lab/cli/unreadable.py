"""What ends a command whose line invoke cannot read: 2, as all bad usage; 125 where `git bisect run` asks.

invoke's parser ends with 1, which everywhere here says that a check failed, and to `git bisect` that a commit
is bad. An error that is an exit too carries its own code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final

from invoke.exceptions import Exit, ParseError
from invoke.parser import argument, parser

USAGE: Final = 2
COULD_NOT_RUN: Final = 125
_OF_BISECT: Final = "repro.run"
_WITH_VALUES: Final = frozenset(
    ("-c", "--collection", "-f", "--config", "-r", "--search-root", "-T", "--command-timeout")
)


class Unreadable(ParseError, Exit):
    """In the place of invoke's own, which says what is wrong."""

    def __init__(self, message: str, context: Any = None) -> None:
        super().__init__(message, context)
        self.message = None  # invoke prints it once as a ParseError, and would once more as an Exit
        self._code = code_of(sys.argv)
        self._text = message

    def __str__(self) -> str:
        return self._text


def code_of(line: Sequence[str]) -> int:
    """Its task is the first word that is no option, nor the value of one of invoke's own."""
    words = iter(line[1:])
    for word in words:
        if word in _WITH_VALUES:
            next(words, None)
        elif not word.startswith("-"):
            return COULD_NOT_RUN if word == _OF_BISECT else USAGE
    return USAGE


def install() -> None:
    """From now on in this process; once is enough."""
    if vars(parser)["ParseError"] is Unreadable:
        return
    vars(parser)["ParseError"] = Unreadable
    convert = argument.Argument.set_value

    def set_value(self: argument.Argument, value: Any, cast: bool = True) -> None:
        try:
            convert(self, value, cast)
        except ValueError:
            raise Unreadable(f"--{(self.name or '').rstrip('_')} is no number: '{value}'") from None

    argument.Argument.set_value = set_value  # type: ignore[method-assign]
