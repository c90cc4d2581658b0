"""The script that kills a container on its node, on processes in cgroups as containerd names them."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.backends.kind import cluster
from lab.errors import InputError

MINE, OTHER = f"{os.getpid():064x}", f"{os.getpid() + (1 << 64):064x}"
HIERARCHIES = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/pids"))  # version 2, and 1


@contextlib.contextmanager
def contained(name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a cgroup of that name."""
    root = next((one for one in HIERARCHIES if (one / "cgroup.procs").exists()), None)
    if root is None:
        pytest.skip("no cgroup hierarchy is mounted")
    group = root / name
    group.mkdir()
    process = subprocess.Popen(["sleep", "1000"])
    try:
        (group / "cgroup.procs").write_text(str(process.pid))
        yield process
    finally:
        process.kill()
        process.wait()
        group.rmdir()


def killed(container: str) -> subprocess.CompletedProcess[str]:
    """As a node's shell does it."""
    script = cluster.kill_script(container)
    return subprocess.run(["sh"], input=script, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.parametrize("name", ["{}", "cri-containerd-{}.scope"], ids=["cgroupfs", "systemd"])
def test_it_ends_what_is_in_that_container_and_nothing_else(name: str) -> None:
    with contained(name.format(MINE)) as mine, contained(name.format(OTHER)) as other:
        done = killed(MINE)
        assert (done.returncode, done.stderr) == (0, "")
        assert mine.wait(10) == -9
        assert other.poll() is None


@pytest.mark.parametrize("name", ["", "0", "a" * 63, "a" * 65, "A" * 64, f"{'a' * 63}."])
def test_what_would_be_found_in_others_names_is_no_container(name: str) -> None:
    with pytest.raises(InputError, match="is no container's id"):
        cluster.kill_script(name)


def test_where_nothing_runs_it_says_so() -> None:
    done = killed(MINE)
    assert done.returncode == 1
    assert done.stderr == f"no process of {MINE}\n"
