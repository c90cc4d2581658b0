"""A lab without root: in a user namespace with one uid, from `lab.up` to nothing left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ...waiting import until
from . import traces

REPOSITORY = Path(__file__).parents[3]
NOBODY = 65534
PACKAGES = os.pathsep.join([str(REPOSITORY), *(path for path in sys.path if path.endswith("site-packages"))])
SYSTEM_PYTHON = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
MARK = "ACNS_TEST_USER"
TAPS = """
from lab.fixtures.pods import Pods
from lab.fixtures.taps import Taps
from lab.runtime.lab import Lab
import contextlib
with contextlib.ExitStack() as closing:
    lab = Lab.attach()
    cable = Taps(lab, closing)("frontend")
    print(Pods(lab)["frontend"].resolve("evil.example.org").rcode)
    cable.expect("udp", port=53, outgoing=False)
"""


class User:
    """Somebody without any privilege, with a folder of their own."""

    def __init__(self, folder: Path, python: str) -> None:
        self.folder = folder
        self.mark = f"{MARK}={os.getpid()}"
        self.python = python

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        given = [*as_nobody(), "env", "-i", self.mark, "PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        variables = (f"XDG_RUNTIME_DIR={self.folder}", f"PYTHONPATH={PACKAGES}", "PYTHONDONTWRITEBYTECODE=1")
        command = [*given, *variables, self.python, *argv]
        return subprocess.run(
            command, cwd=REPOSITORY, capture_output=True, text=True, timeout=150, stdin=subprocess.DEVNULL
        )

    def invoke(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.run("-m", "invoke", *words)


def as_nobody() -> Sequence[str]:
    return ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--inh-caps=-all")


def usable_python() -> str | None:
    """An interpreter that somebody without privileges can run, with this project's packages."""
    for python in (sys.executable, SYSTEM_PYTHON):
        argv = [*as_nobody(), "env", f"PYTHONPATH={PACKAGES}", python, "-c", "import lab, pydantic, invoke"]
        if subprocess.run(argv, capture_output=True, cwd="/", check=False).returncode == 0:
            return python
    return None


@pytest.fixture(scope="module")
def user() -> Iterator[User]:
    python = usable_python()
    if python is None:
        pytest.skip("an ordinary user can read neither this project nor its interpreter here")
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="acns-u") as folder:
        os.chown(folder, NOBODY, NOBODY)
        somebody = User(Path(folder), python)
        yield somebody
        somebody.invoke("lab.down", "--name", "quickstart")


@pytest.fixture(scope="module")
def up(user: User) -> User:
    """The user, with quickstart up."""
    done = user.invoke("lab.up", "--json")
    assert done.returncode == 0, done.stderr
    assert all(row["ok"] for row in json.loads(done.stdout)["truth"]["rows"])
    return user


def test_the_whole_truth_table_holds_with_the_real_agents(up: User) -> None:
    done = up.invoke("lab.check", "--json")
    rows = json.loads(done.stdout)["rows"]
    assert len(rows) > 50
    assert [row for row in rows if not row["ok"]] == []


def test_every_command_finds_the_way_into_the_lab(up: User) -> None:
    done = up.invoke("lab.exec", "frontend", "--", "curl", "-sS", "https://api.example.com/")
    assert "server: 198.51.100.10:443" in done.stdout, done.stderr
    assert "api.example.com" in up.invoke("lab.cache").stdout
    again = up.invoke("lab.up", "--plan")
    assert again.returncode == 0, again.stderr
    assert "nothing would change" in again.stderr


def test_packets_are_traced(up: User) -> None:
    done = up.invoke("policy.explain", "frontend", "api.example.com:443", "--json")
    assert done.returncode == 0, done.stdout + done.stderr


def test_fixtures_resolve_and_tap(up: User) -> None:
    done = up.run("-c", TAPS)
    assert done.stdout == "REFUSED\n", done.stderr


def test_all_of_it_belongs_to_that_user_and_runs_without_privileges(up: User) -> None:
    running = traces.processes_with(up.mark)
    assert len(running) > 5
    for process in running:
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"Uid:\t{NOBODY}\t{NOBODY}\t{NOBODY}\t{NOBODY}" in status
        assert os.readlink(f"/proc/{process.pid}/ns/user") != os.readlink("/proc/self/ns/user")


def test_doctor_says_what_is_lost(user: User) -> None:
    done = user.invoke("lab.doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = {one["name"]: one for one in json.loads(done.stdout)["features"]}
    assert found["root"]["detail"] == f"uid {NOBODY}, root in a user namespace of its own"
    assert "net.core.rmem_max" in found["root"]["cost"]
    assert found["privileges"]["ok"]


def test_a_process_with_threads_is_told_what_to_do_and_that_helps(user: User) -> None:
    code = (
        "import sys, threading, time\n"
        "threading.Thread(target=time.sleep, args=[60], daemon=True).start()\n"
        "from lab.runtime.lab import Lab\n"
        "lab = Lab.up('quickstart', 'threads')\n"
        "print(lab.folder.path)\n"
        "lab.down()\n"
    )
    done = user.run("-c", code)
    assert "this process has several threads already" in done.stderr
    assert "unshare --user --map-root-user" in done.stderr
    inside = ["unshare", "--user", "--map-root-user", user.python, "-c", code]
    done = user.run("-c", f"import os; os.execvp('unshare', {inside})")
    assert (done.returncode, done.stdout) == (0, f"{user.folder}/acns-lab/threads\n"), done.stderr


def test_a_folder_that_somebody_else_made_is_not_used(user: User) -> None:
    theirs = user.folder / "theirs"
    theirs.mkdir(mode=0o777)
    theirs.chmod(0o777)
    code = (
        f"import os; os.environ['ACNS_LAB_STATE'] = '{theirs}'\n"
        "from lab.runtime.lab import Lab; Lab.up('quickstart')"
    )
    done = user.run("-c", code)
    theirs.rmdir()
    assert "somebody else's" in done.stderr


def test_nothing_is_left_after_down(up: User) -> None:
    done = up.invoke("lab.down")
    assert done.returncode == 0, done.stderr
    assert list(up.folder.iterdir()) == []
    until(lambda: not traces.processes_with(up.mark), "all processes are gone", 10)
