"""Names from the wire and in print."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from acns.dns import name
from acns.dns.name import MalformedDNS

WWW = (b"www", b"example", b"com")


def test_a_name_is_read_in_lower_case_with_the_offset_behind_it() -> None:
    assert name.read(b"xx\x03WwW\x07example\x03COM\x00yy", 2) == (WWW, 19)


def test_the_offset_behind_a_compressed_name_is_behind_its_first_pointer() -> None:
    buf = b"\x07example\x03com\x00" + b"\x03www\xc0\x00" + b"\xc0\x0dzz"
    assert name.read(buf, 19) == (WWW, 21)


@pytest.mark.parametrize(
    "wire",
    [
        pytest.param(b"\xc0\x00", id="a pointer to itself"),
        pytest.param(b"\xc0\x02\x01a\x00", id="a pointer forwards"),
        pytest.param(b"\x01a\xc0\x00", id="a pointer into the name that it ends"),
        pytest.param(b"\x05ab", id="a label longer than the packet"),
        pytest.param(b"\x01a", id="no root"),
        pytest.param(b"\xc0", id="half a pointer"),
        pytest.param(b"\x40a\x00", id="an unknown label type"),
        pytest.param(b"", id="nothing"),
        pytest.param((b"\x3f" + b"a" * 63) * 4 + b"\0", id="257 octets"),
    ],
)  # fmt: skip
def test_a_lying_name_is_malformed(wire: bytes) -> None:
    with pytest.raises(MalformedDNS):
        name.read(wire, 0)


def test_two_pointers_that_lead_to_each_other_are_malformed() -> None:
    with pytest.raises(MalformedDNS):
        name.read(b"\xc0\x02\xc0\x00", 2)


def test_the_longest_name_is_read_and_one_octet_more_is_not() -> None:
    longest = (b"\x3f" + b"a" * 63) * 3 + b"\x3d" + b"a" * 61 + b"\0"
    assert len(longest) == 255
    assert name.read(longest, 0)[1] == 255
    with pytest.raises(MalformedDNS):
        name.read(b"\x01b" + longest, 0)
    with pytest.raises(MalformedDNS):
        name.read(longest + b"\x01b\xc0\x00", 255)


def test_a_chain_of_thousands_of_pointers_is_refused_not_followed() -> None:
    chain = b"\x00\x00" + b"".join((0xC000 | 2 * i).to_bytes(2, "big") for i in range(5_000))
    with pytest.raises(MalformedDNS):
        name.read(chain, len(chain) - 2)


def test_what_a_reader_remembers_is_what_it_would_read() -> None:
    buf = b"\x07example\x03com\x00" + b"\x03www\xc0\x00" + b"\x01a\xc0\x0d"
    reader = name.NameReader(buf)
    for offset in (19, 13, 19, 8, 0):
        assert reader.read(offset) == name.read(buf, offset)


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ((), "."),
        (WWW, "www.example.com."),
        ((b"a.b", b"io"), "a\\.b.io."),
        ((b"a\\b",), "a\\\\b."),
        ((b"\x00\xff sp",), "\\000\\255\\032sp."),
    ],
)
def test_odd_bytes_are_escaped_in_print_and_come_back(labels: name.Name, text: str) -> None:
    assert name.to_text(labels) == text
    assert name.from_text(text) == labels


def test_the_trailing_dot_and_case_do_not_matter_in_text() -> None:
    assert name.from_text("WWW.Example.com") == name.from_text("www.example.com.") == WWW


def test_an_escaped_dot_at_the_end_is_part_of_the_label() -> None:
    assert name.from_text("a\\.") == (b"a.",)
    assert name.from_text("a\\\\.") == (b"a\\",)


@pytest.mark.parametrize("text", ["", "..", ".a", "a..b", "a" * 64, "\\300.", "a\\", "a\\1", "bücher.example",
                                  ".".join(["a" * 63] * 4)])  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a domain name"):
        name.from_text(text)


OVERLAPPING = b"\3ab\xc0\0" + b"\xc0\0"
"""At 5 a pointer to the whole name at 0; at 3, inside that name's label, another."""


@pytest.mark.parametrize("read", [name.read, name.read_labels])
def test_what_a_pointer_leads_to_has_to_end_before_the_part_that_the_pointer_ends(
    read: Callable[[bytes, int], tuple[Sequence[bytes], int]],
) -> None:
    labels, end = read(OVERLAPPING, 5)
    assert (list(labels), end) == ([b"ab\xc0"], 7)
    with pytest.raises(MalformedDNS):
        read(OVERLAPPING, 3)


def test_what_a_reader_remembers_is_not_taken_where_it_would_overlap() -> None:
    reader = name.NameReader(OVERLAPPING)
    assert reader.read(5) == ((b"ab\xc0",), 7)
    with pytest.raises(MalformedDNS):
        reader.read(3)


def test_a_reader_that_does_not_fold_keeps_the_case() -> None:
    assert name.NameReader(b"\3WwW\0\1A\xc0\0", fold=False).read(5) == ((b"A", b"WwW"), 9)
