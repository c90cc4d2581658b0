"""The source that the settings name."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from acns.errors import InputError
from acns.shim.settings import ShimSettings
from acns.shim.sources.choosing import source_of
from acns.shim.sources.files import FolderSource
from acns.shim.sources.kubernetes.source import KubernetesSource
from tests.e2e.kubernetes.standin_apiserver import StandInAPIServer


def chosen(tmp_path: Path, **values: str) -> object:
    settings = ShimSettings(node="n", state_dir=str(tmp_path), **values)  # type: ignore[arg-type]
    return source_of(settings, CollectorRegistry(), adopting=False)


def test_files_need_their_folder(tmp_path: Path) -> None:
    assert isinstance(chosen(tmp_path, manifests=str(tmp_path)), FolderSource)
    with pytest.raises(InputError, match="does not exist"):
        chosen(tmp_path, manifests="/nowhere")
    with pytest.raises(ValueError, match="manifests must not be empty"):
        chosen(tmp_path)


async def test_an_api_server_needs_credentials(server: StandInAPIServer, tmp_path: Path) -> None:
    kubeconfig = str(server.kubeconfig(tmp_path / "kubeconfig"))
    assert isinstance(chosen(tmp_path, source="kubernetes", kubeconfig=kubeconfig), KubernetesSource)
    with pytest.raises(InputError, match="Context 'other' not found"):
        chosen(tmp_path, source="kubernetes", kubeconfig=kubeconfig, kube_context="other")
    with pytest.raises(InputError, match="kubeconfig /nonexistent cannot be used"):
        chosen(tmp_path, source="kubernetes", kubeconfig="/nonexistent")
    with pytest.raises(InputError, match="ServiceAccount"):
        chosen(tmp_path, source="kubernetes")
