"""Faults in a lab on kind: what is killed, what is cut and well again, and what is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.backends.kind import cluster, store
from lab.backends.kind.kind_lab import KindLab
from lab.errors import InputError, LabNotFound, ProcessFailed
from lab.runtime.faults import commands
from lab.runtime.faults.model import Options
from lab.spec.load import find_topology, load_topology

from .conftest import Desk, pod

CONTROL, WORKER = "demo-control-plane", "demo-worker"
CONTAINERS = {CONTROL: "0a" * 32, WORKER: "0b" * 32}
AGENTS = [
    pod("acns-system", "acns-shim-aaaaa", CONTROL, "172.18.0.3", container=CONTAINERS[CONTROL]),
    pod("acns-system", "acns-shim-bbbbb", WORKER, "172.18.0.2", container=CONTAINERS[WORKER]),
    pod("acns-system", "acns-resolver-ccccc", WORKER, "172.18.0.2"),
]
BY_GATEWAY = json.dumps([{"dst": "10.244.0.9", "gateway": "172.18.0.1", "dev": "eth0"}])
WEB = [pod("default", "web", CONTROL, "10.244.0.9")]


@pytest.fixture
def two(desk: Desk) -> Desk:
    """A lab that is up, on a node more than its topology has."""
    made = KindLab(store.of("demo"), load_topology(find_topology("quickstart")))
    made.store.save(made.topology, 2)
    desk.say("kubectl get pods -n acns-system", stdout=json.dumps({"items": AGENTS}))
    desk.say("kubectl get pods -n default", stdout=json.dumps({"items": WEB}))
    desk.say("docker exec ip -j route get 10.244.0.9", stdout='[{"dst": "10.244.0.9", "dev": "veth1"}]')
    return desk


def fault(words: str, options: Options | None = None, *, for_s: float | None = None, **more: Any) -> int:
    """As the command line calls it."""
    return commands.fault(words.split(), "demo", options or Options(), for_s, None, **more)


def killed(desk: Desk) -> list[str]:
    """The nodes on which that node's shim was killed, and nothing else was done."""
    by_script = {cluster.kill_script(container): node for node, container in CONTAINERS.items()}
    done = [(call["argv"][3], by_script[call["stdin"]]) for call in desk.calls("docker", "exec")]
    assert all(node == whose for node, whose in done)
    return [node for node, _ in done]


def scripts(desk: Desk, node: str) -> list[str]:
    return [call["stdin"] for call in desk.calls("docker", "exec", "--interactive", node, "sh")]


# --- agents -------------------------------------------------------------------------------------------------


def test_an_agent_is_killed_on_every_node_or_on_the_one_that_is_said(two: Desk) -> None:
    fault("kill shim")
    assert killed(two) == [CONTROL, WORKER]
    for words, option in (("kill shim", "demo-worker"), ("kill shim demo-worker", "")):
        two.forget()
        fault(words, Options(node=option))
        assert killed(two) == [WORKER]
    two.forget()
    fault("kill shim", Options(node="node1"))
    assert killed(two) == [CONTROL], "as the topology calls it"


