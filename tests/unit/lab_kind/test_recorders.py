"""The recorders' containers: what rights they have, when they are left alone; docker is a stand-in."""

from __future__ import annotations

import pytest

from lab.backends.kind import recorders, store
from lab.backends.kind.kind_lab import KindLab
from lab.capture import commands
from lab.errors import EnvironmentFault, LabNotFound
from lab.spec.load import find_topology, load_topology

from .conftest import Desk

IMAGE = "sha256:" + "1" * 64
NODE, INTERNET = "demo-control-plane", "demo-internet"
EARLIER, LATER = "2026-11-23T15:30:29.284800039Z", "2026-11-23T15:31:02.1Z"


@pytest.fixture
def lab(desk: Desk) -> KindLab:
    made = KindLab(store.of("demo"), load_topology(find_topology("quickstart")))
    made.store.save(made.topology, 1)
    desk.say("docker image inspect", stdout=f"{IMAGE}\n")
    for name in (NODE, INTERNET):
        started(desk, name, LATER)
    return made


def started(desk: Desk, name: str, recorder: str, image: str = IMAGE) -> None:
    """The container `EARLIER`, its recorder when it is said."""
    lines = f"{EARLIER} true sha256:0\n{recorder} true {image}\n"
    desk.say(f"docker inspect --format {name} {name}-recorder", stdout=lines)


def made(desk: Desk) -> list[str]:
    calls = [call["argv"] for call in desk.calls("docker", "run", "--detach")]
    return [argv[argv.index("--name") + 1] for argv in calls]


def test_a_recorder_has_the_network_of_what_it_is_beside_and_one_right(desk: Desk, lab: KindLab) -> None:
    desk.say(f"docker inspect {NODE}-recorder", exit_code=1, stdout=f"{EARLIER} true sha256:0\n")
    recorders.start(lab)
    assert made(desk) == [f"{NODE}-recorder"]
    (argv,) = [call["argv"] for call in desk.calls("docker", "run")]
    said = " ".join(argv)
    for words in (
        f"--network container:{NODE}",
        "--cap-drop ALL --cap-add NET_RAW",
        "--security-opt no-new-privileges",
        "--read-only --tmpfs /run",
        "--label acns-lab/recorder=demo",
    ):
        assert words in said
    assert "--privileged" not in argv
    assert "--volume" not in argv
    assert argv[-1].startswith(
        """printf %s '{"places": {"node/demo-control-plane": "/proc/self/ns/net"}}' > /run/places"""
    )


def test_those_that_hear_what_they_should_keep_what_they_have_heard(desk: Desk, lab: KindLab) -> None:
    recorders.start(lab)
    assert made(desk) == []
    assert not desk.calls("docker", "rm")


@pytest.mark.parametrize(("recorder", "image"), [("2026-11-23T15:30:11.5Z", IMAGE), (LATER, "sha256:older")])
def test_a_node_that_was_started_anew_has_another_network_and_another_image_another_recorder(
    desk: Desk, lab: KindLab, recorder: str, image: str
) -> None:
    started(desk, NODE, recorder, image)
    recorders.start(lab)
    assert made(desk) == [f"{NODE}-recorder"]
    assert desk.calls("docker", "rm", "--force", f"{NODE}-recorder")


def test_those_of_nodes_that_are_gone_end_and_all_do_with_the_lab(desk: Desk, lab: KindLab) -> None:
    listed = f"{NODE}-recorder\n{INTERNET}-recorder\ndemo-worker-recorder\n"
    desk.say("docker ps label=acns-lab/recorder=demo", stdout=listed)
    recorders.start(lab)
    assert [call["argv"][3:] for call in desk.calls("docker", "rm")] == [["demo-worker-recorder"]]
    lab.down()
    (last, *_) = [call["argv"] for call in desk.calls("docker", "rm", INTERNET + "-recorder")]
    assert set(last[3:]) == set(listed.split())


def test_one_that_does_not_come_up_is_named(
    desk: Desk, lab: KindLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorders, "_RETRY_S", 0.0)
    monkeypatch.setattr(recorders, "_TRIES", 2)
    started(desk, NODE, EARLIER)
    desk.say(f"docker exec {NODE}-recorder", exit_code=3, stderr="error: /run/recorder.sock: No such file")
    with pytest.raises(EnvironmentFault, match=f"the recorder of {NODE} does not answer"):
        recorders.start(lab)


def test_a_link_that_is_nobodys_is_said(desk: Desk, lab: KindLab) -> None:
    with pytest.raises(LabNotFound, match="no pod nobody"):
        commands.run(["start", "nobody"], "demo", commands.Typed())
    assert commands.run(["start", "internet"], "demo", commands.Typed()) == 0
    (asked,) = desk.calls("docker", "exec", f"{INTERNET}-recorder", "lab.capture.relay")
    assert '"op": "start"' in asked["argv"][-1]
