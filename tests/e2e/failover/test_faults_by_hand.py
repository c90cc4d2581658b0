"""`lab.fault`: each fault does what it says to a running lab, and `clear` has all well again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from lab.runtime.faults import commands, inflict
from lab.runtime.faults.model import AgentFault, LinkFault, Mending
from lab.runtime.faults.storm import storm

from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR
from .outage import PATIENCE_S, Place

pytestmark = pytest.mark.root

STORM_S = 12.0


def invoke() -> str:
    return str(Path(sys.executable).with_name("invoke"))


def fault(place: Place, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, as a person gives it."""
    command = [invoke(), "lab.fault", *words, "--name", place.lab.name]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def states(place: Place) -> dict[str, str]:
    return {one.name: one.state for one in place.lab.processes()}


def test_a_killed_agent_is_started_again_and_its_restarts_are_shown(place: Place) -> None:
    before = place.node.resolver.restarts
    assert fault(place, "kill", "resolver").returncode == 0
    assert happens(lambda: place.node.resolver.restarts == before + 1, PATIENCE_S)
    place.wait_well()
    (shown,) = [one for one in place.lab.status().nodes[0].agents if one.name == "resolver"]
    assert shown.restarts == before + 1


@pytest.mark.parametrize("action", ["kill", "hang"])
def test_an_agent_that_is_down_cannot_be_hit_again(place: Place, action: str) -> None:
    with commands.lasting(place.lab, AgentFault("stop", "shim", "node1")):
        done = fault(place, action, "shim")
        assert (done.returncode, "node1/shim is held: it has no process" in done.stderr) == (2, True)
    place.wait_well()


def test_a_fault_whose_command_is_told_to_end_is_mended_first(place: Place) -> None:
    command = [invoke(), "lab.fault", "hang", "shim", "--for", "60", "--name", place.lab.name]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert running.stderr.readline() == "hang shim --node node1: for 60 s\n"
        running.terminate()
    assert running.returncode == 143
    place.wait_well()


def test_a_stopped_agent_stays_down_until_it_may_go_on(place: Place) -> None:
    assert fault(place, "stop", "shim").returncode == 0
    assert states(place)["node1/shim"] == "held"
    assert fault(place, "cont", "shim").returncode == 0
    place.wait_well()


def test_a_hung_agent_does_not_answer_and_goes_on_after_its_time(place: Place) -> None:
    pid = place.node.shim.pid
    done = fault(place, "hang", "shim", "--for", "0.5")
    assert (done.returncode, done.stderr) == (0, "hang shim --node node1: for 0.5 s\n")
    place.wait_well()
    assert place.node.shim.pid == pid


def test_an_upgraded_resolver_is_another_process_and_no_restart(place: Place) -> None:
    before, restarts = place.node.resolver.pid, place.node.resolver.restarts
    assert fault(place, "upgrade", "resolver").returncode == 0
    assert place.node.resolver.pid not in (None, before)
    assert place.node.resolver.restarts == restarts
    name, address = place.take()
    assert place.sides.ask(name) == Answer(NOERROR, (address,))
    place.node.resolver.kill()  # the supervisor goes by the new one
    assert happens(lambda: place.node.resolver.restarts == restarts + 1, PATIENCE_S)
    place.wait_well()


def test_a_cable_that_is_cut_carries_nothing_until_it_is_mended(place: Place) -> None:
    known = place.learn()
    with commands.lasting(place.lab, LinkFault("down", "default/batch", 1.0)):
        place.sides.wire.syn(known, 443)
        name, _ = place.take()
        assert place.sides.ask(name) == Answer(None)
    assert place.open(known=known) == {known}


def test_a_lossy_cable_loses_about_its_share(place: Place) -> None:
    with commands.lasting(place.lab, LinkFault("lossy", "default/batch", 0.5)):
        rules = place.node.ruleset()
    assert "numgen random mod 1000000 < 500000" in rules
    assert "lab_fault" not in place.node.ruleset()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["hang", "kubelet"], "hang cannot be 'kubelet'"),
        (["hang", "shim", "--node", "node7"], "no node node7"),
        (["hang", "shim", "--for", "0"], "--for is in seconds"),
        (["hang", "shim", "--for", "soon"], "--for is no number: 'soon'"),
        (["kill", "shim", "--for", "3"], "is over at once, and takes no --for"),
        (["link", "down", "nobody"], "no pod nobody"),
        (["upstream", "slow", "--at", "frontend"], "no DNS server 'frontend'"),
        ([], "no fault is called ''"),
    ],
)
def test_what_cannot_be_broken_is_refused_and_nothing_happens(
    place: Place, words: Sequence[str], said: str
) -> None:
    done = fault(place, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert set(states(place).values()) == {"ready"}


def test_a_storm_is_printed_as_it_was_drawn_and_leaves_all_well(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = storm(5, STORM_S, commands.targets(place.lab))
    commands.run(place.lab, steps)
    assert capsys.readouterr().out.splitlines() == [str(step) for step in steps]
    place.wait_well()
    assert set(states(place).values()) == {"ready"}
    assert all("lab_fault" not in one.ruleset() for one in (place.node, place.lab.internet, *place.lab.pods))
    assert list(place.lab.folder.path.glob("fault-*.json")) == []
    known = place.learn()
    assert place.open(known=known) == {known}


def test_clear_may_be_done_where_nothing_is_wrong(place: Place) -> None:
    inflict.mend(place.lab, Mending("everything"))
    assert set(states(place).values()) == {"ready"}
