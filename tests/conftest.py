"""What all tests share: who may run, and the proof that nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from lab.runtime import state

ROOT = os.geteuid() == 0
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")
MARKER = "ACNS_TEST_SESSION"


def pytest_configure() -> None:
    """Tests that run in the background of a shell ignore SIGINT, and so would all that they start and
    interrupt."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that need root skip with a reason without it; in CI that is an error, not a skip."""
    if ROOT:
        return
    needing = [item for item in items if item.get_closest_marker("root")]
    if needing and os.environ.get("CI") == "true":
        raise pytest.UsageError(f"{len(needing)} tests need root, and CI must not skip them")
    for item in needing:
        item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and nftables"))


@pytest.fixture(scope="session", autouse=True)
def machine_left_as_found(request: pytest.FixtureRequest) -> Iterator[None]:
    """The session ends by proving that nothing of it is left: no link, rule, lab, namespace or process.

    Processes are known by a variable that every child of this session inherits, so that another lab on the
    machine may come and go meanwhile.
    """
    session = f"{os.getpid()}-{time.time_ns()}"
    os.environ[MARKER] = session
    before, labs_before = _machine(), _dead_labs()
    yield
    assert _processes_marked(session) == set()
    assert _dead_labs() <= labs_before
    if request.config.getoption("--lab-backend", default="netns") != "kind":
        assert _machine() == before  # a cluster stays, and Docker's network with it


def _machine() -> dict[str, str]:
    return {
        "links": _output("ip", "-o", "link", "show"),
        "rules": _output("ip", "rule", "show"),
        "routes": _output("ip", "route", "show", "table", "all"),
        "nftables": _output("nft", "list", "ruleset") if ROOT else "",
        "named namespaces": _output("ip", "netns", "list"),
    }


def _dead_labs() -> set[str]:
    """Folders of labs whose holder has ended; a living lab shows by its processes."""
    folders = state.all_folders() if ROOT else []  # others may not look into root's
    return {one.name for one in folders if (record := one.record()) and not record.alive()}


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20).stdout
    except FileNotFoundError:
        return ""


def _processes_marked(session: str) -> set[str]:
    """Living processes of this session, other than the session itself."""
    mark = f"{MARKER}={session}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(f"{entry.name} {(entry / 'comm').read_text().strip()}")
        except OSError:  # it ended, or is not ours to look at
            continue
    return found
