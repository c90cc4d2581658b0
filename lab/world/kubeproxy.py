"""The lab's kube-proxy: one nftables table per node."""

from __future__ import annotations

from lab.spec.plan import Addressing
from lab.spec.topology import Topology

TABLE = "lab-kube-proxy"


def ruleset_text(topology: Topology, addressing: Addressing, node_name: str) -> str:
    """nft text that replaces the whole table of one node in a single transaction (also when it is absent)."""
    raise NotImplementedError
