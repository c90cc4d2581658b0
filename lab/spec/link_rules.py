"""What must hold of the links in a topology: each is of a pod or a node that there is, and says something."""

from __future__ import annotations

from collections.abc import Iterator

from acns.errors import Problem
from acns.located import Document
from lab.spec import findings
from lab.spec.topology import Topology


def check(topology: Topology, document: Document) -> Iterator[Problem]:
    """Every problem with them."""
    nodes = {node.name for node in topology.nodes} | findings.written(document, "nodes")
    written = findings.written(document, "pods")
    for index, link in enumerate(topology.links):
        where = ("links", index, "of")
        if link.of not in nodes:
            yield from findings.known_pod(topology, document, where, link.of, written)
        if not (link.loss or link.rate_kbit or link.delay_ms):
            yield document.problem(
                ("links", index), "this link is as good as any", hint="give loss, rate_kbit or delay_ms"
            )
    links = [(("links", i, "of"), _whole(link.of, topology)) for i, link in enumerate(topology.links)]
    yield from findings.twice(document, "link", links)


def _whole(of: str, topology: Topology) -> str:
    """With the pod's namespace, where it is a pod's and only one is called so."""
    keys = [f"{pod.namespace}/{pod.name}" for pod in topology.pods if pod.name == of]
    is_node = of in (node.name for node in topology.nodes)
    return keys[0] if len(keys) == 1 and not is_node else of
