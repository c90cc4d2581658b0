"""A stand-in API server for each test, and retries that do not take seconds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from acns.shim.sources.kubernetes import pace
from tests.e2e.kubernetes.standin_apiserver import StandInAPIServer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInAPIServer]:
    monkeypatch.setattr(pace, "FIRST_S", 0.05)
    with StandInAPIServer() as made:
        yield made
