"""What must hold of the faults in a topology: they read as those of `lab.fault` do, and hit what there is."""

from __future__ import annotations

from collections.abc import Iterator

from acns.errors import InputError, Problem
from acns.located import Document, did_you_mean
from acns.located import Path as Where
from lab.spec import findings
from lab.spec.topology import DNSProgram, Topology


def check(topology: Topology, document: Document) -> Iterator[Problem]:
    """Every problem with them."""
    for index, text in enumerate(topology.faults):
        yield from _fault(text, topology, document, ("faults", index))
    faults = ((("faults", i), " ".join(text.split())) for i, text in enumerate(topology.faults))
    yield from findings.twice(document, "fault", faults)


def _fault(text: str, topology: Topology, document: Document, where: Where) -> Iterator[Problem]:
    from lab.runtime.faults import model  # what faults there are is the runtime's to say

    try:
        fault = model.read(text)
    except InputError as error:
        yield document.problem(where, error.message, hint=error.hint.replace("\n", "; "))
        return
    match fault:
        case model.AgentFault(node=node):
            yield from _node(node, topology, document, where)
        case model.UpstreamFault(place=place):
            servers = [pod.name for pod in topology.pods if isinstance(pod.program, DNSProgram)]
            if place and place.rpartition("/")[2] not in (*servers, "internet"):
                hint = did_you_mean(place, (*servers, "internet"))
                yield document.problem(where, f"there is no DNS server '{place}'", hint=hint)
        case model.LinkFault(place=place):
            if place not in findings.written(document, "nodes"):
                yield from findings.known_pod(
                    topology, document, where, place, findings.written(document, "pods")
                )
        case model.Mending():
            yield document.problem(where, f"'{text}' mends; a lab begins with nothing broken")


def _node(node: str, topology: Topology, document: Document, where: Where) -> Iterator[Problem]:
    known = findings.written(document, "nodes")
    if node and node not in known:
        yield findings.unknown(document, where, "node", node, known)
    elif not node and len(topology.nodes) > 1:
        yield document.problem(where, "which node?", hint=f"--node {topology.nodes[0].name}, say")
