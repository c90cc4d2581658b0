"""The matrix of pods and destinations: a table for people, JSON for programs.

Of pods and destinations the more numerous go down the page: lines are cheap, columns are not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TextIO

from rich.text import Text

from acns.policy.matrix import ALL, IMPOSSIBLE, NONE, YES, Column, Place, Row
from lab.report.tables import FORMAT_VERSION, console_for, table

_SHOWN_PODS = 6
_STYLES = {ALL: "green", YES: "green", NONE: "red", IMPOSSIBLE: "dim"}
_LEGEND = (
    f"'{ALL}', '{YES}': it gets there, '{NONE}': nothing does, "
    f"'dns': to the resolver, which judges the names, '{IMPOSSIBLE}': the Service has no such port"
)


def print_matrix(
    columns: Sequence[Column],
    rows: Sequence[Row],
    what: str,
    differences: Mapping[Place, str] | None,
    out: TextIO | None = None,
) -> None:
    """`differences`: where the kernel does otherwise, and what; None where no kernel was asked.

    Pods for which all is the same share a line.
    """
    console = console_for(out)
    console.print(Text(f"who may send what to whom: {what}", style="bold"), soft_wrap=True)
    groups = _groups(rows, differences or {})
    cells = [
        [
            _text(rows[group[0]].cells[at].text, (differences or {}).get((group[0], at)))
            for at in range(len(columns))
        ]
        for group in groups
    ]
    pods = [_listed([rows[index].pod for index in group]) for group in groups]
    titles = [column.title for column in columns]
    if len(titles) > len(pods):
        corner, across, down, cells = (
            "to \\ from",
            pods,
            titles,
            [list(each) for each in zip(*cells, strict=True)],
        )
    else:
        corner, across, down = "from \\ to", titles, pods
    found = table(console, corner, *across)
    for title, line in zip(down, cells, strict=True):
        found.add_row(title, *line)
    console.print(found)
    console.print(Text(_LEGEND, style="dim"), soft_wrap=True)
    if differences:
        text = f"in {len(differences)} cells the kernel does otherwise than the model says: please report it"
        console.print(Text(text, style="bold red"), soft_wrap=True)
    elif differences is not None:
        console.print(
            Text("the kernel does as the model says, in every cell", style="bold green"), soft_wrap=True
        )


def matrix_json(
    columns: Sequence[Column], rows: Sequence[Row], what: str, differences: Mapping[Place, str] | None
) -> str:
    """One JSON object with `version`; `kernel` in a cell where the kernel does otherwise."""
    return json.dumps(
        {
            "version": FORMAT_VERSION,
            "about": what,
            "agrees": None if differences is None else not differences,
            "columns": [column.title for column in columns],
            "rows": [
                {
                    "pod": row.pod,
                    "cells": [_value(row, (number, at), differences or {}) for at in range(len(columns))],
                }
                for number, row in enumerate(rows)
            ],
        },
        indent=2,
    )


def _listed(pods: Sequence[str]) -> str:
    more = len(pods) - _SHOWN_PODS
    return ", ".join(pods[:_SHOWN_PODS]) + (f" and {more} more" if more > 0 else "")


def _groups(rows: Sequence[Row], differences: Mapping[Place, str]) -> list[list[int]]:
    """Rows that read the same, together; one in which the kernel differs stays alone."""
    found: dict[object, list[int]] = {}
    different = {row for row, _ in differences}
    for number, row in enumerate(rows):
        texts = tuple(cell.text for cell in row.cells)
        found.setdefault(number if number in different else texts, []).append(number)
    return list(found.values())


def _text(model: str, kernel: str | None) -> Text:
    if kernel is None:
        return Text(model, style=_STYLES.get(model, "yellow"))
    return Text(f"{model} (kernel: {kernel})", style="bold red")


def _value(row: Row, place: Place, differences: Mapping[Place, str]) -> dict[str, Any]:
    cell = row.cells[place[1]]
    outcome = cell.explanation.outcome if cell.explanation else None
    value: dict[str, Any] = {"text": cell.text, "outcome": outcome}
    if place in differences:
        value["kernel"] = differences[place]
    return value
