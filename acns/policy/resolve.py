"""From a cluster to what one node enforces."""
from __future__ import annotations
from acns.errors import Problem
from acns.policy.cluster import Cluster
from acns.policy.model import NodePolicy


def resolve(cluster: Cluster, node_name: str) -> NodePolicy:
    """What the agents of `node_name` need. Never raises: what cannot be expanded is left out, see `problems`."""
    raise NotImplementedError


def problems(cluster: Cluster) -> list[Problem]:
    """What is wrong or doubtful between objects, over all nodes, sorted."""
    raise NotImplementedError
