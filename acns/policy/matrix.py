"""Pods × destinations as a truth table: every pod against all pods, Services, names outside, and the world.

A cell is a whole explanation, so that whoever wonders about one can ask for its reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from acns.dns import name as names
from acns.errors import InputError
from acns.policy import destination
from acns.policy import explain as explaining
from acns.policy.explain import Explanation, Knowledge
from acns.policy.model import Traffic
from acns.policy.overview import Local, Overview
from acns.policy.routes import Outcome
from acns.policy.shares import REST
from acns.policy.wording import traffic_text

Place = tuple[int, int]
"""Row and column of a cell."""

ALL, YES, NONE, IMPOSSIBLE = "all", "yes", "-", "n/a"


@dataclass(frozen=True, slots=True)
class Column:
    """One destination, `asked` as `policy.explain` takes it, and what is sent there (None: everything)."""

    title: str
    asked: str
    traffic: Traffic
    is_name: bool = False


@dataclass(frozen=True, slots=True)
class Cell:
    """`text`: what gets through, in short. `explanation` None: nobody can send that there (a port that the
    Service does not have)."""

    text: str
    explanation: Explanation | None


@dataclass(frozen=True, slots=True)
class Row:
    """A pod."""

    pod: str
    cells: tuple[Cell, ...]


def columns(
    overview: Overview, traffics: Iterable[Traffic], also_names: Iterable[str] = ()
) -> tuple[Column, ...]:
    """Every pod, every Service, every name outside that policies spell out, the pod's own node, another one
    if there is one, the world; each with each kind of traffic. `also_names`: names that are there if a
    pattern is about them."""
    asked = list(traffics) or [None]
    outside = sorted(set(_names(overview, also_names)))
    nodes = ("host", "remote-node") if len(overview.directory.nodes) > 1 else ("host",)
    return tuple(
        Column(one if len(asked) == 1 else f"{one} {traffic_text(traffic)}", one, traffic, one in outside)
        for one in (*_pods_and_services(overview), *outside, *nodes, "world")
        for traffic in asked
    )


def rows(
    overview: Overview, over: tuple[Column, ...], knowledge: Callable[[Local], Knowledge]
) -> tuple[Row, ...]:
    """The table; `knowledge`: what is known on a pod's node."""
    sources = [(there, there.local(resident)) for there, resident in overview.everybody()]
    return tuple(
        Row(source.key, tuple(_cell(there, source, column, knowledge(source)) for column in over))
        for there, source in sources
    )


def _pods_and_services(overview: Overview) -> Iterator[str]:
    for resident in overview.residents:
        yield resident.key
    for service in overview.cluster.services:
        if service.cluster_ips:
            yield f"service {service.key}"


def _names(overview: Overview, also_names: Iterable[str]) -> Iterator[str]:
    nodes = {resident.node_name for resident in overview.residents}
    selectors = {selector for node in nodes for selector in overview.node(node).fqdn_selectors()}
    for selector in selectors:
        if selector.literal is not None:
            yield selector.text.removesuffix(".")
    for name in also_names:
        if any(selector.matches(names.from_text(name)) for selector in selectors):
            yield name


def _cell(overview: Overview, source: Local, column: Column, knowledge: Knowledge) -> Cell:
    try:
        wanted = destination.parse(column.asked, overview, source.resident)
        wanted = replace(wanted, traffic=column.traffic)
        found = explaining.explain(overview, source, wanted, knowledge)
    except InputError:
        return Cell(IMPOSSIBLE, None)
    return Cell(_text(found, column), found)


def _text(found: Explanation, column: Column) -> str:
    """`all`, `yes`, `-`, `443/TCP`, `53/UDP dns`: what gets through."""
    if found.outcome is Outcome.DENIED:
        return NONE
    if found.outcome is Outcome.ALLOWED and not found.redirected:
        return ALL if column.traffic is None else YES
    denied = {part.traffic for part in found.parts if part.outcome is Outcome.DENIED}
    through: dict[str, None] = {}
    for part in found.parts:
        if part.outcome is not Outcome.DENIED:
            partly = " to some" if part.traffic in denied else ""
            dns = " dns" if part.outcome is Outcome.REDIRECTED else ""
            through[part.traffic + dns + partly] = None
    if REST in through and denied:
        # Whoever looks for a port must not find it under `all other traffic`.
        order = [part.traffic for part in found.parts if part.traffic in denied]
        del through[REST]
        through[f"{REST} but {', '.join(dict.fromkeys(order))}"] = None
    if found.unshown:
        through["and more"] = None
    return ", ".join(through)
