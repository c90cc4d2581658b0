"""The quickstart lab, its shim replaced by one that reads the same objects from an API server on the node."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from lab.runtime.lab import Lab

from .on_api_server import OnAPIServer


@pytest.fixture(scope="module")
def quickstart() -> Iterator[Lab]:
    made = Lab.up("quickstart", name=f"t{os.getpid()}-kubernetes")
    try:
        yield made
    finally:
        made.down()


@pytest.fixture(scope="module")
def cluster(quickstart: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnAPIServer]:
    with OnAPIServer(quickstart, tmp_path_factory.mktemp("api")) as made:
        yield made
