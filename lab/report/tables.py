"""Status and truth tables: for people, plain for pipes, JSON for programs.

On a terminal the tables have colour and boxes; in a pipe, or with NO_COLOR set, nothing but aligned
words, one row a line whatever the width, so that grep and awk work on them. The JSON forms carry a
`version`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.spec.expect import Row
from lab.spec.status import AgentStatus, PodStatus, Status

FORMAT_VERSION = 1
PIPE_WIDTH = 400
_ENFORCED = {
    None: "unknown",
    "none": "not enforced",
    "egress": "egress enforced",
    "ingress": "ingress enforced",
    "both": "egress and ingress enforced",
}
_HEALTH_STYLES = {"ready": "green", "starting": "yellow", "not ready": "red", "stopped": "red"}


def print_status(status: Status, out: TextIO | None = None) -> None:
    """Nodes with their agents, pods with identity and enforcement, Services."""
    console = console_for(out)
    console.print(Text(f"lab {status.lab} (topology {status.topology})", style="bold"))
    if status.state_dir:
        console.print(Text(f"manifests: {status.state_dir}/nodes/NODE/manifests"), soft_wrap=True)
    nodes = table(console, "node", "address", "agent", "health", "restarts", "pid", "detail")
    for node in status.nodes:
        for agent in node.agents:
            nodes.add_row(node.name, str(node.address), *_agent_cells(agent))
        if not node.agents:
            nodes.add_row(node.name, str(node.address), "none", "", "", "", "")
    console.print(nodes)
    pods = table(console, "pod", "node", "address", "program", "identity", "policy")
    for pod in status.pods:
        pods.add_row(*_pod_cells(pod))
    console.print(pods)
    if status.services:
        services = table(console, "service", "address")
        for name, address in status.services:
            services.add_row(name, address)
        console.print(services)
    for problem in status.problems:
        console.print(Text(problem, style="red"), soft_wrap=True)


def print_truth(rows: Sequence[Row], out: TextIO | None = None) -> None:
    """pod × name × port: expected, actual, and whether they agree; then the count."""
    console = console_for(out)
    truth = table(console, "", "pod", "name", "port", "expected", "actual", "detail", "ms")
    for row in rows:
        truth.add_row(
            _mark(row.ok, console),
            row.pod,
            Text(row.name),
            str(row.port or ""),
            row.expected,
            Text(row.actual, style="" if row.ok else "bold red"),
            Text(row.detail, style="dim"),
            f"{row.elapsed_ms:.0f}",
        )
    console.print(truth)
    wrong = sum(not row.ok for row in rows)
    verdict = (
        f"{len(rows)} statements, all true"
        if not wrong
        else f"{wrong} of {len(rows)} statements are not true"
    )
    console.print(Text(verdict, style="bold red" if wrong else "bold green"))


def status_json(status: Status) -> str:
    """One JSON object with `version`."""
    return json.dumps({"version": FORMAT_VERSION, **asdict(status)}, indent=2, default=str)


def truth_json(lab: str, rows: Sequence[Row]) -> str:
    """One JSON object with `version`, `agrees` and `rows`."""
    agrees = all(row.ok for row in rows)
    return json.dumps(
        {"version": FORMAT_VERSION, "lab": lab, "agrees": agrees, "rows": [asdict(row) for row in rows]},
        indent=2,
    )


class PipeConsole(Console):
    """rich would end the program by itself, with the exit code of a failed check, when nobody reads on."""

    def on_broken_pipe(self) -> None:
        raise  # what rich is handling when it calls this: the BrokenPipeError


def console_for(out: TextIO | None) -> Console:
    """A console on `out` (default stdout); rich itself heeds NO_COLOR and TERM=dumb."""
    stream = out or sys.stdout
    return PipeConsole(file=stream, highlight=False, width=None if stream.isatty() else PIPE_WIDTH)


def table(console: Console, *columns: str) -> Table:
    """An empty table: boxed on a terminal, bare words elsewhere."""
    if console.is_terminal:
        made = Table(box=box.ROUNDED, header_style="bold")
    else:
        made = Table(box=None, pad_edge=False, header_style="")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def _agent_cells(agent: AgentStatus) -> tuple[str | Text, ...]:
    health = Text(agent.health, style=_HEALTH_STYLES[agent.health])
    name = f"{agent.name} ({agent.external})" if agent.external else agent.name
    return name, health, str(agent.restarts), str(agent.pid or ""), Text(agent.detail)


def _pod_cells(pod: PodStatus) -> tuple[str | Text, ...]:
    name = pod.name if pod.namespace == "default" else f"{pod.namespace}/{pod.name}"
    enforced = _ENFORCED[pod.enforced]
    return name, pod.node, str(pod.address), pod.program, str(pod.identity or "?"), enforced


def _mark(ok: bool, console: Console) -> Text:
    words = ("✓", "✗") if console.is_terminal else ("ok", "WRONG")
    return Text(words[0 if ok else 1], style="green" if ok else "bold red")
