"""`invoke lab.ruleset [POD]`: the kernel's rules of a running lab, with the policies behind them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence

from lab.errors import AcnsError, InputError
from lab.policy_tools.node_state import Meaning, NodeState
from lab.report import ruleset as report
from lab.runtime.commands import FORMAT_VERSION, remark
from lab.runtime.handles import NodeHandle
from lab.runtime.lab import Lab


def run(words: Sequence[str], name: str | None, *, as_json: bool) -> int:
    """The pod's part, or all nodes'. Raises InputError for more words than one."""
    if len(words) > 1:
        raise InputError("one pod at a time", hint="invoke lab.ruleset POD")
    from lab.backends.kind import commands as on_kind

    if kind := on_kind.lab(name):
        return kind.ruleset(words[0] if words else None, as_json=as_json)
    lab = Lab.attach(name)
    return show(lab.name, list(_parts(lab, words[0] if words else None)), as_json=as_json)


def show(lab: str, parts: Sequence[report.Part], *, as_json: bool) -> int:
    """Print them."""
    if as_json:
        found = [report.value(part) for part in parts]
        print(json.dumps({"version": FORMAT_VERSION, "lab": lab, "parts": found}, indent=2))
    else:
        print("\n\n".join(report.text(part) for part in parts))
    return 0


def _parts(lab: Lab, pod: str | None) -> Iterator[report.Part]:
    if pod is None:
        for node in lab.nodes:
            yield report.whole(node.name, report.read(node.ruleset()), _meanings(lab, node))
        return
    plan = lab.pod(pod).plan
    node = lab.node(plan.node)
    yield report.of_pod(
        *(node.name, plan.key, str(plan.address), plan.node_interface),
        report.read(node.ruleset()),
        _meanings(lab, node),
    )


def _meanings(lab: Lab, node: NodeHandle) -> Mapping[str, Meaning]:
    """Without the ledger there are still the comments in the kernel."""
    try:
        return NodeState(lab, node).meanings()
    except AcnsError as error:
        remark(f"{node.name}: policies are named as far as the kernel's comments do: {error.message}")
        return {}
