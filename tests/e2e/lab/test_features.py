"""What `lab.doctor` finds out: everything here works, what is missing is told with its cost."""

from __future__ import annotations

import pytest

from acns.errors import EnvironmentFault
from lab.kernel import features, netns


def test_this_machine_has_all_that_a_lab_requires() -> None:
    missing = [feature for feature in features.probe() if feature.required and not feature.ok]
    assert missing == []


def test_what_is_missing_has_a_cost_and_a_way_to_mend_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise EnvironmentFault("the kernel says no")

    monkeypatch.setattr("lab.kernel.nft.load", refuse)
    monkeypatch.setattr("shutil.which", lambda tool: None)
    missing = {feature.name: feature for feature in features.probe() if not feature.ok}
    assert {"nft tproxy", "dnsmasq", "nft refresh by re-adding"} <= missing.keys()
    assert all(feature.detail and feature.cost and feature.mend for feature in missing.values())


def test_without_namespaces_the_rest_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise EnvironmentFault("cannot make namespaces")

    monkeypatch.setattr(netns, "make", refuse)
    found = features.probe()
    assert (found[-1].name, found[-1].ok) == ("namespaces", False)
