"""`docker`, `kind` and `kubectl`: found on PATH, started, and their failures told in one line.

Nothing of theirs is imported or vendored. What they say goes to whoever asked; where they fail for a reason
that people meet (no daemon, no image, no cluster) the reason is said in our words, with what to do.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.errors import EnvironmentFault, ProcessFailed

PROGRAMS: Final = {
    "docker": "install Docker Engine, and let this user reach its daemon",
    "kind": "install kind (kind.sigs.k8s.io)",
    "kubectl": "install kubectl, of a version near the cluster's",
}
PATIENCE_S: Final = 120.0
_ENVIRONMENT: Final = {"BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
"""Or each build would have an id of its own, as it says when it was made, and all that runs would be old."""
_SHOWN: Final = 400


@dataclass(frozen=True, slots=True)
class _Known:
    """A failure that people meet, by what is said then; `of`: the programs in whose mouth it means that."""

    signs: tuple[str, ...]
    message: str
    hint: str
    of: tuple[str, ...] = tuple(PROGRAMS)


_KNOWN: Final = (
    _Known(
        (
            "permission denied while trying to connect to the docker daemon socket",
            "permission denied while trying to connect to the docker api",  # since Docker 29
        ),
        "this user may not reach the Docker daemon",
        "as root (sudo), or as one of the group `docker`",
    ),
    _Known(
        (
            "cannot connect to the docker daemon",
            "failed to connect to the docker api",  # since Docker 29
            "failed to get docker info",
            "is the docker daemon running",
        ),
        "the Docker daemon does not run, or may not be reached",
        "start it (systemctl start docker), and see that `docker version` shows a server",
    ),
    _Known(
        ("no space left on device",),
        "the disk is full",
        "make room where Docker keeps images: docker system df",
    ),
    _Known(
        ("was refused - did you specify the right host", "failed to download openapi"),
        "the cluster's API server does not answer",
        "docker ps shows whether its node runs; invoke lab.down, and up again, where it does not",
        of=("kubectl",),  # a registry may refuse a connection, too
    ),
    _Known(
        ("is not running",),
        "a node of the cluster does not run",
        "docker ps --all, and docker start; or invoke lab.down, and up again",
        of=("kind",),  # before what it makes of that
    ),
    _Known(
        ("failed to detect containerd snapshotter", "unknown containerd config version"),
        "this kind is older than the node image, and cannot load images into it",
        "a newer kind, or an older --k8s-version: kind's release notes list the images of each",
        of=("kind",),
    ),
    _Known(
        ("ctr: content digest",),
        "kind cannot load an image of several platforms out of Docker's containerd image store",
        'a known issue of kind\'s; daemon.json: {"features": {"containerd-snapshotter": false}}',
        of=("kind",),
    ),
)


@dataclass(frozen=True, slots=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.code == 0


class Tools:
    """The three programs, for one cluster."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def docker(self, *arguments: str, text: str | None = None, timeout_s: float = PATIENCE_S) -> Done:
        return checked(["docker", *arguments], text=text, timeout_s=timeout_s)

    def kind(self, *arguments: str, timeout_s: float = PATIENCE_S) -> Done:
        return checked(["kind", *arguments], timeout_s=timeout_s)

    def kubectl(self, *arguments: str, text: str | None = None, timeout_s: float = PATIENCE_S) -> Done:
        return checked(self.kubectl_argv(*arguments), text=text, timeout_s=timeout_s)

    def kubectl_argv(self, *arguments: str) -> list[str]:
        return ["kubectl", "--kubeconfig", str(self.kubeconfig), *arguments]

    def get(self, what: str, *arguments: str) -> list[Mapping[str, Any]]:
        """The items of `kubectl get … -o json`."""
        return list(json.loads(self.kubectl("get", what, *arguments, "-o", "json").out)["items"])


def missing() -> list[str]:
    """The programs that are not on PATH."""
    return [program for program in PROGRAMS if not shutil.which(program)]


def run(argv: Sequence[str], *, text: str | None = None, timeout_s: float = PATIENCE_S) -> Done:
    """Run it to its end. Raises EnvironmentFault where it is not there or takes too long."""
    with _told(argv):
        done = subprocess.run(
            argv,
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            errors="replace",
            check=False,
            env={**os.environ, **_ENVIRONMENT},
        )
    return Done(done.returncode, done.stdout, done.stderr)


def run_for_bytes(argv: Sequence[str], *, timeout_s: float = PATIENCE_S) -> tuple[Done, bytes]:
    """The same for what is no text, or is counted in bytes: its output is beside how it ended."""
    with _told(argv):
        done = subprocess.run(argv, capture_output=True, timeout=timeout_s, check=False)
    return Done(done.returncode, "", done.stderr.decode(errors="replace")), done.stdout


@contextlib.contextmanager
def _told(argv: Sequence[str]) -> Iterator[None]:
    """That it is not there, or has no end, in our words."""
    try:
        yield
    except FileNotFoundError:
        raise EnvironmentFault(f"{argv[0]} is not on PATH", hint=PROGRAMS[argv[0]]) from None
    except subprocess.TimeoutExpired as error:
        raise EnvironmentFault(f"no end within {error.timeout:g} s: {shown(argv)}") from None


def checked(argv: Sequence[str], *, text: str | None = None, timeout_s: float = PATIENCE_S) -> Done:
    """The same; raises where its exit code is not 0."""
    done = run(argv, text=text, timeout_s=timeout_s)
    if not done.ok:
        raise failure(argv, done)
    return done


def failure(argv: Sequence[str], done: Done) -> EnvironmentFault | ProcessFailed:
    """What to say of it."""
    said = f"{done.err}\n{done.out}".lower()
    for known in _KNOWN:
        if Path(argv[0]).name in known.of and any(sign in said for sign in known.signs):
            return EnvironmentFault(known.message, hint=known.hint)
    lines = [line.strip() for line in done.err.splitlines() if line.strip()]
    first = next((number for number, line in enumerate(lines) if line.lower().startswith("error")), -1)
    reason = " ".join(lines[first:])[:_SHOWN] or "it says nothing"
    return ProcessFailed(f"{shown(argv)} ended with {done.code}: {reason}")


def shown(argv: Sequence[str]) -> str:
    """As much of a command line as tells which it is."""
    text = " ".join(argv)
    return text if len(text) <= 100 else f"{text[:97]}…"
