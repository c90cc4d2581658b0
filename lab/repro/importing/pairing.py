"""Which answer belongs to which query: to the last before it from the same socket that has its ID.

Of sockets that carry thousands of messages too, so everything is looked up: by ID, by question, by socket.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from lab.repro.reading.evidence import Message
from lab.repro.scenario import messages

PATIENCE_NS: Final = 10_000_000_000
"""An answer that comes later than this answers nobody: clients have given up."""


def about(message: Message) -> object:
    """What is asked; of what cannot be read, the octets."""
    found = messages.question(message.payload)
    return found.folded if found else message.payload[2:]


@dataclass(slots=True)
class Asked:
    """A query. `answers`: those that are its own, from whom it asked; `said`: all that came to it, also under
    another ID or from somebody else."""

    message: Message
    answers: list[Message] = field(default_factory=list)
    said: list[Message] = field(default_factory=list)


class _Index:
    """Queries by what an answer to them has, in the order of their times."""

    def __init__(self, key: Callable[[Message], object]) -> None:
        self._key = key
        self._found: dict[object, tuple[list[int], list[Asked]]] = {}

    def add(self, query: Asked) -> None:
        socket = query.message.transport, query.message.source
        times, queries = self._found.setdefault((socket, self._key(query.message)), ([], []))
        times.append(query.message.at_ns)
        queries.append(query)

    def last_before(self, answer: Message) -> Asked | None:
        """The last one that may still wait for an answer when it comes."""
        socket = answer.transport, answer.destination
        times, queries = self._found.get((socket, self._key(answer)), ((), ()))
        at = bisect_right(times, answer.at_ns) - 1
        return queries[at] if at >= 0 and answer.at_ns - times[at] < PATIENCE_NS else None


def pair(queries: Iterable[Asked], answers: Iterable[Message], *, any_question: bool) -> list[Message]:
    """Give queries what was said to them; what came to nobody is left over. What has another ID is said to
    the last query for its question; with `any_question`, else to the last from that socket."""
    left_over = []
    by_id, by_question, by_socket = (
        _Index(key) for key in (lambda one: one.payload[:2], about, lambda one: None)
    )
    for query in sorted(queries, key=lambda one: one.message.at_ns):
        for index in (by_id, by_question, by_socket):
            index.add(query)
    for answer in answers:
        right = by_id.last_before(answer)
        found = right or by_question.last_before(answer)
        if found is None and any_question:
            found = by_socket.last_before(answer)
        if found is None:
            left_over.append(answer)
            continue
        if right is not None and answer.source == right.message.destination:
            right.answers.append(answer)
        found.said.append(answer)
    return left_over
