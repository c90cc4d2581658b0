"""`lab.cache` as people read it, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich.text import Text

from acns.fqdn.cache import Stay
from acns.policy.wording import selector_text
from lab.policy_tools.name_cache import Entry, NodeCache
from lab.report.tables import FORMAT_VERSION, console_for, table

_SHOWN_CONNECTIONS = 2


def print_cache(nodes: Sequence[NodeCache], out: TextIO | None = None) -> None:
    """One row an address; then what the kernels have otherwise."""
    console = console_for(out)
    rows = table(console, "node", "name", "address", "open for", "TTL left", "why it is there", "asked by")
    for node in nodes:
        for one in node.entries:
            opens = ", ".join(map(selector_text, one.opens)) or "nothing: no policy wants it"
            name = one.name.removesuffix(".") or "(not known)"
            left = _left(one, node)
            rows.add_row(node.node, name, str(one.address), opens, left, _why(one, node), one.asked_by)
    console.print(rows)
    for node in nodes:
        if not node.answered:
            text = f"the shim of {node.node} cannot be asked: this is what the kernel's set holds"
            console.print(Text(text, style="yellow"), soft_wrap=True)
        for address, shared in node.shared().items():
            called = " and ".join(name.removesuffix(".") for name in shared)
            text = f"{node.node}: {address} is {called}: who may reach one of them there reaches the others"
            console.print(Text(text, style="yellow"), soft_wrap=True)
        for kind, texts in (("not in the kernel", node.missing), ("only in the kernel", node.foreign)):
            for each in texts:
                console.print(Text(f"{node.node}: {kind}: {each}", style="bold red"), soft_wrap=True)


def cache_json(lab: str, nodes: Iterable[NodeCache]) -> str:
    """One JSON object with `version` and `nodes`."""
    value = {"version": FORMAT_VERSION, "lab": lab, "nodes": [_node_value(node) for node in nodes]}
    return json.dumps(value, indent=2)


def _node_value(node: NodeCache) -> dict[str, Any]:
    shared = node.shared()
    return {
        "node": node.node,
        "answered": node.answered,
        "agrees": node.agrees,
        "missing": node.missing,
        "foreign": node.foreign,
        "addresses": [
            {
                "name": one.name,
                "address": str(one.address),
                "opens": [selector.key for selector in one.opens],
                "ttl_left_s": round(one.ttl_left_s, 3),
                "stay": one.stay,
                "stays_s": round(one.stays_s, 3),
                "asked_by": one.asked_by,
                "connections": list(one.connections),
                "also": [name for name in shared.get(one.address, ()) if name != one.name],
            }
            for one in node.entries
        ],
    }


def _left(one: Entry, node: NodeCache) -> str:
    if not node.answered:
        return ""
    return f"{one.ttl_left_s:.0f} s" if one.ttl_left_s > 0 else f"over since {-one.ttl_left_s:.0f} s"


def _why(one: Entry, node: NodeCache) -> str:
    if not node.answered:
        return "in the set"
    shown = "; ".join(one.connections[:_SHOWN_CONNECTIONS])
    more = len(one.connections) - _SHOWN_CONNECTIONS
    live = shown + (f" and {more} more" if more > 0 else "")
    match one.stay:
        case Stay.FRESH:
            return f"fresh; {live}" if live else "fresh"
        case Stay.IN_USE:
            return f"a connection lives: {live}" if live else "a connection lived at the last collection"
        case Stay.NAME_IN_USE:
            return "a connection to another address of its name lives"
        case Stay.GRACE:
            return f"grace, {one.stays_s:.0f} s more"
    return "due: the next collection lets it go"
