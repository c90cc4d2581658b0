"""The `quickstart` that all share."""

from __future__ import annotations

import pytest

from lab.runtime.lab import Lab


@pytest.fixture(scope="session")
def lab(quickstart: Lab) -> Lab:
    """Who breaks it mends it."""
    return quickstart
