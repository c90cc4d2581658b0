"""From messages and connections to steps: who asked what, what was answered, who connected, what came of it.

What the server said is what came back to the resolver, where the capture shows that; else what came to the
pod. IDs and ports are left out unless they matter: an answer under another ID or from somebody else is said
to be so, queries from one socket say so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from lab.repro.importing import pairing
from lab.repro.importing.odd import OddPackets
from lab.repro.importing.pairing import PATIENCE_NS, Asked, about
from lab.repro.importing.roles import Dialogue, Roles, ipv4, is_ipv4
from lab.repro.reading.evidence import End, Evidence, Flow, Message, Outcome
from lab.repro.scenario import messages, rules
from lab.repro.scenario.model import Answer, Step

_NS: Final = 1_000_000
_SAME_SOCKET_NS: Final = 30_000_000_000
_SHORT_NS: Final = 300_000_000
"""A connection that lasts no longer is not used once more."""
_OUTCOMES: Final = {
    Outcome.RESET: "reset",
    Outcome.UNREACHABLE: "unreachable",
    Outcome.SILENT: "silent",
}
_REFUSED: Final = "REFUSED"


@dataclass(slots=True)
class _Query(Asked):
    """A pod's query with what belongs to it."""

    upstream: Message | None = None
    socket: str | None = None
    is_told_in_part: bool = False
    """Its answer is not whole in the capture: what it said, nobody knows."""


@dataclass(frozen=True, slots=True)
class _Timed:
    """A step on its way into the order. `told`: the addresses in its answer, which came at `told_ms`.
    `flow`: the connection that it opens, or sends over."""

    at_ms: float
    step: Step
    told: frozenset[str] = frozenset()
    told_ms: float = 0.0
    flow: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Steps in the order in which they began, and what was assumed for them."""

    steps: tuple[Step, ...]
    assumptions: tuple[str, ...]
    is_cut: bool = False


def steps(
    evidence: Evidence, talk: Dialogue, roles: Roles, also: Iterable[Step] = (), at_most: int = 10_000
) -> Found:
    """`also`: steps from elsewhere, at their times. `at_most`: so many, the first ones."""
    assumed: list[str] = []
    queries = _queries(talk, roles, assumed)
    sees_upstream = any(query.upstream for query in queries)
    if sees_upstream and _lend_answers(queries):
        assumed.append("what was lost before it came to the server is answered as it was another time")
    odd = OddPackets.of(evidence, roles)
    timed = [_timed_ask(query, roles, evidence.first_ns, sees_upstream, odd) for query in queries[:at_most]]
    timed += [_Timed(step.at_ms, step) for step in odd.alone()]
    assumed += odd.assumptions()
    for number, flow in enumerate(evidence.flows[:at_most]):
        for step in _connect(flow, roles, evidence.first_ns, assumed):
            timed.append(_Timed(step.at_ms, step, flow=number))
    timed += [_Timed(step.at_ms, step) for step in also]
    timed.sort(key=lambda one: one.at_ms)
    is_cut = len(timed) > at_most or max(len(queries), len(evidence.flows)) > at_most
    del timed[at_most:]
    if any(one.step.outcome == _REFUSED for one in timed):
        assumed.append("what was REFUSED with nothing in it was refused by the resolver: no server was asked")
    if any(one.step.outcome == messages.SILENT and one.step.connect for one in timed):
        assumed.append("where a connection met silence somebody is there: what was lost was lost on the way")
    return Found(tuple(_linked(timed)), tuple(dict.fromkeys(assumed)), is_cut)


# --- queries ------------------------------------------------------------------------------------------------


def _queries(talk: Dialogue, roles: Roles, assumed: list[str]) -> list[_Query]:
    own: list[_Query] = []
    theirs = []
    cut = 0
    for message in talk.queries:
        source, server = ipv4(message.source.address), ipv4(message.destination.address)
        if source in roles.pods and server in roles.servers:
            cut += not message.is_whole
            if message.is_whole:
                own.append(_Query(message))
        elif source in roles.resolvers and message.is_whole:
            theirs.append(message)
    left = pairing.pair(own, talk.answers, any_question=True)
    partly = sum(map(_keep_whole, own))
    _match_upstream(own, theirs, talk.answers)
    _share_sockets(own)
    late = sum(ipv4(one.destination.address) in roles.pods for one in left)
    for count, text in (
        (cut, "queries are not whole in the capture: they are left out"),
        (partly, "answers are not whole in the capture: what they said is not known, and nothing expected"),
        (late, f"answers are left out: to no query here, or later than {PATIENCE_NS // 1_000_000_000} s"),
    ):
        if count:
            assumed.append(f"{count} {text}")
    return own


def _keep_whole(query: _Query) -> bool:
    """Whether the first answer is not whole."""
    query.is_told_in_part = bool(query.answers) and not query.answers[0].is_whole
    query.answers = [one for one in query.answers if one.is_whole]
    query.said = [one for one in query.said if one.is_whole]
    return query.is_told_in_part


def _match_upstream(queries: Sequence[_Query], theirs: Sequence[Message], answers: Iterable[Message]) -> None:
    """Where the resolver asked in the pod's stead, what it was told is what the server said."""
    asked = [Asked(message) for message in theirs]
    pairing.pair(asked, answers, any_question=False)
    free: dict[object, deque[Asked]] = {}
    for one in asked:
        free.setdefault((one.message.transport, about(one.message)), deque()).append(one)
    for query in queries:
        end_ns = query.answers[0].at_ns if query.answers else query.message.at_ns + PATIENCE_NS
        alike = free.get((query.message.transport, about(query.message)), deque())
        while alike and alike[0].message.at_ns < query.message.at_ns - _NS:
            alike.popleft()
        if alike and alike[0].message.at_ns <= end_ns:
            found = alike.popleft()
            query.upstream = found.message
            if all(one.is_whole for one in found.said):
                query.said = found.said


