"""The commands: `invoke --list`. Thin on purpose; what they do is in `lab.runtime.commands`.

Imports stand inside the tasks so that listing them is instant. An argument with a default is never
positional in invoke, so what comes first on the line has none.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from invoke.collection import Collection
from invoke.context import Context
from invoke.parser import Argument
from invoke.tasks import Task, task


class ManyWords(Task[None]):
    """A task that takes any number of words, as `words`: to invoke each task has a fixed number of them."""

    least = 1

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        """As many words as are on the command line; so many at least, unless help is asked for."""
        arguments = super().get_arguments(ignore_unknown_help)
        flags = [one for one in arguments if one.name != "words"]
        count = max(self.least * ("--help" not in sys.argv), len(self._typed(flags)))
        return [*(Argument(f"word{number or ''}", positional=True) for number in range(count)), *flags]

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        words = [kwargs.pop(key) for key in list(kwargs) if key.startswith("word")]
        super().__call__(*args, words=words, **kwargs)

    def _typed(self, flags: list[Argument]) -> list[str]:
        """What stands behind the task's name, without flags and their values."""
        named = [place for place, word in enumerate(sys.argv) if word.rpartition(".")[2] == self.name]
        names = [name for one in flags if one.takes_value for name in one.names]
        takes_value = {f"-{name}" if len(name) == 1 else f"--{name}" for name in names}
        words, skipped = [], False
        for word in sys.argv[named[0] + 1 :] if named else []:
            if not (skipped or word.startswith("-")):
                words.append(word)
            skipped = word in takes_value
        return words


class PerhapsWords(ManyWords):
    """One that does without any, too."""

    least = 0


@task(
    help={
        "topology": "name of a shipped topology, or a file",
        "name": "name of the lab (default: the topology's)",
        "json": "print status and truth table as one JSON object",
        "external": "run the external programs that the topology names, as root",
        "plan": "only say what would change",
    }
)
def up(
    context: Context,
    topology: str = "quickstart",
    name: str | None = None,
    json: bool = False,
    external: bool = False,
    plan: bool = False,
) -> None:
    """Bring a lab up, or make a running one right, and show that it does what its topology expects."""
    from lab.runtime import commands

    with commands.explained_errors():
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
        "last": "only the last so many",
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
        "follow": "go on with what comes",
        "last": "only the last so many",
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


@task(help={"name": "which lab, where there are several", "json": "print JSON"})
def check(context: Context, name: str | None = None, json: bool = False) -> None:
    """The truth table: expected and actual; exit code 1 where they disagree."""
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(commands.check(name, as_json=json))


