"""A part of the benchmark, run in namespaces of its own, so that nothing of it can be left.

Each part is a Python process that is PID 1 of its own PID namespace, in its own network and mount
namespaces: when it ends, in whatever way, the kernel ends all that it started and takes down every link and
rule. It is killed when whoever ran it dies. And each starts fresh: its memory, its caches and its kernel
tables owe nothing to the part before.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from lab.backends.environment import base_environment
from lab.errors import EnvironmentFault, ProcessFailed

_ISOLATED = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--"),
)


def run(module: str, request: dict[str, Any]) -> dict[str, Any]:
    """`python -m MODULE` with `request` as JSON on its stdin; what it answers as JSON on its stdout.

    Its stderr is ours. Raises EnvironmentFault where namespaces cannot be made, else ProcessFailed.
    """
    argv = [*_ISOLATED, sys.executable, "-m", module]
    try:
        done = subprocess.run(
            argv,
            input=json.dumps(request),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
            env=base_environment(),
        )
    except FileNotFoundError as error:
        raise EnvironmentFault(f"{error.filename} is missing", hint="apt-get install util-linux") from error
    if done.returncode == 0:
        return dict(json.loads(done.stdout))
    if not _can_isolate():
        raise EnvironmentFault("cannot make namespaces", hint="run as root (in a container: --privileged)")
    raise ProcessFailed(f"{module} ended with code {done.returncode}", hint="its own words stand above")


def _can_isolate() -> bool:
    return subprocess.run([*_ISOLATED, "true"], stderr=subprocess.DEVNULL, check=False).returncode == 0
