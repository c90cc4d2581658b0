"""What the commands under `invoke lab.…` do for a lab on kind, apart from reading the command line.

`lab` says whether a name means one; then its method is the command. What only the namespaces of one machine
can do is refused by name.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from lab.backends.kind import store
from lab.errors import InputError, LabNotFound
from lab.runtime import ending
from lab.runtime.explaining import FORMAT_VERSION, program, remark

if TYPE_CHECKING:
    from lab.backends.kind.kind_lab import KindLab
    from lab.runtime import happenings
    from lab.runtime.faults.model import Options
    from lab.runtime.observe import Typed
    from lab.spec.expect import Row

Backend = Literal["netns", "kind"]
BACKENDS: tuple[Backend, ...] = ("netns", "kind")


class KindCommands:
    """The commands of one lab; each returns an exit code."""

    def __init__(self, lab: KindLab) -> None:
        self.lab = lab

    def down(self, *, as_json: bool) -> int:
        was_there = self.lab.down(remark)
        if as_json:
            print(json.dumps({"version": FORMAT_VERSION, "lab": self.lab.name, "was_there": was_there}))
        else:
            remark(f"lab {self.lab.name} is down: nothing of it is left")
        return 0

    def status(self, *, as_json: bool) -> int:
        from lab.report import tables

        found = self.lab.status()
        print(tables.status_json(found)) if as_json else tables.print_status(found)
        return 0

    def check(self, *, as_json: bool) -> int:
        """The truth table; 1 where it disagrees."""
        from lab.report import next_steps, tables

        rows = self.rows()
        if as_json:
            print(tables.truth_json(self.lab.name, rows))
        else:
            next_steps.print_checked(self.lab.topology, rows, self.lab.name, program=program())
        return 0 if all(row.ok for row in rows) else 1

    def execute(self, where: str, argv: Sequence[str], *, as_json: bool = False) -> int:
        """A command in a pod (or node, or `internet`), with this terminal; its own exit code."""
        from lab.runtime import terminal

        has_terminal = sys.stdin.isatty() and not as_json
        flags = ["--stdin", "--tty"] if has_terminal else ["--stdin"]
        return terminal.execute(subprocess.Popen, self.lab.exec_argv(where, argv, *flags), as_json=as_json)

    def shell(self, where: str) -> int:
        argv = self.lab.exec_argv(where, ["/bin/sh"], "--stdin", "--tty")
        return subprocess.run(argv, check=False).returncode

    def logs(self, process: str, *, follow: bool, as_json: bool) -> int:
        argv = self.lab.logs_argv(process, follow=follow)
        if not as_json:
            return subprocess.run(argv, check=False).returncode
        from lab.runtime import logs as reading

        with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, errors="replace") as running:
            assert running.stdout is not None
            reading.copy(running.stdout, reading.AsJSON(sys.stdout, FORMAT_VERSION, process))
        return running.returncode

    def observe(self, typed: Typed) -> int:
        """Flows of packets and of names, on all nodes."""
        from lab.backends.kind import observing

        return observing.run(self.lab, typed)

    def events(self, typed: happenings.Typed) -> int:
        """What happened to the agents of all nodes."""
        from lab.backends.kind import seeing

        return seeing.events(self.lab, typed)

    def ruleset(self, pod: str | None, *, as_json: bool) -> int:
        """The kernels' rules, with the policy behind each."""
        from lab.backends.kind import seeing
        from lab.policy_tools import rules_seen

        return rules_seen.show(self.lab.name, seeing.rules(self.lab, pod), as_json=as_json)

    def bundle(self, output: str | None, *, as_json: bool) -> int:
        from lab.backends.kind import bundling

        path = Path(output or f"{self.lab.name}-bundle.zip").absolute()
        bundling.write(self.lab, path)
        if as_json:
            print(json.dumps({"version": FORMAT_VERSION, "lab": self.lab.name, "path": str(path)}))
        else:
            remark(f"{path}: {path.stat().st_size >> 10} KiB; its README.md says what is where")
        return 0

    def fault(
        self, words: Sequence[str], options: Options, for_s: float | None = None, *, as_json: bool = False
    ) -> int:
        """Kill an agent's pod, cut a link, mend it, or mend all."""
        from lab.backends.kind import faults
        from lab.runtime.faults.model import Mending, as_object

        wanted = faults.parse(words, options, for_s)
        faults.do(self.lab, wanted, remark)
        if as_json:
            lasts = not isinstance(wanted, Mending) and wanted.lasts
            print(json.dumps(as_object(self.lab.name, wanted, lasts=lasts)))
        return 0

    def rows(self) -> list[Row]:
        rows, left_out = self.lab.check()
        for line in left_out:
            remark(f"not tried on kind: {line}")
        return rows