def _lend_answers(queries: Sequence[_Query]) -> bool:
    """To queries that got no answer because the resolver asked nobody, what was said to the same question
    when it was asked."""
    told: dict[object, _Query] = {}
    for query in queries:
        if query.upstream and query.said:
            told.setdefault((query.message.destination, query.message.transport, about(query.message)), query)
    lent = False
    for query in queries:
        like = told.get((query.message.destination, query.message.transport, about(query.message)))
        if not query.answers and query.upstream is None and like is not None:
            query.upstream, query.said, lent = like.upstream, like.said, True
    return lent


def _share_sockets(queries: Sequence[_Query]) -> None:
    by_socket: dict[object, list[_Query]] = {}
    number = 0
    for query in queries:
        key = (query.message.transport, query.message.source, query.message.destination)
        earlier = by_socket.setdefault(key, [])
        if earlier and query.message.at_ns - earlier[-1].message.at_ns < _SAME_SOCKET_NS:
            if earlier[-1].socket is None:
                number += 1
                earlier[-1].socket = f"s{number}"
            query.socket = earlier[-1].socket
        earlier.append(query)


def _timed_ask(query: _Query, roles: Roles, first_ns: int, sees_upstream: bool, odd: OddPackets) -> _Timed:
    step = _ask(query, roles, first_ns, sees_upstream)
    if packets := odd.of_query(query.message):
        step = step.model_copy(update={"wire": packets})
    if not query.answers:
        return _Timed(step.at_ms, step)
    answer = query.answers[0]
    told = frozenset(messages.told_addresses(answer.payload))
    return _Timed(step.at_ms, step, told, _ms(answer.at_ns - first_ns))


def _ask(query: _Query, roles: Roles, first_ns: int, sees_upstream: bool) -> Step:
    message = query.message
    reply = query.answers[0].payload if query.answers else None
    outcome = "" if query.is_told_in_part else messages.outcome(message.payload, reply)
    server = roles.servers[ipv4(message.destination.address)]
    asked = query.upstream or message
    refused_here = query.upstream is None and (sees_upstream or outcome == _REFUSED)
    if refused_here:
        query.said = []
    return Step(
        at_ms=_ms(message.at_ns - first_ns),
        pod=roles.pods[ipv4(message.source.address)].name if len(roles.pods) > 1 else None,
        server=server.name if len(roles.servers) > 1 else None,
        over="tcp" if message.transport == "tcp" else None,
        socket=query.socket,
        answers=tuple(_answer(one, asked, roles) for one in query.said[:64]),
        outcome=outcome,
        **messages.query_words(message.payload),
    )


def _answer(said: Message, asked: Message, roles: Roles) -> Answer:
    """As octets that fit the query, whichever leg it was seen on."""
    wrong_id = said.payload[:2] != asked.payload[:2]
    words = messages.answer_words(asked.payload[:2] + said.payload[2:], asked.payload)
    more: dict[str, object] = {"after_ms": _ms(said.at_ns - asked.at_ns)}
    if wrong_id:
        more["wrong_id"] = True
    if said.source != asked.destination:
        address = roles.place(ipv4(said.source.address))
        more["sender"] = f"{address}:{said.source.port}"
    return words.model_copy(update=more)


