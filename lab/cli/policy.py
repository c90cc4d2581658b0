"""What policies mean: explained, as a matrix, validated."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from lab.cli.words import ManyWords, PerhapsWords

_ABOUT = {
    "topology": "not of a running lab: name of a shipped topology, or a file",
    "manifests": "not of a running lab: a file or folder of manifests; may be repeated",
    "profile": "acns (default) or cilium; for files",
    "enforcement": "default, always or never; for files",
    "name": "which lab, where there are several",
    "json": "print JSON",
}


@task(
    klass=ManyWords,
    iterable=["manifests"],
    help={
        "words": "POD DEST[:PORT[/PROTO]]: a pod, an address, a name, `service NAME`, host, world",
        "dns": "not a connection, but a query for this name",
        "server": "of whom the pod asks it: IP[:PORT] (default: the cluster's DNS)",
        "expect": "allowed or denied: exit code 1 when it is not",
        **_ABOUT,
    },
)
def explain(
    context: Context,
    words: list[str],
    manifests: list[str],
    dns: str | None = None,
    server: str | None = None,
    expect: str | None = None,
    topology: str | None = None,
    profile: str | None = None,
    enforcement: str | None = None,
    name: str | None = None,
    json: bool = False,
) -> None:
    """May POD connect to DEST, and why: rules, names, learned addresses; in a lab the kernel is asked too."""
    from lab.policy_tools import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        about = commands.About(
            topology=topology, manifests=manifests, profile=profile, enforcement=enforcement, name=name
        )
        sys.exit(commands.run_explain(words, about, dns=dns, server=server, expect=expect, as_json=json))


@task(
    iterable=["port", "manifests"],
    help={"port": "only this traffic: 443, 53/udp, icmp; may be repeated", "live": "a running lab", **_ABOUT},
)
def matrix(
    context: Context,
    port: list[str],
    manifests: list[str],
    live: bool = False,
    topology: str | None = None,
    profile: str | None = None,
    enforcement: str | None = None,
    name: str | None = None,
    json: bool = False,
) -> None:
    """Pods × destinations as a truth table; in a lab each cell is tried on the kernel too."""
    from lab.policy_tools import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        about = commands.About(
            topology=topology,
            manifests=manifests,
            live=live,
            name=name,
            profile=profile,
            enforcement=enforcement,
        )
        sys.exit(commands.run_matrix(about, port, as_json=json))


@task(
    klass=PerhapsWords,
    help={
        "words": "files, and folders of files",
        "topology": "a topology's policies in place of files; what its names resolve to counts",
        "profile": "acns (default) or cilium",
        "enforcement": "default, always or never",
        "strict": "warnings count as errors",
        "json": "print JSON",
    },
)
def validate(
    context: Context,
    words: list[str],
    topology: str | None = None,
    profile: str | None = None,
    enforcement: str | None = None,
    strict: bool = False,
    json: bool = False,
) -> None:
    """Everything wrong or doubtful in policy files; exit code 1 with errors. No lab, no root."""
    from lab.policy_tools import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(
            commands.validate(
                words,
                topology=topology,
                profile=profile,
                enforcement=enforcement,
                strict=strict,
                as_json=json,
            )
        )


@task(help={"kind": "CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy"})
def schema(context: Context, kind: str = "CiliumNetworkPolicy") -> None:
    """The JSON schema of a kind of policy, for editors."""
    from lab.policy_tools import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(commands.schema(kind))