@pytest.mark.parametrize(
    ("words", "node", "error"),
    [
        ("kill shim", "node9", LabNotFound),
        ("kill shim node1", WORKER, InputError),
        ("kill resolver", WORKER, LabNotFound),  # its container does not run
    ],
)
def test_on_a_node_that_is_none_or_two_nothing_is_killed(
    two: Desk, words: str, node: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        fault(words, Options(node=node))
    assert not killed(two)


def test_what_could_not_be_killed_does_not_keep_the_others_alive(two: Desk) -> None:
    two.say(f"docker exec --interactive {CONTROL} sh", exit_code=1, stderr="no process of 0a0a\n")
    with pytest.raises(ProcessFailed, match="no process of 0a0a"):
        fault("kill shim")
    assert killed(two) == [CONTROL, WORKER]


# --- links --------------------------------------------------------------------------------------------------


def test_a_pods_cable_is_taken_out_and_put_in_again(two: Desk) -> None:
    fault("link down web")
    assert scripts(two, CONTROL) == ["ip link set veth1 down\n"]
    fault("link ok web")
    mending = scripts(two, CONTROL)[-1]
    assert "ip link set veth1 up\nip route replace 10.244.0.9 dev veth1 scope host\n" in mending
    fault("link ok web")
    assert len(scripts(two, CONTROL)) == 2, "nothing is wrong any more"


def test_a_link_that_is_down_may_be_taken_down_again(two: Desk) -> None:
    """Its route is gone, and the node's own must not be taken for it."""
    fault("link down web")
    two.say("docker exec ip -j route get 10.244.0.9", stdout=BY_GATEWAY)
    fault("link down web")
    assert set(scripts(two, CONTROL)) == {"ip link set veth1 down\n"}


def test_a_pod_that_was_made_anew_with_the_same_address_has_another_link(two: Desk) -> None:
    fault("link down web")
    two.say("docker exec ip -j route get 10.244.0.9", stdout='[{"dst": "10.244.0.9", "dev": "veth2"}]')
    fault("link down web")
    assert scripts(two, CONTROL)[-1] == "ip link set veth2 down\n"


def test_the_nodes_own_link_is_never_taken_for_a_pods(two: Desk) -> None:
    two.say("docker exec ip -j route get 10.244.0.9", stdout=BY_GATEWAY)
    with pytest.raises(LabNotFound, match=r"no route to a pod with 10\.244\.0\.9"):
        fault("link down web")
    assert not scripts(two, CONTROL)


def test_a_nodes_link_is_cut_by_rules(two: Desk) -> None:
    fault("link down node1")
    fault("link ok node1")
    assert ['oifname "eth0" drop' in script for script in scripts(two, CONTROL)] == [True, False]


def test_clear_mends_all_links_also_of_a_pod_that_is_gone(two: Desk) -> None:
    fault("link down web")
    fault("link down demo-worker")
    two.say("kubectl get pods -n default", stdout='{"items": []}')
    two.forget()
    fault("clear")
    assert any("ip link set veth1 up" in script for script in scripts(two, CONTROL))
    (rules,) = scripts(two, WORKER)
    assert "delete table inet acns-lab-cordon" in rules
    assert "drop" not in rules
    two.forget()
    fault("clear")
    assert not any("veth1" in script for script in scripts(two, CONTROL)), "that is mended"


# --- what is told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "node", "said"),
    [
        ("kill shim", "demo-worker", {"fault": "kill shim --node demo-worker", "lasts": False}),
        ("kill shim", "", {"fault": "kill shim", "lasts": False}),
        ("link down web", "", {"fault": "link down web", "lasts": True}),
        ("link ok web", "", {"mended": "link web", "lasts": False}),
        ("clear", "", {"mended": "everything", "lasts": False}),
    ],
)
def test_as_json_it_is_told_as_in_a_lab_of_namespaces(
    two: Desk, capsys: pytest.CaptureFixture[str], words: str, node: str, said: dict[str, object]
) -> None:
    assert fault(words, Options(node=node), as_json=True) == 0
    assert json.loads(capsys.readouterr().out) == {"version": 1, "lab": "demo", **said}


@pytest.mark.parametrize(
    ("words", "options", "for_s", "option"),
    [
        ("kill shim", Options(at="internet"), None, "--at"),
        ("kill shim", Options(delay_s=1.0), None, "--delay"),
        ("link down web", Options(share=0.5), None, "--share"),
        ("link down web", Options(), 5.0, "--for"),
        ("link down web", Options(node="node1"), None, "--node"),
        ("clear", Options(node="node1", at="internet"), None, "--node and no --at"),
    ],
)
def test_options_that_would_do_nothing_are_refused_by_name(
    two: Desk, words: str, options: Options, for_s: float | None, option: str
) -> None:
    with pytest.raises(InputError, match=f"on kind `{words}` takes no {option}") as no:
        fault(words, options, for_s=for_s)
    assert no.value.hint
    assert not two.calls()


@pytest.mark.parametrize("words", ["upstream lying", "hang shim", "link lossy web", "kill kubelet", ""])
def test_what_only_namespaces_can_do_is_refused(two: Desk, words: str) -> None:
    with pytest.raises(InputError, match=f"knows no fault '{words}'") as no:
        fault(words)
    assert "clear" in no.value.hint


def test_a_storm_is_refused_by_name(two: Desk) -> None:
    with pytest.raises(InputError, match="--storm"):
        commands.fault([], "demo", Options(), None, 7)
