"""From a cluster to what one node enforces, and to what is wrong with it as a whole.

Pure and deterministic: the same cluster gives an equal `NodePolicy`.
"""

from __future__ import annotations

from acns.errors import Problem
from acns.policy import doubts
from acns.policy.cluster import Cluster
from acns.policy.directory import Directory
from acns.policy.meaning import NodeResolver
from acns.policy.model import NodePolicy


def resolve(cluster: Cluster, node_name: str) -> NodePolicy:
    """What the agents of `node_name` need. Never raises for what policies or objects say."""
    directory = Directory(cluster)
    return NodePolicy(
        node=node_name,
        endpoints=tuple(NodeResolver(directory, node_name).endpoints()),
        cluster_addresses=directory.cluster_addresses,
        service_addresses=directory.service_addresses,
        node_addresses=directory.addresses_of(node_name),
    )


def problems(cluster: Cluster) -> list[Problem]:
    """What is wrong or doubtful between the objects of a cluster, over all nodes, sorted."""
    return doubts.problems(Directory(cluster))
