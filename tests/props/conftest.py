"""Property tests have no deadline per example: a busy machine is no counterexample."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("props", deadline=None)
settings.load_profile("props")
