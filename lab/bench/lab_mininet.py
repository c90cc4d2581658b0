"""Mininet builds as many hosts on one bridge: what the lab's network is compared with.

Run by the system's Python, which has Debian's Mininet, as a file: nothing of this project is imported. It
runs in network and mount namespaces of its own. Mininet would also raise limits of the whole machine: not
here.
"""

import json
import sys
import time

import mininet.net
from mininet.nodelib import LinuxBridge
from mininet.topo import SingleSwitchTopo


def main() -> None:
    """Hosts from the command line; seconds go to stdout, as JSON."""
    hosts = int(sys.argv[1])
    mininet.net.fixLimits = lambda: None
    started = time.perf_counter()
    network = mininet.net.Mininet(topo=SingleSwitchTopo(k=hosts), switch=LinuxBridge, controller=None)
    network.start()
    took_s = time.perf_counter() - started
    json.dump({"took_s": took_s}, sys.stdout)
    network.stop()


if __name__ == "__main__":
    main()
