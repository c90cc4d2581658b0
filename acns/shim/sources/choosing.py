"""The source that the settings name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prometheus_client import CollectorRegistry

from acns.policy.profiles import Profile
from acns.shim.settings import ShimSettings
from acns.shim.sources import Source, files, memory


def source_of(
    settings: ShimSettings,
    registry: CollectorRegistry,
    *,
    adopting: bool,
    fence: Callable[[], object] = lambda: None,
) -> Source:
    """`adopting`: the kernel enforces already what an earlier run read there. `fence` raises EnvironmentFault
    where this process may write no more. Raises InputError for one that cannot be read at all: a shim with it
    is not to take the place of one that can."""
    state_dir, profile = Path(settings.state_dir), Profile(settings.profile)
    if settings.source == "files":
        folder = Path(settings.manifests)
        files.check(folder)
        return files.FolderSource(
            folder,
            profile,
            state_dir / memory.FILE,
            settings.settle_ms / 1000,
            adopting=adopting,
            fence=fence,
        )
    # The client library is half a second and 15 MiB that nobody else needs.
    from acns.shim.sources.kubernetes import api, metrics, source

    config = api.configuration(settings.kubeconfig, settings.kube_context)
    return source.KubernetesSource(
        api.API(config, settings.watch_silence_s),
        profile,
        state_dir / "kubernetes.log",
        metrics.KubernetesMetrics(registry),
        adopting=adopting,
        fence=fence,
        report_as=settings.report_as,
    )
