"""What a resolver makes of the shim's ledger when it is none that a shim would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acns.api import ledger_file
from acns.datapath.selectors import octets_of, selector_id
from acns.dns.pattern import match_name
from acns.errors import PeerError
from acns.statelog import StateLog

TERMS = {"min_ttl_s": 0, "margin_s": 60.0}
SELECTOR = {"kind": "selector", "text": "fqdn:name:a.io.", "origins": []}


def written(path: Path, *values: Any) -> Path:
    log = StateLog(path, ledger_file.FORMAT, ledger_file.VERSION)
    log.open()
    log.rewrite(values)
    log.close()
    return path


@pytest.mark.parametrize(
    "value",
    [
        {"terms": TERMS},
        {"terms": TERMS, "ids": []},
        {"terms": TERMS, "ids": {"fqdn_1": {"kind": "selector"}}},
        {"terms": TERMS, "ids": {"fqdn_1": None}},
        {"terms": {"min_ttl_s": 0}, "ids": {}},
        {"terms": {"min_ttl_s": "soon", "margin_s": 60}, "ids": {}},
        [],
        7,
    ],
)
def test_lines_that_are_whole_and_of_another_shape_are_the_peers_mistake(tmp_path: Path, value: Any) -> None:
    with pytest.raises(PeerError, match=r"not as a shim writes it|does not say how long"):
        ledger_file.read(written(tmp_path / "ledger.log", value))


def test_what_a_shim_writes_is_read(tmp_path: Path) -> None:
    found = ledger_file.read(written(tmp_path / "ledger.log", {"terms": TERMS, "ids": {"x": SELECTOR}}))
    assert found.terms == ledger_file.Terms(0, 60.0)
    assert found.damage is None


@pytest.mark.parametrize(
    ("kind", "is_read"), [("selector", True), ("set", True), ("rule", False)], ids=["now", "before", "else"]
)
def test_a_selector_is_one_by_its_kind_also_as_shims_of_before_wrote_it(
    tmp_path: Path, kind: str, is_read: bool
) -> None:
    selector = match_name("a.io")
    id_ = selector_id(selector)
    ids = {id_: {"kind": kind, "text": "fqdn:name:a.io.", "origins": []}}
    found = ledger_file.read(written(tmp_path / "ledger.log", {"terms": TERMS, "ids": ids}))
    assert found.octets == ({selector: octets_of(id_)} if is_read else {})
