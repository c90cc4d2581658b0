"""Peers that name namespaces only by what they are not: `NotIn [kube-system]` holds for whoever is in none.

Here they select pods alone, as is meant. Cilium before the fix of its issue 46949 has host, world and other
entities match too, whether a CiliumNetworkPolicy or a NetworkPolicy says it.
"""

from __future__ import annotations

from acns.located import Path
from acns.policy.codes import Code
from acns.policy.selectors import Operator, Selector
from acns.policy.structure import Report


def doubt(selector: Selector, at: Path, namespace_key: str, report: Report) -> None:
    """Report a peer of this sort; `namespace_key`: what its language calls a namespace's name."""
    if not selector.only_excludes_namespaces():
        return
    hint = f"add an expression for {namespace_key} with operator {Operator.EXISTS}"
    if selector.asks_for_no_namespace():
        hint = "every pod is in a namespace that has a name: no pod matches"
    report.warn(
        Code.NAMESPACE_ONLY_NEGATED,
        at,
        "namespaces are named by what they are not: Cilium before the fix of its issue 46949 "
        "lets this match host, world and other entities too, which are in none",
        hint,
    )
