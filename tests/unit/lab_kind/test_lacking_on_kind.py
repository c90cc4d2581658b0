"""What a lab on kind lacks, or is not to be: each said in a line, with what to do."""

from __future__ import annotations

import json

import pytest

from lab.backends.kind import machine
from lab.backends.kind.kind_lab import KindLab
from lab.errors import EnvironmentFault, InputError, ProcessFailed

from .conftest import Desk, lab, topology


@pytest.mark.parametrize("program", ["docker", "kind", "kubectl"])
def test_a_missing_program_is_one_line_and_exit_code_3(desk: Desk, program: str) -> None:
    (desk.folder / "bin" / program).unlink()
    with pytest.raises(EnvironmentFault, match=f"^{program} is not on PATH") as raised:
        lab().up()
    assert raised.value.exit_code == 3
    assert not desk.calls("kind", "create")


def test_a_daemon_that_does_not_run_is_one_line(desk: Desk) -> None:
    desk.say("docker version", "docker-version-not-running")
    with pytest.raises(EnvironmentFault, match="the Docker daemon does not run"):
        lab().up()
    desk.say("docker version", stdout="")
    desk.say("kind get nodes", "kind-create-docker-not-running")
    with pytest.raises(EnvironmentFault, match="the Docker daemon does not run"):
        lab().up()


_SOCKET = "unix:///var/run/docker.sock"
_DIAL = "dial unix /var/run/docker.sock: connect:"


@pytest.mark.parametrize("program", ["docker version", "kind get nodes"])
@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            f"failed to connect to the docker API at {_SOCKET}; check if the path is correct and if the "
            f"daemon is running: {_DIAL} no such file or directory",
            "the Docker daemon does not run",
        ),
        (
            f"failed to connect to the docker API at {_SOCKET}; check if the path is correct and if the "
            f"daemon is running: {_DIAL} connection refused",
            "the Docker daemon does not run",
        ),
        (
            f"permission denied while trying to connect to the docker API at {_SOCKET}",
            "this user may not reach the Docker daemon",
        ),
        (
            f"permission denied while trying to connect to the Docker daemon socket at {_SOCKET}: "
            f'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.51/version": {_DIAL} permission denied',
            "this user may not reach the Docker daemon",
        ),
    ],
)
def test_what_dockers_of_today_say_is_understood(desk: Desk, program: str, said: str, told: str) -> None:
    desk.say(program, exit_code=1, stderr=f"{said}\n")
    with pytest.raises(EnvironmentFault, match=told) as raised:
        lab().up()
    assert (raised.value.exit_code, bool(raised.value.hint)) == (3, True)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("failed to detect containerd snapshotter", "this kind is older than the node image"),
        ("unknown containerd config version: 4", "this kind is older than the node image"),
        ("Command Output: ctr: content digest sha256:44b2c602: not found", "containerd image store"),
        (
            "failed to detect containerd snapshotter: command docker exec demo-worker failed with: exit "
            "status 1: Error response from daemon: container 4711 is not running",
            "a node of the cluster does not run",
        ),
    ],
)
def test_why_kind_cannot_load_an_image_is_said(desk: Desk, up: KindLab, said: str, told: str) -> None:
    desk.say("kind load docker-image", exit_code=1, stderr=f"ERROR: {said}\n")
    with pytest.raises(EnvironmentFault, match=told):
        up.up()


def test_an_api_server_that_is_down_when_something_is_applied_is_told(desk: Desk, up: KindLab) -> None:
    """As kubectl 1.36.3 says it."""
    said = (
        'error validating "STDIN": error validating data: failed to download openapi: Get '
        '"https://127.0.0.1:1/openapi/v2?timeout=32s": dial tcp 127.0.0.1:1: connect: connection refused; if '
        "you choose to ignore these errors, turn validation off with --validate=false"
    )
    desk.say("kubectl apply", exit_code=1, stderr=f"error: {said}\n")
    with pytest.raises(EnvironmentFault, match="API server does not answer"):
        up.up()


def test_what_refuses_a_connection_inside_of_a_pod_is_not_told_as_the_api_server(
    desk: Desk, up: KindLab
) -> None:
    desk.say("kubectl apply", exit_code=1, stderr="error: dial tcp 10.244.0.7:80: connection refused\n")
    with pytest.raises(ProcessFailed, match="connection refused"):
        up.up()


def test_a_registry_that_refuses_the_connection_is_not_told_as_the_api_server(
    desk: Desk, up: KindLab
) -> None:
    said = 'failed to do request: Head "https://registry.example/v2/": dial tcp: connect: connection refused'
    desk.say("docker build", exit_code=1, stderr=f"ERROR: {said}\n")
    with pytest.raises(ProcessFailed, match=r"registry\.example"):
        up.up()


def test_too_little_memory_or_disk_is_one_line(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.say("docker info", stdout=json.dumps({"MemTotal": 512 << 20}))
    with pytest.raises(EnvironmentFault, match="too little memory: Docker has 512 MiB, 1 nodes want 1024"):
        machine.check(1)
    desk.say("docker info", stdout=json.dumps({"MemTotal": 8 << 30, "DockerRootDir": str(desk.folder)}))
    usage = type("Usage", (), {"free": 1 << 30})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(EnvironmentFault, match="too little disk: 1024 MiB free"):
        machine.check(1)


def test_a_node_image_of_ones_own_is_used_as_it_is_named() -> None:
    own = "registry.example/kindest/node:v1.33.1@sha256:" + "0" * 64
    assert machine.image(own) == own
    assert machine.image("v1.33.1") == "kindest/node:v1.33.1"


@pytest.mark.parametrize(
    "version", ["1.28.0", "v1.19.16", "1.33", "latest", "kindest/node:v1.28.0", "registry.example/node"]
)
def test_a_version_that_is_too_old_or_is_none_is_refused_before_anything_else(
    desk: Desk, version: str
) -> None:
    with pytest.raises(EnvironmentFault) as raised:
        lab().up(version=version)
    assert raised.value.hint
    assert not desk.calls()


def test_an_image_that_is_not_there_and_an_api_server_that_is_down_are_told(desk: Desk, up: KindLab) -> None:
    desk.say("kind load docker-image", "kind-load-docker-image-missing")
    with pytest.raises(ProcessFailed, match="not present locally"):
        up.up()
    desk.say("kubectl get pods", "kubectl-server-down")
    with pytest.raises(EnvironmentFault, match="API server does not answer"):
        up.status()


def test_fewer_nodes_than_the_topologys_are_refused(desk: Desk) -> None:
    with pytest.raises(InputError, match="the topology has 2 nodes"):
        lab(topology("two-nodes")).up(nodes=1)


def test_what_a_cluster_cannot_do_is_refused_by_name(desk: Desk) -> None:
    with pytest.raises(InputError, match="fault at the start"):
        lab(topology("failover")).up()
    assert not desk.calls()
