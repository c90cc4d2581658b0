"""Records of a name beside its addresses, as a zone file has them: `10 mail.example.com.` for an MX, say.

One reading for all servers of a lab, so that they give the same octets; a record that cannot be read is said
to be wrong before anything runs. dnslib is imported where it is needed: a topology without such records does
without.
"""

from __future__ import annotations

from typing import Final, Literal, get_args

from acns.dns import types

OtherType = Literal["CAA", "HTTPS", "MX", "NAPTR", "NS", "PTR", "SRV", "TXT"]
OTHER_TYPES: Final[tuple[OtherType, ...]] = get_args(OtherType)
NUMBERS: Final[dict[str, int]] = {kind: types.NUMBERS[kind] for kind in OTHER_TYPES}


def packed(kind: str, text: str) -> bytes:
    """The record's data on the wire. Raises ValueError."""
    import dnslib

    try:
        (record,) = dnslib.RR.fromZone(f"x. 60 IN {kind} {text}")
        buffer = dnslib.DNSBuffer()
        record.rdata.pack(buffer)
        return bytes(buffer.data)
    except Exception as error:  # whatever dnslib's parser falls over
        raise ValueError(f"'{text}' is no {kind} record as a zone file has it") from error
