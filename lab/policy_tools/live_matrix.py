"""The matrix of a running lab: every cell of the model tried on the kernel, and what differs.

Names are really looked up, by every pod, before anything is sent: what they resolve to is what packets go to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from acns.dns import name as names
from acns.policy import matrix
from acns.policy.explain import Explanation, Knowledge
from acns.policy.lookups import Lookup, Server
from acns.policy.matrix import Column, Place, Row
from acns.policy.model import Traffic
from lab.policy_tools.live import Live, fits
from lab.policy_tools.seen import Seen

_QUERIES_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class LiveMatrix:
    """`differences`: what the kernel does where it does otherwise."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    differences: Mapping[Place, str]


def live_matrix(live: Live, traffics: Sequence[Traffic]) -> LiveMatrix:
    """Cells that differ are looked at once more: only what differs again is a difference."""
    first = _look(live, traffics)
    if not first.differences:
        return first
    second = _look(live, traffics)
    again = first.differences.keys() & second.differences.keys()
    return replace(second, differences={place: second.differences[place] for place in again})


def _look(live: Live, traffics: Sequence[Traffic]) -> LiveMatrix:
    servers = {pod.key: live.dns_server(pod.key) for pod in live.lab.addressing.pods}
    overview = live.overview(next(iter(servers)))
    columns = matrix.columns(overview, traffics, live.lab.topology.internet.names)
    answers = _look_up(live, {column.asked for column in columns if column.is_name}, servers)
    learned = live.learned(overview)
    rows = matrix.rows(
        overview,
        columns,
        lambda source: Knowledge(learned, servers.get(source.key), live.resolutions),
    )
    # Manifests may speak of pods that the lab has not: these can send nothing.
    real = [(number, row) for number, row in enumerate(rows) if row.pod in servers]
    return LiveMatrix(columns, rows, dict(_differences(live, real, answers)))


def _look_up(live: Live, asked: Iterable[str], servers: Mapping[str, Server]) -> dict[tuple[str, str], str]:
    """(pod, name) → what a real query got."""
    questions = [(pod, name) for name in sorted(asked) for pod in servers]
    with ThreadPoolExecutor(_QUERIES_AT_ONCE) as pool:
        answers = pool.map(
            lambda one: live.query(one[0], names.from_text(one[1]), servers[one[0]]), questions
        )
        return dict(zip(questions, answers, strict=True))


def _differences(
    live: Live, rows: Sequence[tuple[int, Row]], answers: Mapping[tuple[str, str], str]
) -> Iterable[tuple[Place, str]]:
    cells = [
        ((number, at), row.pod, cell.explanation)
        for number, row in rows
        for at, cell in enumerate(row.cells)
        if cell.explanation is not None
    ]
    tried = [found for _, _, found in cells if not found.supposed]
    seen = iter(live.compare([part for found in tried for part in found.parts]))
    for place, pod, found in cells:
        of_parts = [] if found.supposed else [next(seen) for _ in found.parts]
        texts = [*_of_lookup(found.lookup, pod, answers), *_of_parts(found, of_parts)]
        if texts:
            yield place, "; ".join(dict.fromkeys(texts))


def _of_lookup(found: Lookup | None, pod: str, answers: Mapping[tuple[str, str], str]) -> Iterable[str]:
    answer = answers.get((pod, found.name)) if found else None
    if found and answer is not None and not fits(answer, found.answer):
        yield f"the name got {answer}"


def _of_parts(found: Explanation, seen: Sequence[Seen]) -> Iterable[str]:
    for part, one in zip(found.parts, seen, strict=False):
        if not one.agrees:
            yield f"{part.traffic} {one.answer or one.outcome or 'lost'}"
