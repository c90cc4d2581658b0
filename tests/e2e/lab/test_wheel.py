"""The package as others get it: a wheel in a virtual environment, no checkout anywhere near."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.runtime import state
from lab.runtime.ending import take_down
from lab.spec.load import shipped_topologies

REPOSITORY = Path(__file__).parents[3]
SOURCES = ("acns", "lab", "topologies")
FILES = ("pyproject.toml", "README.md", "LICENSE")
SHIPPED = """
import pytest
pytestmark = pytest.mark.topology("quickstart")
def test_a_shipped_topology_is_there(pods):
    assert pods["frontend"].resolve("api.example.com").ok
"""


@dataclass(frozen=True, slots=True)
class Installed:
    """A virtual environment that has the wheel."""

    folder: Path

    def run(self, program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        argv = [str(self.folder / "bin" / program), *arguments]
        return subprocess.run(argv, cwd=cwd, env=_environment(), capture_output=True, text=True, timeout=150)


def _environment() -> dict[str, str]:
    """Without what makes a checkout's packages be found."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """What the wheel needs is lent by the environment of these tests; the project itself is not."""
    built, folder = tmp_path_factory.mktemp("built"), tmp_path_factory.mktemp("venv")
    ignored = shutil.ignore_patterns("__pycache__")
    for source in SOURCES:
        shutil.copytree(REPOSITORY / source, built / source, symlinks=True, ignore=ignored)
    for file in FILES:
        shutil.copy(REPOSITORY / file, built)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    _done([*pip, "wheel", "--no-build-isolation", "--no-deps", "--wheel-dir", str(built), str(built)])
    _done([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    (wheel,) = built.glob("*.whl")
    pip += ["--python", str(folder / "bin" / "python")]
    _done([*pip, "install", "--force-reinstall", "--no-deps", "--no-index", str(wheel)])
    (site,) = folder.glob("lib/python*/site-packages")
    # As a plain path: no .pth in it counts, so an editable installation is not seen.
    (site / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Installed(folder)


def _done(argv: list[str]) -> None:
    done = subprocess.run(argv, env=_environment(), cwd="/", capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_topologies_are_in_it(installed: Installed, tmp_path: Path) -> None:
    script = "import lab; print(lab.__path__[0])"
    (site,) = installed.folder.glob("lib/python*/site-packages")
    done = installed.run("python", "-c", script, cwd=tmp_path)
    assert done.stdout == f"{site}/lab\n", done.stderr
    names = [path.stem for path in shipped_topologies()]
    done = installed.run("acns-lab", "lab.validate", *names, cwd=tmp_path)
    assert (done.returncode, f"{len(names)} topologies" in done.stderr) == (0, True), done.stderr


def test_the_example_project_and_a_shipped_topology_need_nothing_else(
    installed: Installed, tmp_path: Path
) -> None:
    project = shutil.copytree(REPOSITORY / "examples" / "policy-tests", tmp_path / "project")
    (project / "tests" / "test_shipped.py").write_text(SHIPPED)
    done = installed.run("python", "-m", "pytest", "-p", "no:cacheprovider", cwd=project)
    assert "11 passed" in done.stdout, done.stdout + done.stderr


def test_the_commands_work_anywhere_and_name_themselves(installed: Installed, tmp_path: Path) -> None:
    name = f"t{os.getpid()}-wheel"
    try:
        done = installed.run("acns-lab", "lab.up", "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert "acns-lab lab.exec" in done.stdout
        done = installed.run(
            "acns-lab", "lab.exec", "frontend", "--name", name, "--", "hostname", cwd=tmp_path
        )
        assert done.stdout == "frontend\n", done.stderr
        done = installed.run("acns-lab", "lab.down", "--name", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert not state.folder_of(name).exists()
        done = installed.run("acns-lab", "lab.status", "--name", name, cwd=tmp_path)
        assert (done.returncode, f"acns-lab lab.up --name {name}" in done.stderr) == (2, True), done.stderr
    finally:
        take_down(name)