@dataclass(frozen=True, slots=True)
class How:
    """How a cluster is to be: nodes (None: the topology's), Kubernetes version ("": kind's own)."""

    nodes: int | None = None
    version: str = ""
    external: bool = False
    as_json: bool = False


def refuse_options_of_clusters(nodes: int, version: str) -> None:
    """Raises InputError where something is said about the cluster of a lab that has none."""
    if given := [flag for flag, value in (("--nodes", nodes), ("--k8s-version", version)) if value]:
        raise InputError(f"{' and '.join(given)}: only a cluster has that", hint="--backend kind")


def up(topology: str, name: str | None, how: How, *, plan: bool = False) -> int:
    """Bring it up, then show its status and its truth table; 1 where the table disagrees."""
    if plan:
        raise InputError("--plan is not there for a lab on kind", hint="leave it out, or --backend kind")
    from lab.backends.kind.kind_lab import KindLab
    from lab.report import next_steps, tables
    from lab.runtime.commands import refuse_external
    from lab.spec.load import find_topology, load_topology

    wanted = load_topology(find_topology(topology))
    if not how.external:
        refuse_external(wanted)
    made = KindLab(store.of(name or wanted.name), wanted)
    if _in_namespaces(made.name):
        raise InputError(f"there is a lab {made.name} of namespaces already", hint="give this one a --name")
    made.up(remark, nodes=how.nodes, version=how.version)
    rows, found = KindCommands(made).rows(), made.status()
    if how.as_json:
        both = {"status": tables.status_json(found), "truth": tables.truth_json(made.name, rows)}
        print(
            json.dumps({"version": FORMAT_VERSION, **{key: json.loads(text) for key, text in both.items()}})
        )
    else:
        tables.print_status(found)
        next_steps.print_checked(made.topology, rows, made.name, program=program())
    return 0 if all(row.ok for row in rows) else 1


def lab(name: str | None) -> KindCommands | None:
    """The lab on kind that is meant; None where a lab of namespaces is, or none. Raises LabNotFound."""
    found = store.known()
    if not found:
        return None
    if name is None and len(found) + len(ending.all_labs()) > 1:
        names = ", ".join([*(one.name for one in found), *(one.name for one in ending.all_labs())])
        raise LabNotFound("there are several labs: say which", hint=f"--name; there are: {names}")
    meant = [one for one in found if name in (None, one.name)]
    if not meant or (name is not None and _in_namespaces(name)):
        return None
    from lab.backends.kind.kind_lab import KindLab

    return KindCommands(KindLab.attach(meant[0]))


def listed() -> list[tuple[str, str]]:
    """Name and topology of each."""
    return [(one.name, one.topology().name) for one in store.known()]


def _in_namespaces(name: str) -> bool:
    return any(folder.name == name for folder in ending.all_labs())


def backend(text: str) -> Backend:
    """Raises InputError."""
    for one in BACKENDS:
        if one == text:
            return one
    raise InputError(f"'{text}' is no back end", hint=f"--backend {' or '.join(BACKENDS)}")
