"""The names of record types (IANA) that people write, both ways; all others are `TYPE99` (RFC 3597 §5)."""

from __future__ import annotations

from typing import Final

NUMBERS: Final = {
    "A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33, "NAPTR": 35,
    "DNAME": 39, "OPT": 41, "DS": 43, "RRSIG": 46, "DNSKEY": 48, "SVCB": 64, "HTTPS": 65, "ANY": 255,
    "CAA": 257,
}  # fmt: skip
_NAMES: Final = {number: name for name, number in NUMBERS.items()}
_ANY_TYPE: Final = "TYPE"
_MAX_NUMBER: Final = 0xFFFF


def text(number: int) -> str:
    """`A`, or `TYPE4711`."""
    return _NAMES.get(number, f"{_ANY_TYPE}{number}")


def number(name: str) -> int:
    """The inverse. Raises ValueError."""
    if (known := NUMBERS.get(name.upper())) is not None:
        return known
    digits = name.removeprefix(_ANY_TYPE)
    if digits == name or not (digits.isascii() and digits.isdecimal()) or int(digits) > _MAX_NUMBER:
        raise ValueError(f"'{name}' is no type of records (A, AAAA, CNAME, HTTPS, TYPE99, …)")
    return int(digits)
