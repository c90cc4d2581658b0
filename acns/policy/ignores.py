"""`# acns:ignore CODE[, CODE] [free text]`: comments that silence warnings.

At the end of a line it is about that line, on lines of its own about the next line with content, and before
the first content of a document about the whole document. YAML knows no comments, so the text is searched.

An API server keeps no comments: there the annotation `acns-lab/ignore: CODE[, CODE] [free text]` says it,
about the whole object; in files, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from acns.errors import Problem
from acns.located import Document, Path, did_you_mean
from acns.policy.codes import Code

WHOLE_DOCUMENT = 0
Ignored = Mapping[int, frozenset[str]]
"""The codes silenced, by line; `WHOLE_DOCUMENT`: everywhere."""

ANNOTATION = "acns-lab/ignore"
MARK = "acns:ignore"
_CODES = frozenset(map(str, Code))
_WHERE_CODES_STAND = "the code stands in [] after a warning"
_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")  # as YAML has them
_SEPARATOR = re.compile(r"(---|\.\.\.)(\s|$)")
_LIST = r"[\w-]+(?:\s*,\s*[\w-]+)*"
_COMMENT = re.compile(rf"(?:^|\s)#\s*{MARK}\b\s*(?P<codes>{_LIST})?")


def silences(ignored: Ignored, problem: Problem) -> bool:
    """Whether a comment says that this warning is meant."""
    return problem.warning and any(
        problem.code in ignored.get(line, ()) for line in (WHOLE_DOCUMENT, problem.line)
    )


def annotated(document: Document, where: Path, value: Mapping[str, Any]) -> tuple[Ignored, list[Problem]]:
    """What an object's annotation silences, and what is wrong with it."""
    metadata = value.get("metadata")
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else None
    text = annotations.get(ANNOTATION) if isinstance(annotations, dict) else None
    if not isinstance(text, str):
        return {}, []
    listed = re.match(rf"\s*({_LIST})", text)
    codes = re.findall(r"[\w-]+", listed[1]) if listed else []
    doubts = [(_unknown(code), did_you_mean(code, _CODES)) for code in codes if code not in _CODES]
    if not codes:
        doubts = [(f"{ANNOTATION} names no code", _WHERE_CODES_STAND)]
    at = (*where, "metadata", "annotations", ANNOTATION)
    problems = [
        document.problem(at, message, hint=hint, warning=True, code=Code.UNKNOWN_CODE)
        for message, hint in doubts
    ]
    return {WHOLE_DOCUMENT: frozenset(codes) & _CODES}, problems


def _unknown(code: str) -> str:
    return f"no warning has the code '{code}'"


def together(one: Ignored, other: Ignored) -> Ignored:
    """What either silences."""
    return {line: one.get(line, frozenset()) | other.get(line, frozenset()) for line in {*one, *other}}


@dataclass(frozen=True, slots=True)
class Comments:
    """The comments of a text: what each of its documents silences, and what is wrong with them."""

    documents: tuple[tuple[int, Ignored], ...]
    """With the line before which each begins."""
    problems: tuple[Problem, ...]

    def at(self, line: int) -> Ignored:
        """What the document around `line` silences."""
        found: Ignored = {}
        for first, ignored in self.documents:
            if first <= line:
                found = ignored
        return found

    def silence(self, problem: Problem) -> bool:
        """Whether they say that this warning is meant."""
        return silences(self.at(problem.line), problem)


def read(text: str, path: str) -> Comments:
    """Of a text without such comments, which is nearly every one, nothing."""
    if MARK not in text:
        return Comments((), ())
    scan = _Scan(path)
    for number, line in enumerate(_LINE_BREAK.split(text), 1):
        scan.line(number, line)
    return Comments(
        tuple(
            (first, {line: frozenset(codes) for line, codes in found.items()})
            for first, found in scan.documents
        ),
        tuple(scan.problems),
    )


@dataclass(slots=True)
class _Scan:
    path: str
    documents: list[tuple[int, dict[int, set[str]]]] = field(default_factory=lambda: [(1, {})])
    problems: list[Problem] = field(default_factory=list)
    in_head: bool = True
    waiting: set[str] = field(default_factory=set)

    def line(self, number: int, line: str) -> None:
        if _SEPARATOR.match(line):
            if not self.in_head:  # else the comments so far stand before the `---` of their own document
                self.documents.append((number, {}))
            self.in_head, self.waiting = True, set()
            line = "   " + line[3:]
        codes = set(self._codes(number, line))
        has_content = not re.match(r"\s*(#|$)", line)
        if has_content:
            self._silence(number, codes | self.waiting)
            self.in_head, self.waiting = False, set()
        elif self.in_head:
            self._silence(WHOLE_DOCUMENT, codes)
        else:
            self.waiting |= codes

    def _silence(self, line: int, codes: set[str]) -> None:
        if codes:
            self.documents[-1][1].setdefault(line, set()).update(codes)

    def _codes(self, number: int, line: str) -> Iterator[str]:
        for comment in _COMMENT.finditer(line):
            if comment["codes"] is None:
                self._doubt(number, comment.start(), f"{MARK} names no code", _WHERE_CODES_STAND)
                continue
            for word in re.finditer(r"[\w-]+", comment["codes"]):
                code = word.group()
                if code in _CODES:
                    yield code
                else:
                    at = comment.start("codes") + word.start()
                    self._doubt(number, at, _unknown(code), did_you_mean(code, _CODES))

    def _doubt(self, number: int, column: int, message: str, hint: str) -> None:
        problem = Problem(self.path, number, column + 1, message, hint, warning=True, code=Code.UNKNOWN_CODE)
        self.problems.append(problem)
