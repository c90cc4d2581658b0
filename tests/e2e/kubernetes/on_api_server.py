"""A lab's node whose shim follows a stand-in API server: settings and the kernel's table stay the same."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml

from acns import settings
from lab.runtime.lab import Lab
from lab.spec.expect import Row

from ..pair.probes import happens
from .standin_apiserver import StandInAPIServer

PATIENCE_S = 90.0
Value = dict[str, Any]


class OnAPIServer:
    """Use as a context manager; afterwards the lab has its own shim again."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab = lab
        self.node = lab.nodes[0]
        self.server = StandInAPIServer(self._listener(("127.0.0.1", 0)), reopen=self._listener)
        self._folder = folder
        self._process: subprocess.Popen[Any] | None = None

    def __enter__(self) -> OnAPIServer:
        self.node.shim.hold(signal.SIGTERM)
        self.server.__enter__()
        self.server.change(bookmark_s=0.5)
        for value in self.objects():
            self.server.put(value)
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
        self.server.__exit__(*error)
        self.node.shim.start()

    def objects(self) -> list[Value]:
        """What the folder of manifests says."""
        files = sorted(self.node.manifests.glob("*.yaml"))
        found = (value for file in files for value in yaml.safe_load_all(file.read_text()))
        return [each for value in found if value for each in (value.get("items") or [value])]

    def start(self, **changes: object) -> None:
        """The shim, with the settings that it has in the lab, and another source."""
        home = self.node.shim.log_file.parent
        values = tomllib.loads((home / "shim.toml").read_text())
        del values["manifests"]
        kubeconfig = self.server.kubeconfig(self._folder / "kubeconfig")
        values |= {"source": "kubernetes", "kubeconfig": str(kubeconfig), "watch_silence_s": 20.0, **changes}
        file = self._folder / "shim.toml"
        file.write_text(settings.render(values))
        log = self._folder / "shim.log"
        with log.open("ab") as stream:
            self._process = self.node.popen(
                [sys.executable, "-m", "acns.shim", "--settings", str(file)], stderr=stream
            )

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(PATIENCE_S)
            self._process = None

    @property
    def said(self) -> Value:
        """What the shim says of itself; nothing where it is not up."""
        try:
            return dict(self.node.shim.http_get("/readyz").json())
        except (OSError, json.JSONDecodeError):
            return {}

    def feed(self, plural: str) -> Value:
        return dict(self.said.get("source", {}).get("feeds", {}).get(plural, {}))

    def wait_ready(self) -> None:
        assert happens(lambda: self.said.get("ready") is True, PATIENCE_S), self.said
        # The resolver has the snapshot, too.
        assert happens(
            lambda: self.said.get("policy_streams") == 1 and not self.said.get("policy_streams_behind"),
            PATIENCE_S,
        )

    def wait_enforced(self, version: int) -> None:
        """Until the kernel has what the server's history was at then."""

        def is_there() -> bool:
            versions = self.said.get("manifests", {}).values()
            return any(version <= int(each or 0) for each in versions)

        assert happens(is_there, PATIENCE_S), self.said
        self.wait_ready()

    def wrong(self) -> list[Row]:
        """The rows of the lab's truth table that are not as they should be."""
        return [row for row in self.lab.check() if not row.ok]

    def _listener(self, address: tuple[str, int]) -> socket.socket:
        made = self.node.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(address)
        made.listen(64)
        return made
