"""The lab as pytest fixtures, for this repository and for others: `lab`, `pods`, `taps` (docs/pytest.md).

pytest loads this file in every run on a machine where the project is installed. So it imports nothing but
pytest until a test asks for a fixture, and does nothing to tests that do not. A lab is named after the
process that made it, so that workers of pytest-xdist each have their own, and it ends with that process,
however that ends, unless it is asked to be kept.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import sys
from collections.abc import Generator, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from lab.fixtures.pods import Pods
    from lab.fixtures.taps import Taps
    from lab.runtime.lab import Lab

_BUNDLES = "lab.report.bundle"
_TOPOLOGIES = pytest.StashKey[frozenset[Path]]()
_KEPT = pytest.StashKey[list[str]]()
_KEPT_BY_WORKER = "acns_lab_kept"
_numbers = itertools.count(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("lab", "labs of network namespaces (acns-lab)")
    group.addoption(
        "--lab-backend",
        choices=("netns", "kind"),
        default="netns",
        help="kind: the tests that run on a Kubernetes cluster too, on one; the others are skipped",
    )
    group.addoption("--lab-keep", action="store_true", help="leave labs up, and say what they are called")
    group.addoption("--lab-pause", action="store_true", help="wait at a failed test, with its lab up")
    if find_spec(_BUNDLES):
        group.addoption(
            "--lab-captures",
            choices=("on-failure", "always", "never"),
            default="on-failure",
            help="write a bundle of the lab, packets included, for failed tests (default), all, or none",
        )
    parser.addini("lab_scope", "how long a lab lives: module (default) or session", default="module")
    parser.addini(
        "lab_topology", "topology of labs without a mark (default: quickstart)", default="quickstart"
    )
    parser.addini(
        "lab_topologies",
        "patterns of topology files, from the root folder, whose statements are tests (default: none)",
        type="args",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "topology(name): the lab that a test needs: a file beside the test, or a shipped topology"
    )
    config.addinivalue_line(
        "markers", "backends(*names): the back ends that a test runs on (default: netns, for want of a mark)"
    )
    if config.getoption("lab_pause") and getattr(config.option, "numprocesses", None):
        raise pytest.UsageError("--lab-pause asks on the terminal, which workers of xdist do not have")
    try:
        found = (config.rootpath.glob(pattern) for pattern in config.getini("lab_topologies"))
        config.stash[_TOPOLOGIES] = frozenset(itertools.chain.from_iterable(found))
    except (NotImplementedError, ValueError) as error:
        raise pytest.UsageError(f"lab_topologies: {error}: patterns start at the root folder") from error
    if config.getini("lab_scope") not in ("module", "session"):
        raise pytest.UsageError(f"lab_scope is 'module' or 'session', not {config.getini('lab_scope')!r}")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A topology file of the project's: its statements are tests."""
    config = parent.config
    if file_path not in config.stash[_TOPOLOGIES]:
        return None
    from lab.fixtures.statements import TopologyFile

    return TopologyFile.from_parent(
        parent, path=file_path, lab_of=lambda topology, node_id: _up(config, topology, node_id)
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """On another back end than its own a test is skipped; what differs by nature a mark's reason says."""
    backend = config.getoption("lab_backend")
    for item in items:
        mark = item.get_closest_marker("backends")
        if backend not in (mark.args if mark else ("netns",)):
            why = (
                mark.kwargs.get("reason") if mark else None
            ) or "it reaches into namespaces of this machine"
            item.add_marker(pytest.mark.skip(reason=f"not on {backend}: {why}"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A marked test is bound to its topology; pytest keeps tests of the same one together."""
    mark = metafunc.definition.get_closest_marker("topology")
    if mark is None or "lab" not in metafunc.fixturenames:
        return
    if len(mark.args) != 1 or mark.kwargs:
        raise pytest.Collector.CollectError(
            f"{metafunc.definition.nodeid}: the mark `topology` takes one name"
        )
    topology = _beside(metafunc.definition.path.parent, mark.args[0])
    scope = _scope("lab", metafunc.config)
    metafunc.parametrize("lab", [topology], indirect=True, scope=scope, ids=[Path(topology).stem])


def _beside(folder: Path, name: str) -> str:
    """The file of that name in the folder, or else the name, of a shipped topology."""
    file = folder / name
    return str(file) if file.is_file() else name


def _scope(fixture_name: str, config: pytest.Config) -> Literal["module", "session"]:
    return "session" if config.getini("lab_scope") == "session" else "module"


@pytest.fixture(scope=_scope)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """A running lab, of the topology that the test is marked with. What went wrong is in the report."""
    config = request.config
    wanted = getattr(request, "param", None) or _beside(config.rootpath, config.getini("lab_topology"))
    with _up(config, wanted, request.node.nodeid) as made:
        yield made


@contextlib.contextmanager
def _up(config: pytest.Config, topology: str, node_id: str) -> Iterator[Lab]:
    """A lab, settled, for the time of the block, or for longer where labs are kept."""
    from lab.runtime.lab import Lab

    keep = bool(config.getoption("lab_keep"))
    made = Lab.up(topology, f"pytest-{os.getpid()}-{next(_numbers)}", is_tied=not keep)
    try:
        _settle(config, made, node_id)
        yield made
    finally:
        if keep:
            _keep(config, made.name)
        else:
            made.down()


def _keep(config: pytest.Config, name: str) -> None:
    """To be named in the summary; a worker of xdist has none, and hands it over when it ends."""
    config.stash.setdefault(_KEPT, []).append(name)
    if hasattr(config, "workeroutput"):
        config.workeroutput[_KEPT_BY_WORKER] = config.stash[_KEPT]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """xdist: what a worker that has ended kept; one that died says nothing."""
    kept = getattr(node, "workeroutput", {}).get(_KEPT_BY_WORKER, [])
    node.config.stash.setdefault(_KEPT, []).extend(kept)


def _settle(config: pytest.Config, made: Lab, node_id: str) -> None:
    """A lab that does not come to rest is gone before anybody can look at it: the bundle stays."""
    try:
        made.wait_settled()
    except Exception as error:
        error.add_note(_about(made, _bundle_or_why_not(config, made, node_id, failed=True)))
        raise


@pytest.fixture(scope=_scope)
def pods(lab: Lab) -> Pods:
    """The lab's pods by name: `pods["frontend"].resolve("api.example.com")`."""
    from lab.fixtures.pods import Pods

    return Pods(lab)


@pytest.fixture
def taps(lab: Lab) -> Iterator[Taps]:
    """Taps on pods' cables, open until the test ends: `taps("frontend").expect("udp", port=53)`."""
    from lab.fixtures.taps import Taps

    with contextlib.ExitStack() as closing:
        yield Taps(lab, closing)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a reader needs to go on with a failed test: which lab, and the bundle."""
    report = yield
    used = _lab_of(item)
    if used is None or (report.when != "call" and not report.failed):
        return report
    bundle = _bundle_or_why_not(item.config, used, item.nodeid, failed=report.failed)
    if report.failed:
        report.sections.append(("lab", _about(used, bundle)))
        if item.config.getoption("lab_pause"):
            _pause(item.config, used)
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for name in config.stash.get(_KEPT, []):
        terminalreporter.write_line(f"lab {name} is kept: acns-lab lab.status --name {name}")


def _lab_of(item: pytest.Item) -> Lab | None:
    """The lab of ours that a test has, or that it is about."""
    made = getattr(item, "funcargs", {}).get("lab") or getattr(item, "lab", None)
    if made is None or "lab.runtime.lab" not in sys.modules:
        return None
    return made if isinstance(made, sys.modules["lab.runtime.lab"].Lab) else None


def _about(used: Lab, bundle: Path | str | None) -> str:
    lines = [
        f"lab {used.name}, topology {used.topology.name}, pods {', '.join(pod.name for pod in used.pods)}",
        f"bundle: {bundle}" if bundle else "",
    ]
    return "\n".join(filter(None, lines))


def _bundle_or_why_not(config: pytest.Config, used: Lab, test: str, *, failed: bool) -> Path | str | None:
    """The bundle of the lab as it is now, where it is wanted. It must not hide why a test failed."""
    when = config.getoption("lab_captures", "never")
    if when == "never" or (when == "on-failure" and not failed):
        return None
    try:
        return _bundle(config, used, test)
    except Exception as error:  # noqa: BLE001
        return f"none: {type(error).__name__}: {error}"


def _bundle(config: pytest.Config, used: Lab, test: str) -> Path:
    folder = config.rootpath / ".lab-bundles"
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / ".gitignore").write_text("*\n")  # packets and names are nobody's to commit
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", test)[-150:]
    return Path(import_module(_BUNDLES).write(used, folder / f"{name}.zip"))


def _pause(config: pytest.Config, used: Lab) -> None:
    with _on_the_terminal(config):
        print(f"\nlab {used.name} waits: acns-lab lab.shell POD --name {used.name}", flush=True)
        with contextlib.suppress(EOFError):
            input("Enter goes on … ")


@contextlib.contextmanager
def _on_the_terminal(config: pytest.Config) -> Iterator[None]:
    """Standard input and output are the user's, as in a debugger."""
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture:
        capture.suspend(in_=True)
    try:
        yield
    finally:
        if capture:
            capture.resume()
