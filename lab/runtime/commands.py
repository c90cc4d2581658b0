"""What the commands under `invoke lab.…` do, apart from reading the command line.

Progress and remarks go to stderr, results to stdout, so that `--json` can be piped. Errors become a
message with a hint and the exit code of their class; a traceback only with --debug or ACNS_DEBUG=1. A
reader that has seen enough (`| head -1`) is no error, and none to report.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from lab.errors import AcnsError, Bug, InputError
from lab.report import doctor as doctor_report
from lab.report import tables
from lab.runtime import terminal
from lab.runtime.lab import Lab, list_labs, sole_name, take_down
from lab.spec.load import find_topology, load_topology
from lab.spec.topology import Topology

FORMAT_VERSION = 1


def remark(text: str) -> None:
    """Say something on stderr; that nobody listens there is no reason to stop."""
    try:
        print(text, file=sys.stderr, flush=True)
    except BrokenPipeError:
        _send_nowhere(sys.stderr)


@contextlib.contextmanager
def explained_errors() -> Iterator[None]:
    """Ends the program with the error's exit code, its message and hint on stderr."""
    try:
        try:
            yield
        finally:
            # Now, not at the interpreter's end, where a failure can only be printed.
            sys.stdout.flush()
    except BrokenPipeError:
        _send_nowhere(sys.stdout)
        raise SystemExit(128 + signal.SIGPIPE) from None
    except AcnsError as error:
        if os.environ.get("ACNS_DEBUG", "0") not in ("", "0") or "--debug" in sys.argv:
            raise
        remark(f"error: {error}")
        raise SystemExit(error.exit_code) from None
    except Exception as error:  # noqa: BLE001 - an exit code of 1 would say that a check failed
        traceback.print_exc()
        remark(f"error: this is a bug of the lab's: {type(error).__name__}: {error}")
        raise SystemExit(Bug.exit_code) from None
    except KeyboardInterrupt:
        remark("interrupted")
        raise SystemExit(130) from None


def up(topology: str, name: str | None, *, as_json: bool, external: bool = False) -> int:
    """Bring a lab up, then show its status and its truth table; 1 where the table disagrees, or where the
    shims refuse a manifest. `external`: with the external programs that the topology names."""
    wanted = load_topology(find_topology(topology))
    if not external:
        _refuse_external(wanted)
    lab = Lab.up(wanted, name, remark)
    lab.wait_settled()
    rows, found = lab.check(), lab.status()
    if as_json:
        print(_joined(tables.status_json(found), tables.truth_json(lab.name, rows)))
    else:
        tables.print_status(found)
        tables.print_truth(rows)
        tables.print_tour(lab.topology, lab.name, program=_program())
    if found.errors:
        remark(f"errors in manifests: {found.errors} (in red above); what they say is not in force")
    return 0 if all(row.ok for row in rows) and not found.errors else 1


def plan(topology: str, name: str | None, *, as_json: bool) -> int:
    """What `up` would do; changes nothing."""
    wanted = load_topology(find_topology(topology))
    changes = Lab.plan(wanted, name)
    if as_json:
        print(json.dumps({"version": FORMAT_VERSION, "lab": name or wanted.name, "changes": changes}))
        return 0
    for change in changes:
        print(change)
    if not changes:
        remark(f"lab {name or wanted.name} is up already and as it should be: nothing would change")
    return 0


def _refuse_external(topology: Topology) -> None:
    """A topology may come from anywhere, and its programs would run as root."""
    listed = [
        f"on {node.name}, as {agent}: {shlex.join(program.command)}"
        for node in topology.nodes
        for agent, program in node.external.programs()
    ]
    if listed:
        raise InputError(
            "\n".join(["the topology runs external programs, as root:", *listed]),
            hint="if you trust them: invoke lab.up --external",
        )


def _program() -> str:
    """How invoke was started, if by its path: the reader has to start it the same way."""
    started = Path(sys.argv[0])
    by_path = started.name in ("invoke", "inv") and shutil.which(started.name) != str(started)
    return sys.argv[0] if by_path else "invoke"


def down(name: str | None) -> int:
    """Take a lab down, whatever state it is in."""
    name = sole_name() if name is None else name
    if name is None:
        remark("no lab is there: nothing to take down")
    elif take_down(name, remark):
        remark(f"lab {name} is down: nothing of it is left")
    else:
        remark(f"there is no lab {name}: nothing to take down")
    return 0


def status(name: str | None, *, as_json: bool) -> int:
    found = Lab.attach(name).status()
    if as_json:
        print(tables.status_json(found))
    else:
        tables.print_status(found)
    return 0


def check(name: str | None, *, as_json: bool) -> int:
    """The truth table; 1 where it disagrees."""
    lab = Lab.attach(name)
    rows = lab.check()
    if as_json:
        print(tables.truth_json(lab.name, rows))
    else:
        tables.print_truth(rows)
    return 0 if all(row.ok for row in rows) else 1


def execute(where: str, name: str | None, argv: Sequence[str]) -> int:
    """Run a command in a pod (or node, or `internet`); its own exit code."""
    if not argv:
        raise InputError("no command given", hint=f"invoke lab.exec {where} -- dig api.example.com")
    return terminal.execute(Lab.attach(name).inside(where), argv)


def shell(where: str, name: str | None) -> int:
    return terminal.shell(Lab.attach(name).inside(where), where)


def logs(process: str, name: str | None, *, follow: bool) -> int:
    """Print a process's log; with `follow`, go on until the lab ends or Ctrl-C."""
    from lab.runtime import logs as reading

    lab = Lab.attach(name)
    path = lab.existing_log(process)
    with contextlib.suppress(KeyboardInterrupt):
        reading.show(path, sys.stdout, follow_while=lambda: follow and lab.record.alive())
    return 0


def doctor(*, as_json: bool) -> int:
    """What this machine can do; 3 when something is missing without which no lab works."""
    from lab.kernel import features

    found = features.probe()
    if as_json:
        print(doctor_report.doctor_json(found))
    else:
        doctor_report.print_doctor(found)
    return 3 if any(feature.required and not feature.ok for feature in found) else 0


def list_all(*, as_json: bool) -> int:
    """One line per lab."""
    labs = list_labs()
    if as_json:
        print(json.dumps({"version": FORMAT_VERSION, "labs": [asdict(lab) for lab in labs]}))
        return 0
    for lab in labs:
        print(f"{lab.name}\t{lab.state}\t{lab.topology}")
    if not labs:
        remark("no lab is there")
    return 0


def _send_nowhere(stream: TextIO) -> None:
    """Let what is still buffered, and all to come, go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _joined(status_text: str, truth_text: str) -> str:
    """One object for `lab.up --json`."""
    return json.dumps(
        {"version": FORMAT_VERSION, "status": json.loads(status_text), "truth": json.loads(truth_text)}
    )
