"""Errors of the agents, split by who must act.

Every error a user can meet derives from `AcnsError` and carries a `hint`: what to do next. The exit code of
a command follows from the class: 1 a check failed, 2 usage or input, 3 environment, 4 our bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

SHOWN_CHARACTERS: Final = 255


class AcnsError(Exception):
    """Root of all errors; never raised itself."""

    exit_code = 4

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  hint: {self.hint}" if self.hint else self.message


def place_text(path: str, line: int, column: int) -> str:
    """`frontend.yaml:12:7`; what came from an API server has no lines (0), and its path says all."""
    return f"{path}:{line}:{column}" if line else path


def escaped(text: str) -> str:
    """One line that neither moves a terminal's cursor nor colours it: the rest as in YAML's double quotes."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def cut(text: str) -> str:
    """The beginning of what a peer says, for a line that people read: it may say as much as it likes."""
    shown = text[:SHOWN_CHARACTERS]
    return text if shown == text else f"{shown}… ({len(text)} characters)"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing wrong (or doubtful) in a file: where, what, and what to do. Line and column from 1; both are
    0 where there is no file, and `path` names the object and its field.

    As text it is one line, whatever stood in the file: what is not printable is escaped.

    `code` names the kind of a warning that the file's author may silence (`# acns:ignore CODE`).
    """

    path: str
    line: int
    column: int
    message: str
    hint: str = ""
    warning: bool = False
    code: str = ""

    def __str__(self) -> str:
        kind = "warning: " if self.warning else ""
        hint = f" ({self.hint})" if self.hint else ""
        code = f" [{self.code}]" if self.code else ""
        return escaped(f"{place_text(self.path, self.line, self.column)}: {kind}{self.message}{hint}{code}")


class InputError(AcnsError):
    """The operator's input is wrong: a file, a setting, an argument. Holds *all* the problems found."""

    exit_code = 2

    def __init__(self, problems: Iterable[Problem] | str, *, hint: str = "") -> None:
        self.problems = () if isinstance(problems, str) else tuple(sorted(problems))
        text = problems if isinstance(problems, str) else "\n".join(map(str, self.problems))
        super().__init__(text, hint=hint)


class EnvironmentFault(AcnsError):
    """The machine lacks something: privilege, kernel feature, tool."""

    exit_code = 3


class PeerError(AcnsError):
    """The other side (agent, DNS server, kernel socket) broke the contract or went away."""

    exit_code = 3


class Bug(AcnsError):
    """We are wrong. The message is for the issue tracker."""

    exit_code = 4
