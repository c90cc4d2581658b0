"""What is to be known of a running lab beside an answer about it: manifests that are not in force, and shims
that may not be able to say what they know."""

from __future__ import annotations

from collections.abc import Iterator

from lab.runtime.outside import WARNING
from lab.spec.status import NodeStatus, Status


def remarks(found: Status) -> Iterator[str]:
    """Of shims of several nodes that say the same, once."""
    problems = dict.fromkeys(found.problems)
    errors = [problem for problem in problems if WARNING not in problem]
    for problem in errors:
        yield f"not in force: {problem}"
    if len(problems) > len(errors):
        yield f"{len(problems) - len(errors)} warnings: lab.status says which"
    for node in found.nodes:
        yield from _of_shim(node)


def _of_shim(node: NodeStatus) -> Iterator[str]:
    for agent in node.agents:
        if agent.name == "shim" and agent.health != "ready":
            yield (
                f"the shim of {node.name} is {agent.health}: addresses that it does not tell of are those "
                "that its kernel's set holds"
            )
