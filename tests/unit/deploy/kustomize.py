"""As much of kustomize as `deploy/` uses, for machines without kubectl; what it does not know is an error.

Where kubectl is on PATH a test compares the two.
"""

from __future__ import annotations

import copy
import functools
import hashlib
from pathlib import Path
from typing import Any

import yaml

from acns import located

DEPLOY = Path(__file__).parents[3] / "deploy"
Manifest = dict[str, Any]
_CLUSTER_WIDE = {"Namespace", "ClusterRole", "ClusterRoleBinding", "CustomResourceDefinition"}
_KNOWN = {"apiVersion", "kind", "resources", "namespace", "labels", "configMapGenerator", "images", "patches"}


def load_all(text: str) -> list[Manifest]:
    """The manifests of a text."""
    return list(yaml.load_all(text, located.Loader))


def build(folder: Path) -> list[Manifest]:
    """The manifests of a folder with a kustomization."""
    return copy.deepcopy(_built(folder))


@functools.cache
def _built(folder: Path) -> list[Manifest]:
    said = yaml.safe_load((folder / "kustomization.yaml").read_text())
    assert set(said) <= _KNOWN, f"{folder}: {set(said) - _KNOWN} not known here"
    found: list[Manifest] = []
    for name in said.get("resources", ()):
        path = (folder / name).resolve()
        found += build(path) if path.is_dir() else load_all(path.read_text())
    renamed = {}
    for generated in said.get("configMapGenerator", ()):
        data = {name: (folder / name).read_text() for name in generated["files"]}
        name = f"{generated['name']}-{hashlib.sha256(repr(data).encode()).hexdigest()[:10]}"
        renamed[generated["name"]] = name
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
    for one in found:
        if "namespace" in said and one["kind"] not in _CLUSTER_WIDE:
            one["metadata"]["namespace"] = said["namespace"]
        for labels in said.get("labels", ()):
            assert set(labels) == {"pairs"}
            one["metadata"].setdefault("labels", {}).update(labels["pairs"])
    return [
        _patched(_replaced(one, renamed, said.get("images", ())), said.get("patches", ())) for one in found
    ]


def _replaced(one: Manifest, renamed: dict[str, str], images: list[dict[str, str]]) -> Manifest:
    if one["kind"] != "DaemonSet":
        return one
    spec = one["spec"]["template"]["spec"]
    for volume in spec["volumes"]:
        if config := volume.get("configMap"):
            config["name"] = renamed.get(config["name"], config["name"])
    for container in spec["containers"]:
        for image in images:
            if container["image"] == image["name"]:
                container["image"] = f"{image.get('newName', image['name'])}:{image['newTag']}"
    return one


def _patched(one: Manifest, patches: list[dict[str, Any]]) -> Manifest:
    made = copy.deepcopy(one)
    for patch in patches:
        target = patch["target"]
        if (
            target["kind"] == one["kind"]
            and target.get("name", one["metadata"]["name"]) == one["metadata"]["name"]
        ):
            for step in yaml.safe_load(patch["patch"]):
                assert step["op"] == "add"
                _add(made, step["path"].split("/")[1:], step["value"])
    return made


def _add(at: Any, path: list[str], value: Any) -> None:
    for key in path[:-1]:
        at = at[int(key) if isinstance(at, list) else key]
    if isinstance(at, list):
        assert path[-1] == "-"
        at.append(value)
    else:
        at[path[-1]] = value
