"""`python -m lab.bench.kube_part`: a real shim against the synthetic API server, measured from outside.

Both are processes of their own in the namespaces that this was started in. What the shim costs is read from
/proc; an event is in the kernel when the shim says that the last commit went by its version or a newer one.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from acns import settings
from lab.bench import inputs, measure
from lab.bench.cluster import NODE
from lab.bench.kube_cluster import KubeCluster, KubeScale
from lab.bench.measure import Limit, Measure
from lab.bench.shim import StandIns
from lab.errors import AcnsError, ProcessFailed
from lab.kernel import netns
from lab.kernel.links import Links

PART = "kubernetes"
MEMORY_MIB, CORE_PERCENT, IN_KERNEL_MS = Limit(300.0), Limit(30.0), Limit(1_000.0)
_FOLDER = Path("/run")
_TICKS = os.sysconf("SC_CLK_TCK")
_PATIENCE_S, _SETTLE_S, _PEEK_S = 300.0, 10.0, 0.05


class Server:
    """The synthetic API server."""

    def __init__(self, scale: KubeScale) -> None:
        argv = [sys.executable, "-m", "lab.bench.kube_server", json.dumps(scale.as_json())]
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self._lines = self.process.stdout
        self.port = int(json.loads(self._lines.readline())["port"])
        self.url = f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with urllib.request.urlopen(f"{self.url}/start", timeout=30):
            pass

    def beacons(self) -> Iterator[tuple[int, float]]:
        """The version of an event that changes the table, and when it was told."""
        for line in self._lines:
            value = json.loads(line)
            yield value["beacon"], value["at"]


class Shim:
    """`python -m acns.shim`, as on a node."""

    def __init__(self, server: Server, profile: str) -> None:
        kubeconfig = _FOLDER / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(server.url)))
        values = {
            "node": NODE,
            "source": "kubernetes",
            "kubeconfig": str(kubeconfig),
            "profile": profile,
            "state_dir": str(_FOLDER / "state"),
            "fqdndata_socket": str(_FOLDER / "fqdndata"),
            "http_socket": str(_FOLDER / "http"),
            "log_file": str(_FOLDER / "log"),
        }
        file = _FOLDER / "shim.toml"
        file.write_text(settings.render(values))
        self.began = time.monotonic()
        self.process = subprocess.Popen([sys.executable, "-m", "acns.shim", "--settings", str(file)])

    def wait_ready(self) -> float:
        """Seconds from its start until everything is in the kernel."""
        said: Any = "nothing"
        while time.monotonic() - self.began < _PATIENCE_S:
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
            try:
                said = self.readiness()
            except (OSError, http.client.HTTPException):
                continue
            if said["ready"]:
                return time.monotonic() - self.began
        raise ProcessFailed(f"the shim is not ready: {said}", hint=(_FOLDER / "log").read_text()[-2000:])

    def readiness(self) -> Any:
        connection = http.client.HTTPConnection("localhost", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(_FOLDER / "http"))
        connection.request("GET", "/readyz")
        value = json.loads(connection.getresponse().read())
        connection.close()
        return value

    @property
    def committed(self) -> int:
        """The version of the pods that the kernel's table goes by."""
        return int(self.readiness()["manifests"]["pods"])

    @property
    def memory_mib(self) -> float:
        return self._status_kib("VmRSS:") / 1024

    @property
    def peak_mib(self) -> float:
        return self._status_kib("VmHWM:") / 1024

    @property
    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def _status_kib(self, name: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(text.partition(name)[2].split()[0])


def measures(scale: KubeScale) -> Iterator[Measure]:
    cluster = KubeCluster(scale)
    with Links() as links:
        links.up(1)  # lo
    stand_ins = StandIns()
    stand_ins.add(IPv4Address(cluster.address(index)) for index in range(scale.local))
    server = Server(scale)
    shim = Shim(server, inputs.PROFILE.value)
    try:
        yield Measure(
            PART, "all listed and enforced after", shim.wait_ready(), "s", note=f"cpu {shim.cpu_s:.1f} s"
        )
        time.sleep(_SETTLE_S)
        yield Measure(PART, "memory at rest", shim.memory_mib, "MiB", limit=MEMORY_MIB)
        yield from _streaming(scale, server, shim)
    finally:
        shim.process.terminate()
        shim.process.wait()
        server.process.kill()
        server.process.wait()


def _streaming(scale: KubeScale, server: Server, shim: Shim) -> Iterator[Measure]:
    took_ms: list[float] = []
    ended = threading.Event()
    watch = threading.Thread(target=_timed, args=(server, shim, took_ms, ended), daemon=True)
    server.start()
    watch.start()
    time.sleep(_SETTLE_S)
    before, began = shim.cpu_s, time.monotonic()
    time.sleep(scale.seconds)
    share = (shim.cpu_s - before) / (time.monotonic() - began) * 100
    ended.set()
    name = f"{scale.events_per_s} events a second"
    yield Measure(PART, f"{name}: of a core", share, "%", limit=CORE_PERCENT)
    yield measure.of_samples(PART, "event in the kernel", took_ms, "ms", limit=IN_KERNEL_MS)
    yield Measure(PART, "event in the kernel, slowest", max(took_ms), "ms", limit=IN_KERNEL_MS)
    yield Measure(PART, "memory while it streams", shim.memory_mib, "MiB", limit=MEMORY_MIB)
    yield Measure(PART, "memory, most ever", shim.peak_mib, "MiB", limit=MEMORY_MIB)


def _timed(server: Server, shim: Shim, took_ms: list[float], ended: threading.Event) -> None:
    for version, told_at in server.beacons():
        while not ended.is_set() and shim.committed < version:
            time.sleep(_PEEK_S)
        if ended.is_set():
            return
        took_ms.append((time.time() - told_at) * 1e3)


def _kubeconfig(url: str) -> dict[str, Any]:
    return {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "users": [{"name": "u", "user": {"token": "none"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }


def main() -> int:
    request = json.load(sys.stdin)
    try:
        netns.mount("tmpfs", str(_FOLDER), "tmpfs", netns.MS_NOSUID_NODEV_NOEXEC)
        found = list(measures(KubeScale(**request)))
    except AcnsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    json.dump({"measures": [one.as_json() for one in found]}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
