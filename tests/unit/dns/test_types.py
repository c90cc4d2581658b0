"""Names of record types: both ways the same, and as dnspython has them."""

from __future__ import annotations

import dns.rdatatype
import pytest

from acns.dns import types


def test_every_number_has_a_name_that_is_read_as_it_again() -> None:
    assert [types.number(types.text(number)) for number in range(1 << 16)] == list(range(1 << 16))


def test_names_are_those_of_others() -> None:
    assert {name: int(dns.rdatatype.from_text(name)) for name in types.NUMBERS} == types.NUMBERS


def test_case_does_not_matter() -> None:
    assert types.number("aaaa") == types.number("AAAA")


@pytest.mark.parametrize("name", ["", "B", "TYPE", "TYPE-1", "TYPE65536", "TYPE١", "TYPE1.0", "99"])
def test_what_is_no_type_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="is no type of records"):
        types.number(name)
