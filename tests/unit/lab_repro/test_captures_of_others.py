"""Captures that nobody here made: each becomes a scenario that runs, or is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from acns.errors import InputError
from lab.repro.importing import anonymise, importer
from lab.repro.importing.given import Given
from lab.repro.running import pure
from lab.repro.scenario import load

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
FILES = sorted(path for path in CAPTURES.rglob("*.pcap*") if path.is_file())


REFUSED = {
    "dns6.pcap": "are IPv6",
    "truncated_dns.pcap": "no query.*frame 1: truncated",
    "truncated_dns_2.pcap": "no query",
    "dns-badcookie.pcap": "are for 127.0.0.1",
    "dns-uri.pcap": "are for 127.0.0.1",
    "dnssec.pcap": "are for 127.0.0.1",
}


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_it_becomes_a_scenario_or_is_refused_with_the_reason(path: Path) -> None:
    if said := REFUSED.get(path.name):
        with pytest.raises(InputError, match=said) as raised:
            importer.imported(path, Given())
        assert raised.value.hint
        return
    made = importer.imported(path, Given())
    assert load.loads(load.dumps(made), "again") == made
    assert all(one.agrees for one in pure.run(made))
    anonymise.anonymised(made)


def test_there_are_such_captures() -> None:
    assert len(FILES) > 15
