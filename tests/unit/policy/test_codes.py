"""The table of codes: every warning has one, and every code has a warning."""

from __future__ import annotations

import re
from pathlib import Path

import acns.policy
from acns.policy.codes import Code

SOURCES = [
    path.read_text() for path in Path(acns.policy.__file__).parent.glob("*.py") if path.name != "codes.py"
]
WRONG = Path(__file__).parent / "wrong"


def test_codes_are_kebab_case_and_say_what_they_are_about() -> None:
    for code in Code:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", code)
        assert 20 < len(code.explanation) < 100, code
        assert not code.explanation.endswith(".")


def test_explanations_tell_codes_apart() -> None:
    assert len({code.explanation for code in Code}) == len(Code)


def test_no_source_spells_a_code_out() -> None:
    for source in SOURCES:
        assert not re.findall(r'code="[a-z]', source)


def test_every_warning_in_the_wrong_files_has_a_code_of_the_table() -> None:
    lines = [line for path in WRONG.glob("*.expected") for line in path.read_text().splitlines()]
    found = [line for line in lines if ": warning: " in line]
    assert len(found) > 20
    for line in found:
        match = re.search(r" \[([a-z0-9-]+)\]$", line)
        assert match, line
        assert match[1] in set(Code)
