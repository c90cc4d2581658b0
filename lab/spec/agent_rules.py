"""What must hold of the agents' settings in a topology: they exist, their values will do, the two agree.

The agents themselves would say so only once the lab is half up, of a file that nobody wrote. And where they
write is the lab's choice: they run as root, and a topology may come from anywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from acns import settings
from acns.errors import Problem
from acns.located import Document
from acns.resolver.settings import ResolverSettings
from acns.shim.settings import ShimSettings
from lab.spec.topology import Node, Topology

_KINDS = {"shim": ShimSettings, "resolver": ResolverSettings}

_PLACES = ("_file", "_socket", "_dir", "_ledger")
"""How settings end that name a place on the disk. Empty, which turns some off, they name none."""

_AGREEING = (("proxy_port", "listen_port"), ("transparent", "transparent"))
"""Settings of the shim, and of the resolver, that have to be the same."""


def check(topology: Topology, document: Document) -> Iterator[Problem]:
    """Every problem with them."""
    for index, node in enumerate(topology.nodes):
        found = [
            *_wrong(node.shim, document, index, "shim"),
            *_wrong(node.resolver, document, index, "resolver"),
        ]
        yield from found or _disagreeing(node, document, index)


def _wrong(given: Mapping[str, Any], document: Document, index: int, agent: str) -> Iterator[Problem]:
    kind, own = _KINDS[agent], {}
    folder = {"manifests": "the lab's own"} if agent == "shim" else {}
    for field in dataclasses.fields(kind):
        if field.default is dataclasses.MISSING:
            own[field.name] = "the lab's own"
            if field.name in given:
                yield document.problem(
                    ("nodes", index, agent, field.name), f"the lab sets '{field.name}' itself"
                )
    for name, value in given.items():
        if name not in own and _is_place(name, value):
            yield document.problem(
                ("nodes", index, agent, name), f"the lab chooses the place of '{name}'", hint="leave it out"
            )
    for mistake in settings.mistakes(kind, {**folder, **given, **own}):
        yield document.problem(("nodes", index, agent, mistake.key), mistake.message, hint=mistake.hint)


def _disagreeing(node: Node, document: Document, index: int) -> Iterator[Problem]:
    """What a program in an agent's place has instead is not known here."""
    if any(node.external.programs()):
        return
    for ours, theirs in _AGREEING:
        wanted, actual = _value(node.shim, "shim", ours), _value(node.resolver, "resolver", theirs)
        if wanted != actual:
            where = ("shim", ours) if ours in node.shim else ("resolver", theirs)
            yield document.problem(
                ("nodes", index, *where),
                f"the shim's {ours} is {wanted}, the resolver's {theirs} {actual}",
                hint="the two have to be the same",
            )


def _value(given: Mapping[str, Any], agent: str, name: str) -> Any:
    fields = {field.name: field.default for field in dataclasses.fields(_KINDS[agent])}
    value = given.get(name, fields[name])
    return str(value).lower() if isinstance(value, bool) else value


def _is_place(name: str, value: Any) -> bool:
    """`http_socket` may be host:port as well."""
    is_port = name == "http_socket" and "/" not in str(value) and ":" in str(value)
    return name.endswith(_PLACES) and value != "" and not is_port
