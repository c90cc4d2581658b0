"""Inline policies: what the shims call them, and where their lines stand in the topology's file."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from acns.errors import Problem
from acns.located import Document
from lab.spec.topology import Topology


def file_name(index: int) -> str:
    """Of the topology's policy number `index`, from 0, where it is inline."""
    return f"inline-{index + 1}.yaml"


def placed(problem: Problem, topology: Topology, document: Document) -> Problem:
    """What is wrong with an inline policy, at its place in the file that has it; of others, as it is.

    A text that is not written as it is (in quotes, folded) has the place of its `inline:`, and the line in
    words.
    """
    for index, policy in enumerate(topology.policies):
        if policy.inline is not None and problem.path == file_name(index):
            key = document.position(("policies", index, "inline"))
            path = key.path or document.path
            indent = _indent(policy.inline, Path(path), key.line)
            if indent is None:
                message = f"in line {problem.line} of it: {problem.message}"
                return replace(problem, path=path, line=key.line, column=key.column, message=message)
            line, column = key.line + problem.line, indent + problem.column
            return replace(problem, path=path, line=line, column=column)
    return problem


def _indent(text: str, path: Path, line: int) -> int | None:
    """How far the text is indented behind that line of the file; None where it does not stand there so."""
    wanted = text.splitlines()
    with contextlib.suppress(OSError, UnicodeDecodeError):
        there = path.read_text(encoding="utf-8").splitlines()[line : line + len(wanted)]
        if len(there) == len(wanted) and (first := next(filter(None, wanted), "")):
            indent = len(there[wanted.index(first)]) - len(first)
            if all(written[indent:] == one for written, one in zip(there, wanted, strict=True)):
                return indent
    return None
