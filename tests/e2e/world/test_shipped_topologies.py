"""Every shipped topology does what it says of itself: agents and all, its whole truth table."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.runtime.lab import Lab
from lab.spec.load import shipped_topologies

pytestmark = pytest.mark.root


@pytest.fixture(scope="module", params=shipped_topologies(), ids=lambda path: path.stem)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    path: Path = request.param
    made = Lab.up(path, f"{path.stem}-{os.getpid()}")
    try:
        yield made
    finally:
        made.down()


def test_the_truth_table_agrees_and_goes_on_agreeing(lab: Lab) -> None:
    """The second time everything is learned already, and what is closed must still be closed."""
    for _ in range(2):
        rows = lab.check()
        assert [row for row in rows if not row.ok] == []
        assert len(rows) == len(lab.topology.expect)


def test_a_refused_search_list_costs_glibc_queries_and_no_time(lab: Lab) -> None:
    """Under an FQDN policy `NAME.default.svc.cluster.local` is REFUSED; glibc goes on to NAME at once."""
    pod = next(
        statement.split()[0] for statement in lab.topology.expect if " resolves api.example.com" in statement
    )
    code = (
        "import socket, time; begun = time.monotonic();"
        "socket.getaddrinfo('api.example.com', 443); print(time.monotonic() - begun)"
    )
    done = lab.pod(pod).run([sys.executable, "-c", code], timeout_s=30)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2  # one time-out of a stub resolver is 5 s