@task(
    klass=PerhapsWords,
    help={
        "name": "which lab, where there are several",
        "node": "whose agent, where there are several nodes",
        "at": "which DNS server: a pod, or `internet`",
        "for_": "seconds; then it is mended",
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
    for_: float = 0.0,
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
        sys.exit(faults.fault(words, name, options, for_ or None, seed, as_json=json))


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


@task(
    name="policy",
    help={
        "json": "print JSON, with the quantiles of all samples",
        "quick": "a small cluster and few repetitions",
        "only": "parts: load, increments, mappings, memory, datapath, curve (with commas between)",
        "seed": "of the generated cluster",
    },
)
def bench_policy(
    context: Context, json: bool = False, quick: bool = False, only: str = "", seed: int = 1
) -> None:
    """What enforcing a large cluster's policies costs here: time, memory, packets."""
    from lab.bench import policy
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(policy.run(as_json=json, quick=quick, only=only, seed=seed))


@task(
    name="dns",
    help={
        "json": "print JSON",
        "quick": "fewer and shorter rounds",
        "only": "parts, with commas between: known, fresh, slow, fast, new, denied, tcp, pods, memory",
        "seed": "of the order in which contenders take turns",
    },
)
def bench_dns(
    context: Context, json: bool = False, quick: bool = False, only: str = "", seed: int = 1
) -> None:
    """What the resolver costs here, beside no proxy, dnsdist, and dnsmasq with nftset."""
    from lab.bench import dns
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(dns.run(as_json=json, quick=quick, only=only, seed=seed))


@task(
    name="lab",
    help={
        "json": "print JSON",
        "quick": "fewer rounds",
        "only": "parts, with commas between: network, life, list",
    },
)
def bench_lab(context: Context, json: bool = False, quick: bool = False, only: str = "") -> None:
    """What building a lab costs here, beside Mininet and the kernel's own limit."""
    from lab.bench import lab_up
    from lab.runtime import commands

    with commands.explained_errors():
        sys.exit(lab_up.run(as_json=json, quick=quick, only=only))


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
    klass=ManyWords,
    help={
        "words": "files, and folders of files",
        "profile": "acns (default) or cilium",
        "strict": "warnings count as errors",
        "json": "print JSON",
    },
)
def validate(
    context: Context, words: list[str], profile: str | None = None, strict: bool = False, json: bool = False
) -> None:
    """Everything wrong or doubtful in policy files; exit code 1 with errors. No lab, no root."""
    from lab.policy_tools import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(commands.validate(words, profile=profile, strict=strict, as_json=json))


@task(help={"kind": "CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy or NetworkPolicy"})
def schema(context: Context, kind: str = "CiliumNetworkPolicy") -> None:
    """The JSON schema of a kind of policy, for editors."""
    from lab.policy_tools import commands
    from lab.runtime.commands import explained_errors

    with explained_errors():
        sys.exit(commands.schema(kind))


@task(name="all", help={"arguments": "more arguments for pytest, in one string"})
def everything(context: Context, arguments: str = "") -> None:
    """Every test (those with network namespaces need root)."""
    context.run(f"{sys.executable} -m pytest {arguments}", pty=sys.stdout.isatty())


@task(
    help={
        "minutes": "how long to search (default 1)",
        "seed": "repeats a search at random (default: a random one, printed)",
        "plain": "at random, even where atheris is installed",
    }
)
def fuzz(context: Context, minutes: float = 1.0, seed: int = 0, plain: bool = False) -> None:
    """Search for a DNS message that does the reader harm, or that dnspython reads otherwise."""
    options = f"--minutes {minutes} --seed {seed}" + (" --plain" if plain else "")
    context.run(f"{sys.executable} -m tests.fuzz {options}", pty=sys.stdout.isatty())


@task(
    help={
        "minutes": "of traffic (default 3)",
        "seed": "repeats a storm, its traffic and its edits (default: a random one, printed)",
        "keep": "a folder for the agents' logs",
    }
)
def soak(context: Context, minutes: float = 3.0, seed: int = 0, keep: str = "") -> None:
    """Faults of all kinds under steady traffic: nothing wrongly dropped or passed, nothing lost or leaked."""
    options = f"--minutes {minutes} --seed {seed}" + (f" --keep {shlex.quote(keep)}" if keep else "")
    context.run(f"{sys.executable} -m tests.soak {options}", pty=sys.stdout.isatty())


@task
def lint(context: Context) -> None:
    """Formatting, lint, types and layers."""
    for module in ("ruff format --check .", "ruff check .", "mypy"):
        context.run(f"{sys.executable} -m {module}")
    context.run(str(Path(sys.executable).with_name("lint-imports")))


namespace = Collection()
namespace.add_collection(
    Collection(
        "lab",
        up,
        down,
        gc,
        status,
        execute,
        shell,
        logs,
        observe,
        events,
        capture,
        bundle,
        graph,
        cache,
        ruleset,
        fault,
        check,
        doctor,
        list_labs,
        validate_topologies,
        topology_schema,
    ),
    name="lab",
)
namespace.add_collection(Collection("bench", bench_policy, bench_dns, bench_lab), name="bench")
namespace.add_collection(Collection("policy", explain, matrix, validate, schema), name="policy")
namespace.add_collection(Collection("test", everything, fuzz, soak, lint), name="test")
