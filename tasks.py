"""The commands: `invoke --list`. Thin on purpose; what they do is in `lab.runtime.commands`.

Imports stand inside the tasks so that listing them is instant. An argument with a default is never
positional in invoke, so what comes first on the line has none.
"""

from __future__ import annotations

import sys
from pathlib import Path

from invoke.collection import Collection
from invoke.context import Context
from invoke.tasks import task


@task(
    help={
        "topology": "name of a shipped topology, or a file",
        "name": "name of the lab (default: the topology's)",
        "json": "print status and truth table as one JSON object",
    }
)
def up(context: Context, topology: str = "quickstart", name: str | None = None, json: bool = False) -> None:
    """Bring a lab up (or mend it), and show that it does what its topology expects."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.up(topology, name, as_json=json))


@task(help={"name": "which lab, where there are several"})
def down(context: Context, name: str | None = None) -> None:
    """End a lab; nothing of it is left."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.down(name))


@task(help={"name": "which lab, where there are several", "json": "print JSON"})
def status(context: Context, name: str | None = None, json: bool = False) -> None:
    """Nodes, agents, pods, Services of a running lab."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.status(name, as_json=json))


@task(name="exec", help={"pod": "a pod, a node, or `internet`", "name": "which lab, where there are several"})
def execute(context: Context, pod: str, name: str | None = None) -> None:
    """Run a command in a pod: `invoke lab.exec frontend -- dig api.example.com`."""
    from lab.runtime import commands

    # Not `context.remainder`: that is one string, its quoting lost.
    argv = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    with commands.explained_errors():
        sys.exit(commands.execute(pod, name, argv))


@task(help={"pod": "a pod, a node, or `internet`", "name": "which lab, where there are several"})
def shell(context: Context, pod: str, name: str | None = None) -> None:
    """A shell in a pod."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.shell(pod, name))


@task(
    help={
        "agent": "a process, such as node1/shim or node1/resolver",
        "follow": "go on with what is added",
        "name": "which lab, where there are several",
    }
)
def logs(context: Context, agent: str, follow: bool = False, name: str | None = None) -> None:
    """The log of an agent (or of any process of the lab)."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.logs(agent, name, follow=follow))


@task(help={"name": "which lab, where there are several", "json": "print JSON"})
def check(context: Context, name: str | None = None, json: bool = False) -> None:
    """The truth table: expected and actual; exit code 1 where they disagree."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.check(name, as_json=json))


@task(help={"json": "print JSON"})
def doctor(context: Context, json: bool = False) -> None:
    """What this machine can do for a lab: what is missing, what that costs, how to mend it."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.doctor(as_json=json))


@task(name="list", help={"json": "print JSON"})
def list_labs(context: Context, json: bool = False) -> None:
    """The labs on this machine."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.list_all(as_json=json))


@task(name="all", help={"arguments": "more arguments for pytest, in one string"})
def everything(context: Context, arguments: str = "") -> None:
    """Every test (those with network namespaces need root)."""
    context.run(f"{sys.executable} -m pytest {arguments}", pty=sys.stdout.isatty())


@task
def lint(context: Context) -> None:
    """Formatting, lint, types and layers."""
    for module in ("ruff format --check .", "ruff check .", "mypy"):
        context.run(f"{sys.executable} -m {module}")
    context.run(str(Path(sys.executable).with_name("lint-imports")))


namespace = Collection()
namespace.add_collection(
    Collection("lab", up, down, status, execute, shell, logs, check, doctor, list_labs), name="lab"
)
namespace.add_collection(Collection("test", everything, lint), name="test")
