"""The fixtures in a project of somebody else's: the example, run by a pytest of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from lab.runtime import state
from lab.runtime.ending import gc, take_down
from lab.runtime.lab import Lab, list_labs

from ...waiting import until

EXAMPLE = Path(__file__).parents[3] / "examples" / "policy-tests"
PATIENCE_S = 120
FAILS = """
import pytest
pytestmark = pytest.mark.topology("shop.yaml")
def test_that_fails(pods):
    assert pods["shop"].connect("www.example.com", 443).ok
"""
WAITS = """
import os, time, pytest
pytestmark = pytest.mark.topology("shop.yaml")
def test_that_waits(lab):
    open(os.environ["SIGN"], "w").write(lab.name)
    time.sleep(1000)
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The example as somebody's own: with one test the more where a test of ours writes it."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "project"))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    yield
    left = [summary.name for summary in list_labs()]
    for name in left:
        take_down(name)
    assert left == []


@contextmanager
def running(
    project: Path, *arguments: str, environment: Mapping[str, str] = os.environ
) -> Iterator[subprocess.Popen[str]]:
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    with subprocess.Popen(
        argv,
        cwd=project,
        env=environment,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run(project: Path, *arguments: str) -> tuple[int, str]:
    """Its exit code and output."""
    with running(project, *arguments) as process:
        output, _ = process.communicate(timeout=PATIENCE_S)
        return process.returncode, output


def add(project: Path, test: str) -> None:
    (project / "tests" / "test_more.py").write_text(test)


def test_the_example_passes(project: Path) -> None:
    code, output = run(project)
    assert code == 0, output
    assert "10 passed" in output


def test_workers_of_xdist_have_labs_of_their_own(project: Path) -> None:
    code, output = run(project, "-n", "2")
    assert code == 0, output
    assert "10 passed" in output


def test_a_failed_tests_report_names_its_lab(project: Path) -> None:
    add(project, FAILS)
    code, output = run(project, "tests/test_more.py", "--no-header")
    assert code == 1, output
    assert "topology shop, pods shop, admin, kube-dns" in output
    assert "rcode='REFUSED'" in output


def test_a_statement_of_a_topology_that_is_not_true_is_told_with_its_place_and_lab(project: Path) -> None:
    topology = project / "tests" / "shop.yaml"
    text = topology.read_text().replace("shop blocked pay.example.com:80", "shop connects pay.example.com:80")
    topology.write_text(text)
    line = 1 + text.splitlines().index("  - shop connects pay.example.com:80")
    code, output = run(project, "tests/shop.yaml", "--lab-captures=never")
    assert code == 1, output
    assert "1 failed, 4 passed" in output
    assert f"{topology}:{line}: shop connects pay.example.com:80\n" in output
    assert "expected: connects; actual: blocked (198.51.100.10: no answer)" in output
    assert "topology shop, pods shop, admin, kube-dns" in output


def test_a_pattern_that_does_not_start_at_the_root_folder_is_the_users_mistake(project: Path) -> None:
    text = (project / "pyproject.toml").read_text()
    (project / "pyproject.toml").write_text(text.replace("tests/shop.yaml", "/tests/shop.yaml"))
    code, output = run(project)
    assert code == pytest.ExitCode.USAGE_ERROR, output
    assert "patterns start at the root folder" in output


def test_a_mark_without_a_name_is_told_with_the_test_that_has_it(project: Path) -> None:
    add(project, FAILS.replace('topology("shop.yaml")', "topology()"))
    code, output = run(project, "tests/test_more.py")
    assert code == pytest.ExitCode.INTERRUPTED, output
    assert "tests/test_more.py::test_that_fails: the mark `topology` takes one name" in output


def test_the_topology_of_unmarked_tests_is_found_from_any_folder(project: Path) -> None:
    add(project, FAILS.replace('pytestmark = pytest.mark.topology("shop.yaml")', "").replace("80", "443"))
    with (project / "pyproject.toml").open("a") as file:
        file.write('lab_topology = "tests/shop.yaml"\n')
    code, output = run(project, "--rootdir", ".", "--co", "-q", "tests/test_more.py")
    assert code == 0, output
    argv = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_more.py", "--lab-captures=never"]
    done = subprocess.run(
        argv, cwd=project / "tests", text=True, capture_output=True, timeout=PATIENCE_S, check=False
    )
    assert "topology shop, pods shop, admin, kube-dns" in done.stdout, done.stdout


def test_one_statement_can_be_chosen_and_a_topology_that_is_wrong_is_told_when_it_is_collected(
    project: Path,
) -> None:
    code, output = run(project, "tests/shop.yaml", "-k", "refused")
    assert (code, "1 passed, 4 deselected" in output) == (0, True), output
    topology = project / "tests" / "shop.yaml"
    topology.write_text(topology.read_text().replace("node: node1", "node: node2", 1))
    code, output = run(project, "tests/shop.yaml")
    assert code == pytest.ExitCode.INTERRUPTED, output
    assert f"{topology}:6:18: there is no node 'node2' (did you mean 'node1'?)" in output


@pytest.mark.skipif(not find_spec("lab.report.bundle"), reason="there are no bundles")
def test_a_failed_tests_report_says_where_the_bundle_is(project: Path) -> None:
    add(project, FAILS)
    _, output = run(project, "tests/test_more.py")
    bundle = next(
        line.removeprefix("bundle: ") for line in output.splitlines() if line.startswith("bundle: ")
    )
    assert Path(bundle).stat().st_size > 1_000
    shutil.rmtree(project / ".lab-bundles")
    _, output = run(project, "tests/test_more.py", "--lab-captures=never")
    assert "bundle: " not in output
    assert not (project / ".lab-bundles").exists()


@pytest.mark.skipif(bool(find_spec("lab.report.bundle")), reason="there are bundles")
def test_without_bundles_there_is_no_option_for_them(project: Path) -> None:
    code, output = run(project, "--lab-captures=never")
    assert code == pytest.ExitCode.USAGE_ERROR
    assert "unrecognized arguments: --lab-captures" in output


def test_a_lab_is_kept_when_that_is_asked_for(project: Path) -> None:
    code, output = run(project, "--lab-keep", "-k", "https")
    assert code == 0, output
    (kept,) = list_labs()
    try:
        assert f"lab {kept.name} is kept: acns-lab lab.status --name {kept.name}" in output
        assert {one.state for one in Lab.attach(kept.name).processes()} == {"ready"}
    finally:
        take_down(kept.name)


def test_labs_that_workers_of_xdist_keep_are_named_too(project: Path) -> None:
    code, output = run(project, "--lab-keep", "-k", "https or names_are_refused", "-n", "2")
    kept = list_labs()
    try:
        assert code == 0, output
        assert len(kept) == 2
        for one in kept:
            assert f"lab {one.name} is kept: acns-lab lab.status --name {one.name}" in output
    finally:
        for one in kept:
            take_down(one.name)


def test_a_failed_test_waits_with_its_lab_up(project: Path) -> None:
    add(project, FAILS)
    with running(project, "tests/test_more.py", "--lab-pause") as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if " waits: acns-lab lab.shell" in line)
        name = line.split()[1]
        assert Lab.attach(name).pod("shop").run(["hostname"]).stdout == "shop\n"
        output, _ = process.communicate("\n", timeout=PATIENCE_S)
        assert process.returncode == 1, output


