"""Seeing into a lab: logs, flows, events, captures, pictures, rules."""

from __future__ import annotations

import sys

from invoke.context import Context
from invoke.tasks import task

from lab.cli.words import PerhapsWords


@task(
    help={
        "agent": "a process, such as node1/shim or node1/resolver",
        "follow": "go on with what is added",
        "name": "which lab, where there are several",
        "json": "JSON lines, each with a line of the log",
    }
)
def logs(
    context: Context, agent: str, follow: bool = False, name: str | None = None, json: bool = False
) -> None:
    """The log of an agent (or of any process of the lab)."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.logs(agent, name, follow=follow, as_json=json))


@task(
    help={
        "follow": "go on with what comes",
        "pod": "flows from or to this pod",
        "verdict": "DROPPED, FORWARDED, ERROR",
        "fqdn": "flows about this name or to its addresses; '*' stands for any text",
        "last": "only the last so many (default 0: all)",
        "json": "JSON lines, as `hubble observe -o json` prints them",
        "name": "which lab, where there are several",
    }
)
def observe(
    context: Context,
    follow: bool = False,
    pod: str | None = None,
    verdict: str | None = None,
    fqdn: str | None = None,
    last: str | None = None,
    json: bool = False,
    name: str | None = None,
) -> None:
    """Packets and DNS queries of the pods: what became of them, and which policy decided."""
    from lab.runtime import commands
    from lab.runtime import observe as observing

    with commands.explained_errors():
        typed = observing.Typed(pod=pod, verdict=verdict, fqdn=fqdn, last=last, follow=follow, json=json)
        sys.exit(observing.run(name, typed))


@task(
    help={
        "follow": "go on with what comes",
        "last": "only the last so many (default 0: all)",
        "json": "JSON lines",
        "name": "which lab, where there are several",
    }
)
def events(
    context: Context, follow: bool = False, last: int = 0, json: bool = False, name: str | None = None
) -> None:
    """What happened to the lab: agents that started or died, policies taken or refused, faults, mappings."""
    from lab.runtime import happenings
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(happenings.run(name, follow=follow, last=last, as_json=json))


@task(
    klass=PerhapsWords,
    help={
        "words": "start [LINK…] | stop | save | status; a link is a pod, a node, or `internet`",
        "filter": "what `start` captures, in the language of tcpdump (man pcap-filter)",
        "output": "the file that `save` writes (default: LAB.pcapng)",
        "size": "MiB that `start` keeps of each place or link, the newest (default 32)",
        "name": "which lab, where there are several",
        "json": "print JSON",
    },
)
def capture(
    context: Context,
    words: list[str],
    filter: str = "",
    output: str | None = None,
    size: int = 32,
    name: str | None = None,
    json: bool = False,
) -> None:
    """Packets of all links, with what the agents decided on each: the last minute is always there to save."""
    from lab.capture import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        typed = commands.Typed(filter=filter, output=output, size_mib=size, json=json)
        sys.exit(commands.run(words, name, typed))


@task(
    help={
        "output": "the file to write (default: LAB-bundle.zip)",
        "name": "which lab, where there are several",
        "json": "print JSON",
    }
)
def bundle(context: Context, output: str | None = None, name: str | None = None, json: bool = False) -> None:
    """All there is to know of a lab, in one zip: capture, journals, rules, sets, logs, how to repeat it."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.bundle(name, output, as_json=json))


@task(
    help={
        "output": "the file to write, .html or .svg (default: LAB.html)",
        "follow": "draw it again and again; a browser that shows the .html follows",
        "name": "which lab, where there are several",
        "json": "print JSON",
    }
)
def graph(
    context: Context,
    output: str | None = None,
    follow: bool = False,
    name: str | None = None,
    json: bool = False,
) -> None:
    """A picture: nodes, pods, policies, whom pods spoke to and asked for, and what became of it."""
    from lab.policy_tools import graphing
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(graphing.run(name, output, follow=follow, as_json=json))


@task(
    klass=PerhapsWords,
    help={
        "words": "a pod: only what its own policy opens",
        "name": "which lab, where there are several",
        "json": "print JSON",
    },
)
def cache(context: Context, words: list[str], name: str | None = None, json: bool = False) -> None:
    """What names have opened: addresses, how long their TTL still runs, and why each is still there."""
    from lab.policy_tools import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(commands.run_cache(words, name, as_json=json))


@task(
    klass=PerhapsWords,
    help={
        "words": "a pod: only the rules that its packets meet",
        "name": "which lab, where there are several",
        "json": "print JSON",
    },
)
def ruleset(context: Context, words: list[str], name: str | None = None, json: bool = False) -> None:
    """The kernel's rules, with the policy behind each and what it has counted; or one pod's part of them."""
    from lab.policy_tools import rules_seen
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(rules_seen.run(words, name, as_json=json))
