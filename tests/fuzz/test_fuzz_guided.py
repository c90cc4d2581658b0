"""The search that atheris guides: it runs, it learns from what the readers do, and it tells what it finds."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        importlib.util.find_spec("atheris") is None, reason="atheris is not built for this Python or machine"
    ),
]
ROOT: Final = Path(__file__).parents[2]
WITH_A_BUG: Final = """
import sys
from tests.fuzz import __main__ as search, messages, readers

read, known = readers.take_everything, messages.corpus()

def wrong(packet):
    read(packet)
    if packet[2:4] == b"\\xff\\xff" and packet not in known:
        raise IndexError("planted")

readers.take_everything = wrong
sys.exit(search.main())
"""
_COVERED: Final = re.compile(r"cov: (\d+)")


Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Runs Python; what libFuzzer leaves behind, since it ends the process, is left with the test's files."""

    def started(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *command],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )

    return started


def test_a_guided_search_takes_ways_through_the_readers_that_it_has_not_taken_before(run: Run) -> None:
    done = run("-m", "tests.fuzz", "--inputs", "20000", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 7, guided by atheris" in done.stdout
    covered = [int(one) for one in _COVERED.findall(done.stderr)]
    assert covered[-1] > covered[0] > 100


def test_a_guided_search_does_not_count_the_memory_of_who_starts_it(run: Run) -> None:
    much = (
        "import subprocess, sys; held = b'x' * (700 << 20); "
        "sys.exit(subprocess.call([sys.executable, *sys.argv[1:]]))"
    )
    done = run("-c", much, "-m", "tests.fuzz", "--inputs", "20000", "--seed", "7")
    assert done.returncode == 0, done.stdout + done.stderr[-2_000:]


def test_a_guided_search_finds_what_does_harm_and_prints_it_small(run: Run) -> None:
    done = run("-c", WITH_A_BUG, "--inputs", "2000000", "--seconds", "200", "--seed", "7")
    assert done.returncode != 0
    found = re.search(r"^([0-9a-f]+)\nIndexError: planted$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr[-2_000:]
    assert len(bytes.fromhex(found[1])) < 8
