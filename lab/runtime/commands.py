"""What the commands under `invoke lab.…` do, apart from reading the command line."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from lab.backends.kind import commands as on_kind
from lab.errors import InputError
from lab.report import next_steps, tables
from lab.runtime import terminal, truth
from lab.runtime.explaining import FORMAT_VERSION, explained_errors, program, remark
from lab.runtime.lab import Lab, LabSummary, list_labs
from lab.spec.load import find_topology, load_topology
from lab.spec.topology import Topology

__all__ = ["FORMAT_VERSION", "explained_errors", "remark"]
"""What all commands share, to be had here too."""


def up(topology: str, name: str | None, *, as_json: bool, external: bool = False) -> int:
    """Bring a lab up, then show its status and its truth table; 1 where the table disagrees, or where the
    shims refuse a manifest. `external`: with the external programs that the topology names."""
    wanted = load_topology(find_topology(topology))
    if not external:
        refuse_external(wanted)
    lab = Lab.up(wanted, name, remark)
    lab.wait_settled()
    rows, found = lab.check(), lab.status()
    if as_json:
        print(_joined(tables.status_json(found), tables.truth_json(lab.name, rows)))
    else:
        tables.print_status(found)
        next_steps.print_checked(lab.topology, rows, lab.name, program=program())
        next_steps.print_tour(lab.topology, lab.name, program=program())
    if unexpected := truth.unexpected_errors(lab.topology, found):
        remark(f"errors in manifests: {unexpected} (in red above); what they say is not in force")
    return 0 if all(row.ok for row in rows) and not unexpected else 1


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


def refuse_external(topology: Topology) -> None:
    """A topology may come from anywhere, and its programs would run as root."""
    listed = [f"{where}: {shlex.join(command)}" for where, command in topology.external_commands()]
    if listed:
        raise InputError(
            "\n".join(["the topology runs external programs, as root:", *listed]),
            hint="if you trust them: invoke lab.up --external",
        )


def status(name: str | None, *, as_json: bool) -> int:
    if kind := on_kind.lab(name):
        return kind.status(as_json=as_json)
    found = Lab.attach(name).status()
    if as_json:
        print(tables.status_json(found))
    else:
        tables.print_status(found)
    return 0


def check(name: str | None, *, as_json: bool) -> int:
    """The truth table; 1 where it disagrees."""
    if kind := on_kind.lab(name):
        return kind.check(as_json=as_json)
    lab = Lab.attach(name)
    rows = lab.check()
    if as_json:
        print(tables.truth_json(lab.name, rows))
    else:
        next_steps.print_checked(lab.topology, rows, lab.name, program=program())
    return 0 if all(row.ok for row in rows) else 1


def execute(where: str, name: str | None, argv: Sequence[str], *, as_json: bool = False) -> int:
    """Run a command in a pod (or node, or `internet`); its own exit code."""
    if not argv:
        raise InputError("no command given", hint=f"invoke lab.exec {where} -- dig api.example.com")
    if kind := on_kind.lab(name):
        return kind.execute(where, argv, as_json=as_json)
    return terminal.execute(Lab.attach(name).inside(where).popen, argv, as_json=as_json)


def shell(where: str, name: str | None) -> int:
    if kind := on_kind.lab(name):
        return kind.shell(where)
    return terminal.shell(Lab.attach(name).inside(where), where)


def logs(process: str, name: str | None, *, follow: bool, as_json: bool = False) -> int:
    """Print a process's log, each line as JSON if asked; with `follow`, until the lab ends or Ctrl-C."""
    from lab.runtime import logs as reading

    if kind := on_kind.lab(name):
        return kind.logs(process, follow=follow, as_json=as_json)
    lab = Lab.attach(name)
    path = lab.existing_log(process)
    with contextlib.suppress(KeyboardInterrupt):
        out = reading.AsJSON(sys.stdout, FORMAT_VERSION, process) if as_json else sys.stdout
        reading.show(path, out, follow_while=lambda: follow and lab.record.alive())
    return 0


def bundle(name: str | None, output: str | None, *, as_json: bool) -> int:
    """Write everything there is to know of a lab."""
    from lab.report import bundle as report

    if kind := on_kind.lab(name):
        return kind.bundle(output, as_json=as_json)
    lab = Lab.attach(name)
    path = Path(output or f"{lab.name}-bundle.zip").absolute()
    report.write(lab, path, remark if sys.stderr.isatty() else lambda _: None)
    if as_json:
        print(json.dumps({"version": FORMAT_VERSION, "lab": lab.name, "path": str(path)}))
    else:
        remark(f"{path}: {path.stat().st_size >> 10} KiB; its README.md says what is where")
    return 0


def doctor(*, as_json: bool) -> int:
    """What this machine can do; 3 when something is missing without which no lab works."""
    from lab.kernel import features
    from lab.report import doctor as doctor_report

    found = features.probe()
    if as_json:
        print(doctor_report.doctor_json(found))
    else:
        doctor_report.print_doctor(found)
    return 3 if any(feature.required and not feature.ok for feature in found) else 0


def list_all(*, as_json: bool) -> int:
    """One line per lab."""
    clusters = (LabSummary(name, "on kind", topology, 0.0) for name, topology in on_kind.listed())
    labs = [*clusters, *list_labs()]
    if as_json:
        print(json.dumps({"version": FORMAT_VERSION, "labs": [asdict(lab) for lab in labs]}))
        return 0
    for lab in labs:
        print(f"{lab.name}\t{lab.state}\t{lab.topology}")
    if any(lab.state == "broken" for lab in labs):
        remark("invoke lab.gc removes what broken ones have left")
    if not labs:
        remark("no lab is there")
    return 0


def _joined(status_text: str, truth_text: str) -> str:
    """One object for `lab.up --json`."""
    return json.dumps(
        {"version": FORMAT_VERSION, "status": json.loads(status_text), "truth": json.loads(truth_text)}
    )