def test_a_run_that_is_killed_takes_its_lab_along(project: Path, tmp_path: Path) -> None:
    add(project, WAITS)
    sign = tmp_path / "sign"
    environment = {**os.environ, "SIGN": str(sign)}
    with running(project, "tests/test_more.py", environment=environment) as process:
        name = until(lambda: sign.exists() and sign.read_text(), "the lab is up", PATIENCE_S)
        record = state.folder_of(name).record()
        assert record is not None
        assert record.alive()
        process.send_signal(signal.SIGKILL)
    until(lambda: not record.alive(), "the lab is dead", 10)
    assert [(found.name, found.fate) for found in gc()] == [(name, "removed")]


def test_who_does_not_use_the_fixtures_is_not_disturbed(tmp_path: Path) -> None:
    """Neither by what is imported, nor by the names."""
    (tmp_path / "test_own.py").write_text(
        "import sys, pytest\n"
        "@pytest.fixture\n"
        "def lab(): return 'mine'\n"
        "def test_own(lab):\n"
        "    assert lab == 'mine'\n"
        "    heavy = {'scapy', 'pydantic', 'yaml', 'grpc', 'dnslib', 'lab.runtime', 'lab.fixtures', 'acns'}\n"
        "    assert 'lab.pytest_plugin' in sys.modules and not heavy & set(sys.modules)\n"
    )
    code, output = run(tmp_path, "-p", "no:hypothesispytest", "-vv", "test_own.py")
    assert code == 0, output
    assert "test_own.py::test_own PASSED" in output
