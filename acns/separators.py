"""Where Kubernetes parts a text into documents, which is not quite where YAML does.

Its reader (apimachinery, `YAMLReader`) takes lines that end in a line feed. One that begins with `---` begins
a document, and may say no more than a comment: what else stands there is dropped by older releases, and an
error in newer ones. Of what is between two of these lines the first document is read, and no directives. So
where YAML has a document that Kubernetes would not read as one, the text is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import yaml

_SEPARATOR = "---"
_MORE = re.compile(
    r"""^---(?!                                # at the beginning of a line, without behind it
            [\ \t]*                            # blanks,
            (?:(?<=[\ \t])\#[^\r\n\x85\u2028\u2029]*)?  # a comment on this line by YAML's rules, too
            \r?$ )                             # and its end
        [\ \t]* """,
    re.MULTILINE | re.VERBOSE,
)


class Misplaced(NamedTuple):
    """What is wrong, where in the text (characters from its start), and what to do."""

    at: int
    message: str
    hint: str


def misplaced(text: str, events: Iterable[yaml.Event]) -> Iterator[Misplaced]:
    """What Kubernetes would drop of `text`. `events`: what YAML reads in it."""
    for found in _MORE.finditer(text):
        message = (
            f"only a comment may stand behind '{_SEPARATOR}': Kubernetes does not read the rest of the line"
        )
        yield Misplaced(found.end(), message, "put it on a line of its own")
    for event in events:
        # Only the first may begin without a separator, by YAML 1.1, too.
        if isinstance(event, yaml.DocumentStartEvent) and event.explicit and event.start_mark:
            at = event.start_mark.index
            if not _is_read(text, at):
                yield _unread(text, at)


def _is_read(text: str, at: int) -> bool:
    return text.startswith(_SEPARATOR, at) and text[at - 1 : at] in ("", "\n")


def _unread(text: str, at: int) -> Misplaced:
    if text.startswith("%", at):
        return Misplaced(at, "Kubernetes reads no directives", "leave the line out")
    message = f"Kubernetes does not read this document: before it is no line feed and '{_SEPARATOR}'"
    return Misplaced(at, message, f"begin it with a line '{_SEPARATOR}'")
