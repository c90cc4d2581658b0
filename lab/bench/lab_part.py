"""`python -m lab.bench.lab_part`: one round of the lab's benchmark, in the namespaces it was started in.

The request (`what` and its number) comes on stdin and the seconds it took go to stdout, as JSON. Each round
is a process of its own, and none begins before the kernel has cleared away what those before it have left: it
does that behind everybody's back, with the locks that the next one needs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from acns.errors import AcnsError
from lab.backends.netns import NetnsLab
from lab.backends.order import NO_AGENTS, Order
from lab.errors import ProcessFailed
from lab.kernel import netns
from lab.kernel.links import End, Links
from lab.runtime import state
from lab.runtime.supervise import Reaper, Supervisor
from lab.spec.topology import Topology

_FOLDER = Path("/run")
_PODS_PER_NODE = 250
_FIRST_INDEX = 10
_LOOKS_S = 0.005
_SYSTEM_PYTHON, _SYSTEM_PATH = "/usr/bin/python3", "/usr/sbin:/usr/bin:/sbin:/bin"
_MININET = Path(__file__).with_name("lab_mininet.py")


def main() -> int:
    request = json.load(sys.stdin)
    try:
        netns.mount("tmpfs", str(_FOLDER), "tmpfs", netns.MS_NOSUID_NODEV_NOEXEC)
        for _ in range(2):  # the first may go in the middle of others, the second goes when those are through
            _see_a_namespace_go()
        answer = _ROUNDS[request["what"]](request["number"])
    except AcnsError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    json.dump(answer, sys.stdout)
    return 0


def _see_a_namespace_go() -> None:
    """The kernel takes namespaces down in the order in which they were left, or together."""
    last = netns.on_thread(_bare_namespace)
    with Links() as links:
        links.veth(End(netns.own(), "veth0", _FIRST_INDEX), End(netns.Namespace(last), "eth0", 2))
    os.close(last)
    while any(name == "veth0" for _, name in socket.if_nameindex()):
        time.sleep(_LOOKS_S)


def kernel(count: int) -> dict[str, float]:
    """So many bare network namespaces, and as many bare veth pairs: what no lab can do without."""
    started = time.perf_counter()
    spaces = [netns.on_thread(_bare_namespace) for _ in range(count)]
    made = time.perf_counter()
    with Links() as links, links.batch():
        for number, space in enumerate(spaces):
            here = End(netns.own(), f"veth{number}", _FIRST_INDEX + number)
            links.veth(here, End(netns.Namespace(space), "eth0", 2))
    return {"namespaces_s": made - started, "veths_s": time.perf_counter() - made}


def network(pods: int) -> dict[str, float]:
    """Namespaces, links, addresses and routes of a lab with so many pods."""
    names = [f"n{number}" for number in range(-(-pods // _PODS_PER_NODE))]
    topology = Topology.model_validate(
        {
            "name": "bench",
            "nodes": [{"name": name} for name in names],
            "pods": [{"name": f"p{number}", "node": names[number % len(names)]} for number in range(pods)],
        }
    )
    lab = NetnsLab(state.LabFolder(_FOLDER), Supervisor(Reaper()))
    started = time.perf_counter()
    lab.build_network(Order(topology, {}, NO_AGENTS))
    return {"took_s": time.perf_counter() - started}


def mininet(hosts: int) -> dict[str, float]:
    """So many hosts of Mininet's, on one bridge."""
    argv = [_SYSTEM_PYTHON, str(_MININET), str(hosts)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, env={"PATH": _SYSTEM_PATH})
    if done.returncode:
        raise ProcessFailed(f"Mininet ended with code {done.returncode}", hint="its own words stand above")
    return dict(json.loads(done.stdout))


def _bare_namespace() -> int:
    netns.unshare(netns.CLONE_NEWNET)
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


_ROUNDS = {"kernel": kernel, "network": network, "mininet": mininet}

if __name__ == "__main__":
    sys.exit(main())
