"""Everything there is to know of a lab on kind, in one zip: the cluster's objects, what its nodes have, logs,
journals, the last packets. What cannot be had is there by its name, with what was said instead."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from acns.errors import AcnsError
from lab.backends.kind import cluster, looking, objects, observing, recorders, tools
from lab.backends.kind.kind_lab import KindLab
from lab.backends.kind.objects import AGENTS
from lab.backends.kind.recording import OnKind
from lab.capture import saving, tapes
from lab.report import output
from lab.spec.topology import AGENTS as AGENT_NAMES

README: Final = """\
Lab {name} on kind.
cluster/       what the API server has
nodes/NODE/    rules, routes, links, connections; flows.jsonl and AGENT-journal.jsonl as the agents wrote them
               (the newest 16 MiB of each); shim-PAGE: its answers
logs/          of agents, DNS, the Internet, recorders
capture.pcapng the last minute of all links, decisions as comments: tshark, or invoke repro.show
topology.json  what it was brought up with
"""
_KINDS: Final = "nodes,pods,services,endpointslices,networkpolicies,daemonsets,events"
_CUSTOM: Final = "ciliumnetworkpolicies,ciliumclusterwidenetworkpolicies,ciliumcidrgroups"
_NODE: Final = (
    ("rules", ("nft", "list", "ruleset")),
    ("routes", ("ip", "route", "show", "table", "all")),
    ("links", ("ip", "address")),
    ("conntrack", ("conntrack", "-L")),
)
_PAGES: Final = ("readyz", "metrics", "cache")
_NEWEST_BYTES: Final = 16 << 20


def write(lab: KindLab, path: Path) -> None:
    """The bundle, whole at once. Raises InputError where it cannot be written."""
    with output.new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        _capture(lab, archive)  # what is gone soonest
        for name, argv in _commands(lab):
            ok, said = _said(argv)
            # A log that is not there must not be read as one.
            archive.writestr(name if ok or not name.endswith(".jsonl") else f"{name}.missing.txt", said)
        archive.writestr("topology.json", (lab.store.path / "topology.json").read_text())
        archive.writestr("README.md", README.format(name=lab.name))


def _said(argv: list[str]) -> tuple[bool, bytes]:
    try:
        done, said = tools.run_for_bytes(argv)
    except AcnsError as error:  # no program, no end
        return False, f"{error}\n".encode()
    return done.ok, said if done.ok else said + f"\n[exit {done.code}] {done.err}".encode()


def _capture(lab: KindLab, archive: zipfile.ZipFile) -> None:
    recorded = OnKind(lab)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture.pcapng"
        try:
            saving.save(recorded, tapes.always(recorded), path)
        except (AcnsError, ValueError, KeyError, TypeError) as error:  # whatever a cluster in trouble says
            archive.writestr("capture.missing.txt", f"{type(error).__name__}: {error}\n")
        else:
            archive.write(path, path.name)


def _commands(lab: KindLab) -> Iterator[tuple[str, list[str]]]:
    """Name in the zip, and what says it."""
    kubectl = lab.tools.kubectl_argv
    yield "cluster/version.json", kubectl("version", "-o", "json")
    yield "cluster/objects.yaml", kubectl("get", _KINDS, "-A", "-o", "yaml")
    yield "cluster/policies.yaml", kubectl("get", _CUSTOM, "-A", "-o", "yaml")
    for agent in AGENT_NAMES:
        which = ("-l", f"app.kubernetes.io/name=acns-{agent}", "--prefix", "--tail=-1")
        yield f"logs/{agent}.txt", kubectl("-n", AGENTS, "logs", *which)
    yield "logs/coredns.txt", kubectl("-n", "kube-system", "logs", "-l", "k8s-app=kube-dns")
    yield "logs/internet.txt", ["docker", "logs", lab.internet]
    for recorded in recorders.places(lab).values():
        name = recorders.container(recorded)
        yield f"logs/{name}.txt", ["docker", "logs", name]
    running = looking.agents(lab)
    for node in cluster.node_names(lab.name, lab.store.nodes()):
        for what, command in _NODE:
            yield f"nodes/{node}/{what}.txt", ["docker", "exec", node, *command]
        for name, file in _files(lab):
            yield f"nodes/{node}/{name}", ["docker", "exec", node, "tail", "-c", str(_NEWEST_BYTES), file]
        if shim := looking.agent_pod(running, "shim", node):
            for page in _PAGES:
                yield f"nodes/{node}/shim-{page}", kubectl(*looking.page_argv(shim, f"/{page}"))


def _files(lab: KindLab) -> Iterator[tuple[str, str]]:
    if flows := objects.file_of(lab.topology, "shim", "flow_log_file"):
        yield "flows.jsonl", flows
    for agent in AGENT_NAMES:
        if path := observing.journal_file(lab, agent):
            yield f"{agent}-journal.jsonl", path
