"""Tasks of invoke that take any number of words."""

from __future__ import annotations

import sys
from typing import Any

from invoke.parser.argument import Argument
from invoke.tasks import Task


class ManyWords(Task[Any]):
    """A task that takes any number of words, as `words`: to invoke each task has a fixed number of them."""

    least = 1

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """As many words as are on the command line; so many at least, unless help is asked for."""
        arguments = super().get_arguments(ignore_unknown_help)
        flags = [one for one in arguments if one.name != "words"]
        count = max(self.least * ("--help" not in sys.argv), len(self._typed(flags)))
        return [*(Argument(f"word{number or ''}", positional=True) for number in range(count)), *flags]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        words = [kwargs.pop(key) for key in list(kwargs) if key.startswith("word")]
        super().__call__(*args, words=words, **kwargs)

    def _typed(self, flags: list[Argument]) -> list[str]:
        """What stands behind the task's name, without flags and their values."""
        named = [place for place, word in enumerate(sys.argv) if word.rpartition(".")[2] == self.name]
        names = [name for one in flags if one.takes_value for name in one.names]
        takes_value = {f"-{name}" if len(name) == 1 else f"--{name}" for name in names}
        words, skipped = [], False
        for word in sys.argv[named[0] + 1 :] if named else []:
            if not (skipped or word.startswith("-")):
                words.append(word)
            skipped = word in takes_value
        return words


class PerhapsWords(ManyWords):
    """One that does without any, too."""

    least = 0
