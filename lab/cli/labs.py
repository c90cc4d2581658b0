"""The life of labs: up, down, and what is looked at or done in one that runs."""

from __future__ import annotations

import math
import sys

from invoke.context import Context
from invoke.tasks import task

from lab.cli.words import ManyWords, PerhapsWords

_FOR_EVER = math.inf


@task(
    help={
        "topology": "name of a shipped topology, or a file",
        "name": "name of the lab (default: the topology's)",
        "json": "print status and truth table as one JSON object",
        "external": "run the external programs that the topology names, as root",
        "plan": "only say what would change",
        "backend": "netns (namespaces of this machine), or kind (a Kubernetes cluster in Docker)",
        "nodes": "of a cluster: as many as the topology has, or more",
        "k8s-version": "of a cluster, such as 1.33.1, or a node image; without it, kind's own",
    }
)
def up(
    context: Context,
    topology: str = "quickstart",
    name: str | None = None,
    json: bool = False,
    external: bool = False,
    plan: bool = False,
    backend: str = "netns",
    nodes: int = 0,
    k8s_version: str = "",
) -> None:
    """Bring a lab up, or make a running one right, and show that it does what its topology expects."""
    from acns import leisure
    from lab.runtime import early

    if not plan and backend == "netns":
        early.start()
    with leisure.uncollected():
        from lab.runtime import commands

    with commands.explained_errors():
        from lab.backends.kind import commands as on_kind

        if on_kind.backend(backend) == "kind":
            how = on_kind.How(nodes or None, k8s_version, external=external, as_json=json)
            sys.exit(on_kind.up(topology, name, how, plan=plan))
        on_kind.refuse_options_of_clusters(nodes, k8s_version)
        if plan:
            sys.exit(commands.plan(topology, name, as_json=json))
        sys.exit(commands.up(topology, name, as_json=json, external=external))


@task(help={"name": "which lab, where there are several", "json": "print JSON"})
def down(context: Context, name: str | None = None, json: bool = False) -> None:
    """End a lab; nothing of it is left."""
    from lab.runtime.explaining import explained_errors

    with explained_errors():
        from lab.runtime import ending_commands

        sys.exit(ending_commands.down(name, as_json=json))


@task(help={"json": "print JSON"})
def gc(context: Context, json: bool = False) -> None:
    """Remove what crashed labs have left; labs that live are left alone."""
    from lab.runtime.explaining import explained_errors

    with explained_errors():
        from lab.runtime import ending_commands

        sys.exit(ending_commands.collect(as_json=json))


@task(help={"name": "which lab, where there are several", "json": "print JSON"})
def status(context: Context, name: str | None = None, json: bool = False) -> None:
    """Nodes, agents, pods, Services of a running lab."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.status(name, as_json=json))


@task(
    name="exec",
    help={
        "pod": "a pod, a node, or `internet`",
        "name": "which lab, where there are several",
        "json": "print its exit code and all that it has said as JSON",
    },
)
def execute(context: Context, pod: str, name: str | None = None, json: bool = False) -> None:
    """Run a command in a pod: `lab.exec frontend -- dig api.example.com`."""
    from lab.runtime import commands

    # Not `context.remainder`: that is one string, its quoting lost.
    argv = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    with commands.explained_errors():
        sys.exit(commands.execute(pod, name, argv, as_json=json))


@task(help={"pod": "a pod, a node, or `internet`", "name": "which lab, where there are several"})
def shell(context: Context, pod: str, name: str | None = None) -> None:
    """A shell in a pod."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.shell(pod, name))


@task(help={"name": "which lab, where there are several", "json": "print JSON"})
def check(context: Context, name: str | None = None, json: bool = False) -> None:
    """The truth table: expected and actual; exit code 1 where they disagree."""
    from acns import leisure

    with leisure.uncollected():
        from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.check(name, as_json=json))


@task(
    klass=PerhapsWords,
    help={
        "name": "which lab, where there are several",
        "node": "whose agent, where there are several nodes",
        "at": "which DNS server: a pod, or `internet`",
        "for_": "seconds; then it is mended (default: when `clear` is said)",
        "delay": "seconds by which a slow server is late",
        "share": "share of what is lost, 0 to 1",
        "storm": "seed of a storm of everything; --for says how long (60 s)",
        "json": "print JSON",
    },
)
def fault(
    context: Context,
    words: list[str],
    name: str | None = None,
    node: str = "",
    at: str = "",
    for_: float = _FOR_EVER,
    delay: float = 2.0,
    share: float = 0.3,
    storm: int = -1,
    json: bool = False,
) -> None:
    """Break something: `hang shim`, `upstream slow`, `link lossy POD`, a storm; `clear` mends it."""
    from lab.runtime import commands
    from lab.runtime.faults import commands as faults
    from lab.runtime.faults.model import Options

    options = Options(node=node, at=at, delay_s=delay, share=share)
    with commands.explained_errors():
        seed = storm if storm >= 0 else None
        sys.exit(faults.fault(words, name, options, None if for_ == _FOR_EVER else for_, seed, as_json=json))


@task(
    name="validate",
    klass=ManyWords,
    help={"words": "topologies: names of shipped ones, files, folders", "json": "print JSON"},
)
def validate_topologies(context: Context, words: list[str], json: bool = False) -> None:
    """Everything wrong in topology files; exit code 1 with errors. No lab, no root."""
    from lab.runtime import topology_commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(topology_commands.validate(words, as_json=json))


@task(name="schema")
def topology_schema(context: Context) -> None:
    """The JSON schema of topology files, for editors."""
    from lab.runtime import topology_commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(topology_commands.schema())


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
