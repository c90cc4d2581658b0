"""The tables of docs/topology.md are those of the models and verbs that read topology files.

After a change of these: PYTHONPATH=. python -m tests.unit.lab_spec.test_topology_docs
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lab.spec import reference
from lab.spec.schema import json_schema

PAGE = Path(__file__).parents[3] / "docs" / "topology.md"
TABLES = {"statements": reference.statements, "fields": reference.fields}


def with_table(page: str, name: str) -> str:
    """The page, its table of that name made anew."""
    parts = re.split(rf"(<!-- {name}: [^\n]*-->\n).*?(<!-- end -->)", page, maxsplit=1, flags=re.S)
    before, begin, end, after = parts
    return f"{before}{begin}\n{TABLES[name]()}\n\n{end}{after}"


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_of_the_page_are_up_to_date(name: str) -> None:
    page = PAGE.read_text()
    assert with_table(page, name) == page, f"write it anew: {__doc__}"


def test_every_field_is_explained_by_itself_or_by_what_it_holds() -> None:
    schema = json_schema()
    for model in (schema, *schema["$defs"].values()):
        for field, value in model["properties"].items():
            assert "description" in value or "$ref" in value, (model["description"], field)


if __name__ == "__main__":
    text = PAGE.read_text()
    for each in TABLES:
        text = with_table(text, each)
    PAGE.write_text(text)