# --- connections --------------------------------------------------------------------------------------------


def _connect(flow: Flow, roles: Roles, first_ns: int, assumed: list[str]) -> Iterator[Step]:
    if not (is_ipv4(flow.client.address) and is_ipv4(flow.server.address)):
        return
    client, server = ipv4(flow.client.address), ipv4(flow.server.address)
    if client not in roles.pods or server in roles.servers or _is_dns(flow, roles) or not flow.server.port:
        return
    if not rules.is_somewhere(server):
        assumed.append(f"connections to {server} are left out: nobody of a lab can be there")
        return
    pod = roles.pods[client].name if len(roles.pods) > 1 else None
    if flow.outcome is Outcome.MIDWAY:
        assumed.append("connections that are older than the capture are left out")
        return
    place = _far_end(flow, roles, assumed)
    if place is None:
        return
    begin = Step(
        at_ms=_ms(flow.first_ns - first_ns),
        pod=pod,
        over="udp" if flow.protocol == "udp" else None,
        connect=f"{place}:{flow.server.port}",
        outcome=_connected(flow),
        open_ms=_open_ms(flow),
    )
    yield begin
    if (sent := _sent(flow, first_ns)) is not None:
        yield sent


def _is_dns(flow: Flow, roles: Roles) -> bool:
    answered_by = flow.translated.address if flow.translated else None
    return flow.server.port == 53 and answered_by in roles.servers


def _far_end(flow: Flow, roles: Roles, assumed: list[str]) -> IPv4Address | None:
    """Whom it goes to in the scenario: a pod at its place, somebody outside at its own address."""
    server = ipv4(flow.server.address)
    behind = flow.translated.address if flow.translated else server
    if server in roles.pods:
        return roles.place(server)
    if behind in roles.pods:
        assumed.append(f"connections to {server} go straight to the pod behind it")
        return roles.place(ipv4(behind))
    return roles.place(server)


def _connected(flow: Flow) -> str:
    if flow.outcome is not Outcome.ESTABLISHED:
        return _OUTCOMES[flow.outcome]
    repeated = flow.protocol == "tcp" and len(flow.syns_ns) > 1
    is_late = repeated and (flow.answered_ns or 0) > flow.syns_ns[1]
    return "late" if is_late else "established"


def _open_ms(flow: Flow) -> float | None:
    if flow.outcome is not Outcome.ESTABLISHED:
        return None
    lasted_ns = (flow.ended_ns or flow.last_ns) - flow.first_ns
    return _ms(lasted_ns) if lasted_ns > _SHORT_NS else None


def _sent(flow: Flow, first_ns: int) -> Step | None:
    """What was sent over a connection that lasted: the last of it."""
    end_ns = flow.last_ns if flow.ended_ns is None else min(flow.ended_ns, flow.last_ns)
    if flow.outcome is not Outcome.ESTABLISHED or end_ns - flow.first_ns <= _SHORT_NS:
        return None
    if flow.end is not End.CUT and not (flow.bytes_sent and flow.bytes_received):
        return None
    outcome = "cut" if flow.end is End.CUT else "passes"
    return Step(at_ms=_ms(end_ns - first_ns), send=1, outcome=outcome)


# --- what comes after what ----------------------------------------------------------------------------------


def _linked(timed: Sequence[_Timed]) -> Iterator[Step]:
    """With the numbers of steps that others wait for: who connects has been told the address before."""
    opened: dict[int, int] = {}
    asked: dict[tuple[str | None, str], list[tuple[int, _Timed]]] = {}
    changed: int | None = None
    for number, one in enumerate(timed, 1):
        step = one.step
        if step.kind == "ask" and one.told:
            for address in one.told:
                asked.setdefault((step.pod, address), []).append((number, one))
        elif step.kind == "connect" and one.flow is not None:
            opened[one.flow] = number
            address = (step.connect or "").rpartition(":")[0]
            teller = _teller(asked.get((step.pod, address), ()), one)
            step = step.model_copy(update={"after": teller})
        elif step.kind == "send" and one.flow is not None:
            step = step.model_copy(update={"send": opened[one.flow], "after": changed})
        elif step.kind in ("apply", "remove", "fault"):
            changed = number
        yield step


def _teller(asked: Sequence[tuple[int, _Timed]], connecting: _Timed) -> int | None:
    """The last answer with its address that came before a connection."""
    return next((number for number, one in reversed(asked) if one.told_ms <= connecting.at_ms), None)


def _ms(nanoseconds: int) -> float:
    return round(max(nanoseconds, 0) / _NS, 3)
