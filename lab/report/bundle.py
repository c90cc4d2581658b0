"""Everything there is to know of a lab, in one zip: for an issue, for CI, for whoever has to find out later.

The layout is stable and has a version (`bundle.json`), since tools read it; `LAYOUT` says what is where. A
lab in trouble is what bundles are for: what cannot be had is named in `missing.txt`, with the reason, and the
rest is there. No private key goes in; packets and logs do, so the file is for its owner alone (0600).
"""

from __future__ import annotations

import json
import platform
import subprocess
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import yaml

from acns import scalars, textfile
from acns.shim.sources import listing
from acns.telemetry.bounded_file import older
from lab.capture import saving, tapes
from lab.capture.of_namespaces import OfNamespaces
from lab.errors import AcnsError, InputError
from lab.kernel import features
from lab.policy_tools.node_state import NodeState
from lab.report import doctor, output, tables
from lab.runtime.handles import Inside, NodeHandle, ProcessHandle
from lab.runtime.lab import Lab
from lab.spec.topology import AGENTS, Topology

FORMAT: Final = "acns-lab-bundle"
VERSION: Final = 1

LAYOUT: Final = """\
bundle.json                  format, version, lab, time
README.md                    what this is; the command that brings the same lab up; manifests not in force
missing.txt                  what could not be had, and why
topology.yaml, policies/     the topology, and the policies that were in force: what `lab.up` takes
topology.json                the order as the lab was built from it, manifests included
status.json, doctor.json     as lab.status and lab.doctor print them
versions.json                of the project, Python, the kernel, nftables, Python packages
events.jsonl                 what happened to the lab (lab.events)
holder.log, recorder.log     of the lab's own processes
capture.pcapng               the last minute of all links, decisions as comments
nodes/NODE/manifests/        as they are written, also what the shim refuses
nodes/NODE/ruleset.nft       all of nftables, sets with their elements and timeouts
nodes/NODE/conntrack.txt     the connections that the kernel knows
nodes/NODE/network.txt       links, addresses, routes, rules
nodes/NODE/flows.jsonl       the flow log; as in all logs, NAME.1 is the older part
nodes/NODE/AGENT.log, AGENT.toml, AGENT-journal.jsonl
nodes/NODE/AGENT-PAGE        its answers: readyz, metrics, cache (the shim's)
nodes/NODE/shim-state/       the ledger, and the rest of what the shim keeps on disk
nodes/NODE/resolver-state/   what the resolver keeps on disk
pods/NAMESPACE_NAME/         program.log, resolv.conf, hosts, network.txt
internet/                    records.json, queries.jsonl, logs, network.txt
"""

Progress = Callable[[str], None]
Part = tuple[str, Callable[[], str | bytes]]
"""Its name in the zip, and what gets it."""

_GENERATED: Final = frozenset(
    {"namespaces.yaml", "nodes.yaml", "pods.yaml", "services.yaml", "endpointslices.yaml"}
)
_PAGES: Final = {"shim": ("readyz", "metrics", "cache"), "resolver": ("readyz", "metrics")}
_PACKAGES: Final = ("acns-lab", "grpcio", "protobuf", "pydantic", "pyroute2", "dnslib", "pip-nftables")
_MAX_FILE_BYTES: Final = 256 << 20


def write(lab: Lab, path: Path, progress: Progress = lambda _: None) -> Path:
    """The bundle at `path`, whole at once. Raises InputError where it cannot be written."""
    with output.new_file(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        _fill(archive, lab, progress)
    return path


def _fill(archive: zipfile.ZipFile, lab: Lab, progress: Progress) -> None:
    missing = []
    for name, get in _parts(lab):
        progress(name)
        try:
            archive.writestr(name, get())
        except Exception as error:  # noqa: BLE001 - a lab in trouble has trouble of any kind
            missing.append(f"{name}: {type(error).__name__}: {error}")
    archive.writestr("missing.txt", "".join(f"{line}\n" for line in missing))


def _parts(lab: Lab) -> Iterator[Part]:
    yield "bundle.json", lambda: _json(_about(lab))
    yield "README.md", lambda: _readme(lab)
    policies = _policies(lab)
    yield "topology.yaml", lambda: topology_text(lab.topology, policies)
    yield from ((f"policies/{name}", get) for name, get in policies.items())
    yield "topology.json", lambda: _read(lab.folder.topology_file)
    yield "versions.json", lambda: _json(_versions())
    # First what is gone soonest.
    yield "capture.pcapng", lambda: _capture(lab)
    for node in lab.nodes:
        yield from _node(lab, node)
    yield "status.json", lambda: tables.status_json(lab.status())
    for pod in lab.pods:
        folder = f"pods/{lab.folder.pod(pod.plan.key).name}"
        yield f"{folder}/network.txt", lambda inside=pod: _network(inside)  # type: ignore[misc]
        yield from _files(lab, _in(lab.folder.pod(pod.plan.key)), folder)
    yield "internet/network.txt", lambda: _network(lab.internet)
    yield from _files(lab, _in(lab.folder.internet), "internet")
    own = (lab.folder.events_file, lab.folder.holder_log, lab.folder.path / "recorder.log")
    yield from _files(lab, [path for path in own if path.exists()], "")
    yield "doctor.json", lambda: doctor.doctor_json(features.probe())


def _node(lab: Lab, node: NodeHandle) -> Iterator[Part]:
    folder, home = f"nodes/{node.name}", lab.folder.node(node.name)
    yield f"{folder}/ruleset.nft", node.ruleset
    yield f"{folder}/conntrack.txt", lambda: _conntrack(node)
    yield f"{folder}/network.txt", lambda: _network(node)
    for agent, process in zip(AGENTS, (node.shim, node.resolver), strict=True):
        for page in _PAGES[agent]:
            yield f"{folder}/{agent}-{page}", _page(process, page)
    yield from _files(lab, _in(home), folder)
    for below in ("manifests", "shim-state", "resolver-state"):
        yield from _files(lab, _in(home / below), f"{folder}/{below}")


# --- files --------------------------------------------------------------------------------------------------


def _files(lab: Lab, paths: list[Path], folder: str) -> Iterator[Part]:
    for path in paths:
        for one in (older(path), path):
            if one.is_file():
                yield (f"{folder}/{one.name}" if folder else one.name), lambda path=one: _read(path)  # type: ignore[misc]


def _in(folder: Path) -> list[Path]:
    """What is in a folder, older parts apart; nothing hidden."""
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.glob("[!.]*")) if path.is_file() and path.suffix != ".1"]


