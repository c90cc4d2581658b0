"""An agent run as its DaemonSet runs it: its command and settings, its capabilities and no other, a read-only
root, folders as mounted, mount and process namespaces of its own (so each is process 1).

What a container runtime adds (the image, cgroups, seccomp) is not here.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from ...unit.deploy import kustomize
from ..resolver.resolver_world import Namespace, until
from .kind_node import START_S

# Everything mounted is the new mount namespace's own; the last mount makes the root read-only.
_SCRIPT = """
mount -t tmpfs none /run && mkdir /run/acns /run/acns-own && mount --bind "$HOST_PATH" /run/acns || exit 9
mount -t tmpfs none /var/lib && mkdir /var/lib/acns && mount --bind "$HOST_STATE" /var/lib/acns || exit 9
mount -o "remount,bind,$STATE_MODE" /var/lib/acns || exit 9
mount -o remount,bind,ro / || exit 9
exec setpriv --bounding-set="$CAPABILITIES" --inh-caps=-all "$@"
"""
_MODULES = {"acns-shim": "acns.shim", "acns-resolver": "acns.resolver"}


class Pod:
    """One pod of a DaemonSet on a node; more of the same may run beside it."""

    def __init__(self, name: str, node: Namespace, host_path: Path, settings: Path) -> None:
        found = kustomize.build(kustomize.DEPLOY / "base")
        (spec,) = [
            one["spec"]["template"]["spec"]
            for one in found
            if (one["kind"], one["metadata"]["name"]) == ("DaemonSet", name)
        ]
        (container,) = spec["containers"]
        self._container: dict[str, Any] = container
        added = container["securityContext"]["capabilities"]["add"]
        program, *arguments = (text.replace("$(NODE_NAME)", "demo-worker") for text in container["command"])
        arguments = [str(settings) if text.startswith("/etc/acns/") else text for text in arguments]
        host_state = host_path.with_name("var-lib-acns")
        host_state.mkdir(exist_ok=True)
        (state,) = [one for one in container["volumeMounts"] if one["mountPath"] == "/var/lib/acns"]
        environment = {
            "HOST_PATH": str(host_path),
            "HOST_STATE": str(host_state),
            "STATE_MODE": "ro" if state.get("readOnly") else "rw",
            "CAPABILITIES": ",".join(["-all", *(f"+{one.lower()}" for one in added)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.process = subprocess.Popen(
            [
                *node.command,
                *("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child"),
                *("sh", "-c", _SCRIPT, "sh", sys.executable, "-m", _MODULES[program], *arguments),
            ],
            env={**os.environ, **environment},
        )
        until(lambda: self._inside() or self.process.poll() is not None, "the pod's first process", START_S)

    def _inside(self) -> str:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        found = children.read_text().split() if children.exists() else []
        return found[0] if found else ""

    def status(self, probe: str) -> bool:
        """What the kubelet would find."""
        *_, path, page = self._container[f"{probe}Probe"]["exec"]["command"]
        inside = self._inside()
        if not inside:
            return False
        command = ["nsenter", f"--target={inside}", "--mount", sys.executable, "-m", "acns.telemetry.probe"]
        return subprocess.run([*command, path, page], capture_output=True, check=False).returncode == 0

    def capabilities(self) -> int:
        """Of its first process, as a mask."""
        status = Path(f"/proc/{self._inside()}/status").read_text()
        return next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))

    def is_running(self) -> bool:
        return self.process.poll() is None

    def delete(self) -> int:
        """As the kubelet does it: SIGTERM; its exit code."""
        if inside := self._inside():
            os.kill(int(inside), signal.SIGTERM)
        return self.process.wait(20)

    def kill(self) -> None:
        """All of it, when this returns."""
        with contextlib.ExitStack() as ended:
            for child in self._all_inside():
                ended.callback(until, lambda pid=child: not Path(f"/proc/{pid}").exists(), "ended")
            self.process.kill()
            self.process.wait()

    def _all_inside(self) -> list[str]:
        first = self._inside()
        children = Path(f"/proc/{first}/task/{first}/children")
        return [first, *children.read_text().split()] if first else []
