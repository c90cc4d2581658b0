"""Texts that go between nft's quotes, and ids."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from acns.datapath import names


@given(st.text(max_size=300), st.integers(3, 128))
def test_quotable_text_is_short_printable_and_has_no_quote(text: str, limit_bytes: int) -> None:
    made = names.quotable(text, limit_bytes)
    assert len(made.encode()) <= limit_bytes
    assert re.fullmatch(r"[ !#-\[\]-~]*", made)


def test_ordinary_text_stays_and_a_cut_shows() -> None:
    assert names.quotable("*.example.com.", 100) == "*.example.com."
    assert names.quotable("x" * 101, 100) == "x" * 97 + "..."


@given(st.text(max_size=300))
def test_a_comment_begins_with_its_id_and_fits(note: str) -> None:
    made = names.comment("r_0123456789", note)
    assert made.partition(" ")[0] == "r_0123456789"
    assert len(made.encode()) < 128


@given(st.lists(st.text(max_size=5), max_size=4), st.lists(st.text(max_size=5), max_size=4))
def test_different_parts_have_different_digests(one: list[str], two: list[str]) -> None:
    clean = [[part.replace("\0", "") for part in parts] for parts in (one, two)]
    assert (names.digest(*clean[0]) == names.digest(*clean[1])) == (clean[0] == clean[1]) or not all(clean)