def _read(path: Path) -> bytes:
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise ValueError(f"larger than {_MAX_FILE_BYTES >> 20} MiB")
    return path.read_bytes()


def _policies(lab: Lab) -> dict[str, Callable[[], str | bytes]]:
    """The manifests in force that are not the lab's own, by name: of the first node, mostly all have the
    same. What is written, where its shim cannot tell."""
    node = lab.nodes[0]
    found: dict[str, Callable[[], str | bytes]] = {
        path.name: partial(_read, path) for path in _in(lab.folder.manifests(node.name))
    }
    if (in_force := _in_force(lab, node)) is not None:
        found = {name: partial(str, text) for name, text in in_force.items()}
    return {name: get for name, get in found.items() if name not in _GENERATED}


def _in_force(lab: Lab, node: NodeHandle) -> dict[str, str] | None:
    """What the node's shim goes by; None where that is not known."""
    try:
        return NodeState(lab, node).texts()
    except AcnsError:
        return None


def _not_in_force(lab: Lab) -> Iterator[str]:
    """The manifests as they are written that are not what their shim goes by: where they are in the zip."""
    for node in lab.nodes:
        in_force = _in_force(lab, node)
        if in_force is None:
            continue
        for path in filter(listing.is_manifest, _in(lab.folder.manifests(node.name))):
            try:
                written = textfile.read(path)
            except InputError:
                written = None
            if written != in_force.get(path.name):
                yield f"nodes/{node.name}/manifests/{path.name}"


def topology_text(topology: Topology, policies: Iterable[str]) -> str:
    """As a file that `lab.up` takes, with the policies beside it."""
    value = topology.model_dump(mode="json", exclude_defaults=True)
    value["policies"] = [{"file": f"policies/{name}"} for name in policies]
    text: str = yaml.dump(value, Dumper=scalars.Dumper, sort_keys=False, allow_unicode=True)
    return text


# --- what is asked ------------------------------------------------------------------------------------------


def _capture(lab: Lab) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "capture.pcapng"
        recorded = OfNamespaces(lab)
        saving.save(recorded, tapes.always(recorded), path)
        return path.read_bytes()


def _page(process: ProcessHandle, page: str) -> Callable[[], bytes]:
    return lambda: process.http_get(f"/{page}").body


def _network(inside: Inside) -> str:
    """Links with their counters, addresses, routes, rules."""
    found = []
    for words in ("-s link", "address", "route show table all", "-6 route show table all", "rule"):
        argv = ["ip", *words.split()]
        done = inside.run(argv, errors="replace")
        found.append(f"# {' '.join(argv)}\n{done.stdout}{done.stderr}")
    return "\n".join(found)


def _conntrack(node: NodeHandle) -> str:
    done = node.run(["sh", "-c", "conntrack -L -o extended || cat /proc/net/nf_conntrack"], errors="replace")
    if done.returncode != 0:
        raise ValueError(f"neither `conntrack` nor /proc/net/nf_conntrack: {done.stderr.strip()}")
    return done.stdout


# --- about it -----------------------------------------------------------------------------------------------


def _about(lab: Lab) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "lab": lab.name,
        "topology": lab.topology.name,
        "written_at_s": time.time(),
        "lab_created_at_s": lab.record.created_at_s,
        "processes": _processes(lab),
    }


def _processes(lab: Lab) -> list[dict[str, Any]] | str:
    try:
        return [asdict(one) for one in lab.processes()]
    except AcnsError as error:
        return str(error)


def _versions() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "nft": _said("nft", "--version"),
        "ip": _said("ip", "-V"),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _said(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False).stdout.strip()
    except OSError as error:
        return str(error)


def _json(value: object) -> str:
    return json.dumps(value, indent=2)


def _readme(lab: Lab) -> str:
    written = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return f"""# Lab {lab.name}, {written}

Everything there was to know of this lab. `missing.txt` says what could not be had. To bring the same lab up,
with acns-lab {_version("acns-lab")}, in the folder where this file is:

    acns-lab lab.up --topology topology.yaml{" --external" if list(lab.topology.external_commands()) else ""}
{_said_of_others(_not_in_force(lab))}
The packets, with what the agents decided on each: `tshark -r capture.pcapng -Y frame.comment`, or Wireshark.

    tshark -r capture.pcapng -Y 'frame.comment contains "refused"'

What is where (format {FORMAT}, version {VERSION}):

```
{LAYOUT}```
"""


def _said_of_others(not_in_force: Iterable[str]) -> str:
    """A paragraph, where there are any."""
    listed = "".join(f"- {path}\n" for path in not_in_force)
    if not listed:
        return ""
    return f"""
These are not in force as they are written: a shim refuses them (its `shim-readyz` says why), or has yet to
read them. What is in force instead, if anything is, is in `policies/`.

{listed}"""
