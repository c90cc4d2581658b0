"""The tables of docs/topology.md: fields from the models that read the files, statements from their verbs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.spec import expect
from lab.spec.schema import json_schema

_SECTIONS = (
    "Topology",
    "Node",
    "ExternalProgram",
    "Pod",
    "WebProgram",
    "DNSProgram",
    "CommandProgram",
    "ShellProgram",
    "PodDNS",
    "Service",
    "ServicePort",
    "Internet",
    "InternetName",
    "InternetServer",
    "Link",
    "Manifest",
    "Removal",
)


def statements() -> str:
    """The words of `expect:`."""
    rows = [(one.shape + _how(one), one.meaning) for one in expect.VERBS.values()]
    return _table(("statement", "is true when"), [*rows, (expect.POLICY_SHAPE, expect.POLICY_MEANING)])


def fields() -> str:
    """Every section of a topology file with its fields."""
    schema = json_schema()
    sections = {"Topology": schema, **schema["$defs"]}
    return "\n\n".join(_section(name, sections[name], sections) for name in _SECTIONS)


def _how(meaning: expect.Meaning) -> str:
    return "".join(f" [{modifier}]" for modifier in meaning.modifiers)


def _section(name: str, model: dict[str, Any], sections: dict[str, Any]) -> str:
    rows = [(field, _line(_text(value, sections))) for field, value in model["properties"].items()]
    return f"**{name}**: {_line(model['description'])}\n\n{_table(('field', ''), rows)}"


def _text(field: dict[str, Any], sections: dict[str, Any]) -> str:
    if "description" in field:
        return str(field["description"])
    return str(sections[field["$ref"].rpartition("/")[2]]["description"])


def _table(head: tuple[str, str], rows: list[tuple[str, str]]) -> str:
    return "\n".join(_rows([(f"{head[0]}", head[1]), ("---", "---"), *((f"`{a}`", b) for a, b in rows)]))


def _rows(rows: list[tuple[str, str]]) -> Iterator[str]:
    for first, second in rows:
        yield "| " + " | ".join(text.replace("|", r"\|") for text in (first, second)) + " |"


def _line(text: str) -> str:
    return " ".join(text.split())
