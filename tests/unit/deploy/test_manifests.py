"""What is delivered: manifests that Kubernetes takes, with no more rights than the agents use."""

from __future__ import annotations

import ast
import itertools
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from acns import settings
from acns.resolver.settings import ResolverSettings
from acns.shim.settings import ShimSettings
from acns.shim.sources.kubernetes import resources

from . import kustomize
from .kustomize import DEPLOY, Manifest

FOLDERS = ("base", "agents", "overlays/kind", "overlays/profile-cilium")
VERSIONS = ("1.29", "1.33", "1.36")
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
CASES = [*((FOLDERS[0], version) for version in VERSIONS), *((folder, "1.36") for folder in FOLDERS[1:])]


def daemon_set(name: str, folder: str = "base") -> Manifest:
    made = kustomize.build(DEPLOY / folder)
    return next(one for one in made if (one["kind"], one["metadata"]["name"]) == ("DaemonSet", name))


def container(name: str, folder: str = "base") -> Manifest:
    (found,) = daemon_set(name, folder)["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(("folder", "version"), CASES)
def test_every_manifest_is_one_of_that_kubernetes_without_an_unknown_field(folder: str, version: str) -> None:
    manifests = kustomize.build(DEPLOY / folder)
    assert len(manifests) == (8 if folder == "agents" else 11)
    for one in manifests:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_agents_alone_leave_the_policy_kinds_of_a_cluster_alone() -> None:
    made, alone = ({_name(one) for one in kustomize.build(DEPLOY / folder)} for folder in ("base", "agents"))
    assert {kind for kind, _ in made - alone} == {"CustomResourceDefinition"}
    assert alone < made


def _name(one: Manifest) -> tuple[str, str]:
    return one["kind"], one["metadata"]["name"]


@pytest.mark.skipif(not shutil.which("kubectl"), reason="no kubectl on PATH")
@pytest.mark.parametrize("folder", FOLDERS)
def test_kubectl_makes_the_same_of_them(folder: str) -> None:
    """But for the suffix of the ConfigMap's name, a digest of kustomize's own."""
    command = ["kubectl", "kustomize", str(DEPLOY / folder)]
    text = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert normal(kustomize.load_all(text)) == normal(kustomize.build(DEPLOY / folder))


def normal(manifests: list[Manifest]) -> dict[tuple[str, str], str]:
    def plain(text: str) -> str:
        return re.sub(r"acns-settings-\w{10}", "acns-settings-DIGEST", text)

    return {
        (one["kind"], plain(one["metadata"]["name"])): plain(json.dumps(one, sort_keys=True))
        for one in manifests
    }


@pytest.mark.parametrize(
    ("name", "wanted"),
    [("acns-shim", {"NET_ADMIN"}), ("acns-resolver", {"NET_ADMIN", "NET_RAW", "NET_BIND_SERVICE"})],
)
def test_an_agent_has_its_capabilities_a_read_only_root_and_nothing_else(name: str, wanted: set[str]) -> None:
    pod = daemon_set(name)["spec"]["template"]["spec"]
    context = container(name)["securityContext"]
    assert context["capabilities"]["drop"] == ["ALL"]
    assert set(context["capabilities"]["add"]) == wanted
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert "privileged" not in context
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["priorityClassName"] == "system-node-critical"
    assert pod["hostNetwork"] is True
    assert not pod.get("hostPID")
    paths = [one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one]
    assert paths == ["/run/acns", "/var/lib/acns"]
    writable = {one["mountPath"] for one in container(name)["volumeMounts"] if not one.get("readOnly")}
    own = {"acns-shim": "/var/lib/acns", "acns-resolver": "/run/acns-own"}[name]
    assert writable == {"/run/acns", own, "/tmp"}


def test_what_the_shim_remembers_outlives_a_reboot_and_the_resolver_reads_it_there() -> None:
    shim, resolver = (
        tomllib.loads((DEPLOY / "agents" / f"{name}.toml").read_text()) for name in ("shim", "resolver")
    )
    assert shim["state_dir"].startswith("/var/lib/"), "/run is lost at a reboot"
    assert resolver["shim_ledger"] == f"{shim['state_dir']}/ledger.log"


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("agent", ["shim", "resolver"])
def test_the_settings_delivered_are_the_agents_own(agent: str, folder: str) -> None:
    kind = {"shim": ShimSettings, "resolver": ResolverSettings}[agent]
    command = container(f"acns-{agent}", folder)["command"]
    overrides = [text for flag, text in itertools.pairwise(command) if flag == "--set"]
    given: dict[str, str] = dict(text.partition("=")[::2] for text in overrides)  # type: ignore[misc]
    loaded: Any = settings.load(kind, DEPLOY / "agents" / f"{agent}.toml", given)
    mounted = {one["mountPath"] for one in container(f"acns-{agent}", folder)["volumeMounts"]}
    for name, value in tomllib.loads((DEPLOY / "agents" / f"{agent}.toml").read_text()).items():
        if isinstance(value, str) and ("/run" in value or "/var" in value):
            assert str(Path(value.removeprefix("unix:"))).startswith(tuple(mounted)), name
    if agent == "shim":
        assert loaded.source == "kubernetes"
        assert loaded.profile == ("cilium" if folder.endswith("cilium") else "acns")


def test_probes_ask_the_socket_that_the_settings_name() -> None:
    for agent in ("shim", "resolver"):
        values = tomllib.loads((DEPLOY / "agents" / f"{agent}.toml").read_text())
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            *_, path, page = container(f"acns-{agent}")[probe]["exec"]["command"]
            assert path == values["http_socket"]
            assert page == ("/readyz" if probe == "readinessProbe" else "/healthz")


def test_updates_let_two_resolvers_and_never_two_shims_on_a_node() -> None:
    resolver, shim = (daemon_set(name)["spec"] for name in ("acns-resolver", "acns-shim"))
    assert resolver["updateStrategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert shim["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert "ports" not in container("acns-resolver"), "a host port keeps the second one off the node"
    assert "--takeover" in container("acns-resolver")["command"]
    values = tomllib.loads((DEPLOY / "agents" / "resolver.toml").read_text())
    assert values["outlive_handover"] is True
    assert not values["http_socket"].startswith("/run/acns/"), "each is asked for itself"


# --- rights -------------------------------------------------------------------------------------------------


def granted() -> set[tuple[str, str, str]]:
    (role,) = [one for one in kustomize.build(DEPLOY / "base") if one["kind"] == "ClusterRole"]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def test_the_rights_are_those_that_the_source_uses_and_no_other() -> None:
    watched = {
        (one.group, one.plural, verb)
        for versions in resources.WATCHED
        for one in versions
        for verb in ("list", "watch")
    }
    told = {(one.group, f"{one.plural}/status", "patch") for one in resources.POLICIES if one.custom}
    events = {(resources.EVENTS.group, resources.EVENTS.plural, "create")}
    assert granted() == watched | told | events


def test_no_right_is_for_everything_or_for_secrets() -> None:
    for right in granted():
        assert "*" not in right
        assert right[1] not in ("secrets", "configmaps", "pods/exec")
    bound = [one for one in kustomize.build(DEPLOY / "base") if one["kind"] == "ClusterRoleBinding"]
    assert [subject["name"] for one in bound for subject in one["subjects"]] == ["acns-shim"]


# --- the image ----------------------------------------------------------------------------------------------


def test_the_image_is_pinned_labelled_and_without_rights_unless_told() -> None:
    lines = DOCKERFILE.splitlines()
    (base,) = [line for line in lines if line.startswith("ARG BASE=")]
    assert re.fullmatch(r"ARG BASE=debian:bookworm-\d{8}-slim", base)
    stages = [number for number, line in enumerate(lines) if line.startswith("FROM ")]
    assert lines[stages[-1] :] == ["FROM agents"], "what is built where no target is named"
    agents = lines[lines.index("FROM debian AS agents") :]
    agents = agents[: next(number for number, line in enumerate(agents[1:], 1) if line.startswith("FROM "))]
    assert "USER 65532:65532" in agents
    for label in ("title", "description", "licenses", "version", "revision"):
        assert any(f"org.opencontainers.image.{label}=" in line for line in agents), label
    assert not [line for line in lines if "pip install" in line and "--no-cache-dir" not in line]


def test_any_builder_builds_the_image_and_the_agents_without_the_labs_stages() -> None:
    """The builder that Docker had before BuildKit knows no flag of RUN's, no heredoc, no other syntax; and it
    makes every stage above the target."""
    assert not re.findall(r"^(?:RUN --|ADD --|COPY --(?!from)|# *syntax|.*<<)", DOCKERFILE, re.M)
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.M)
    assert stages == ["debian", "agents-wheels", "agents", "lab-wheels", "lab"]


def test_the_agents_image_has_what_they_import_and_no_more() -> None:
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    agents = project["optional-dependencies"]["agents"]
    assert set(agents) <= set(project["dependencies"]), "one pin for both"
    wanted = {PACKAGES.get(name, name) for name in imported(DEPLOY.parent / "acns")} - {"grpc_tools"}
    assert {re.split(r"[=<>]", one)[0] for one in agents} == wanted


PACKAGES = {
    "google": "protobuf", "grpc": "grpcio", "nftables": "pip-nftables", "prometheus_client":
    "prometheus-client", "yaml": "PyYAML", "pydantic_core": "pydantic",
}  # fmt: skip


def imported(folder: Path) -> set[str]:
    """The packages of others that the modules there import, wherever in them."""
    found = set[str]()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {one.name.partition(".")[0] for one in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"acns"}


def test_what_the_image_is_made_of_is_not_ignored() -> None:
    kept = [
        line[1:] for line in (DEPLOY.parent / ".dockerignore").read_text().splitlines() if line[:1] == "!"
    ]
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.M)
    assert {name for names in copied for name in names.split()} <= set(kept)
    assert all((DEPLOY.parent / name).exists() for name in kept)
