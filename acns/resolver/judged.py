"""Judgements that are remembered, so that a query that was seen before costs a look into a dictionary.

The gate is a function of octets, so its results can be kept under them: what a query is under its server and
its octets behind the ID (`Question`), what an answer is under the question and its own octets (`Answer`), who
asks whom under the addresses of both (`Asker`), and what becomes of that asker's query under all of these
(`Case`). With each stands its part of a journal line, ready to be written.

All of it is bounded, and all goes with the policy table that it was taken from.
"""

from __future__ import annotations

import json
import socket
from typing import Final

from acns.dns import message
from acns.dns import name as names
from acns.dns.message import Learned, Query
from acns.fqdn import gate
from acns.fqdn.table import NameRules, PolicyTable
from acns.resolver.batch import sockaddr_of
from acns.resolver.budget import InFlight
from acns.resolver.flight import ID_BYTES
from acns.resolver.framing import LENGTH_BYTES
from acns.resolver.intercept import Address, Server
from acns.resolver.memory import Memory
from acns.telemetry.journal import Event
from acns.telemetry.metrics import Cell

AGENT: Final = "resolver"
KNOWN: Final = "known"
"""The outcome of an answer that leaves at once."""
_CASES_BYTES: Final = 16 << 20
_QUESTIONS_BYTES: Final = 12 << 20
_ANSWERS_BYTES: Final = 12 << 20
_ENTRY_BYTES: Final = 1_200
"""What an entry is beside its octets, about."""
_COPIES: Final = 3
_ADDRESS_BYTES: Final = 100
"""What each address of an answer takes beside its record: as four octets, and in journal lines."""
_ASKERS: Final = 16_384
_REMEMBERED_OCTETS: Final = 1_500
"""Larger ones are judged each time: they are rare, and few would fill the room of many. So what goes the
shortest way is never as long as `budget.LARGE_OCTETS`, and is not counted in octets."""
_NO_ID: Final = bytes(ID_BYTES)

CaseKey = bytes
"""Who asks, whom, and the query's octets behind its ID; of one length but for the last."""


class Answer:
    """What becomes of an answer, whenever it comes. All octets are without their ID."""

    __slots__ = (
        "_lines",
        "_tail",
        "epoch",
        "ignored",
        "is_same",
        "known_line",
        "learned",
        "length",
        "rest",
        "sure_until",
        "unusable",
    )

    def __init__(self, judged: gate.Ignore | gate.Unusable | gate.Deliver) -> None:
        self._lines: dict[str, bytes] = {}
        self.known_line = b""
        self.epoch = -1
        self.sure_until = 0.0
        """Until when its addresses need no telling, as of the epoch of what is known."""
        self.ignored: gate.Reason | None = None
        self.unusable: gate.Reason | None = None
        self.learned: Learned | None = None
        self.rest = self.length = b""
        """What leaves, and its length with an ID as it stands before it on a connection."""
        self.is_same = False
        """As it came."""
        if isinstance(judged, gate.Ignore):
            self.ignored = judged.reason
            return
        if isinstance(judged, gate.Unusable):
            self.unusable = judged.reason
            return
        self.rest, self.learned = judged.packet[ID_BYTES:], judged.learned
        self.length = len(judged.packet).to_bytes(LENGTH_BYTES)
        addresses = self.learned.addresses if self.learned else ()
        told = {
            "reason": "",
            "rcode": judged.rcode,
            "addresses": [socket.inet_ntoa(address) for address in addresses],
            "ttl": self.learned.ttl_s if self.learned else None,
        }
        self._tail = json.dumps(told)[1:]
        self.known_line = self.line(KNOWN)

    def line(self, outcome: str) -> bytes:
        """The end of the journal line that says so."""
        found = self._lines.get(outcome)
        if found is None:
            found = self._lines[outcome] = f', "outcome": "{outcome}", {self._tail}\n'.encode()
        return found


class Question:
    """A query to a server by its octets: what it asks, or why it is none, whoever asks."""

    __slots__ = ("flaw", "last", "last_rest", "line", "query")

    def __init__(self, packet: bytes, protocol: int) -> None:
        read = gate.read_query(packet, protocol)
        self.query: Query | None = read if isinstance(read, Query) else None
        self.flaw: gate.Drop | gate.Reply | None = None if isinstance(read, Query) else read
        self.line = _question_line(self.query or _readable(packet))
        self.last: Answer | None = None
        self.last_rest = b""
        """The octets of the answer that came last: most answers are the same again. Here only while it is
        remembered: questions are many, and each could keep one that nobody counts."""


class Asker:
    """A pod's address and the server that it asks; `rules` is None where no endpoint has the address."""

    __slots__ = (
        "_transport", "address", "answer_line", "endpoint_id", "lane", "place", "query_line", "rules",
        "sender", "sender_generation", "server", "source", "source_identity",
    )  # fmt: skip

    def __init__(
        self, table: PolicyTable, source: bytes, server: Server, protocol: int, budget: InFlight
    ) -> None:
        self.source = source
        self.server = server
        self.address: Address = (socket.inet_ntoa(server[0]), server[1])
        self.place = sockaddr_of(*server)
        self.sender: socket.socket | None = None
        """From the server's address, as of this generation of the reply sockets."""
        self.sender_generation = -1
        self.endpoint_id = table.endpoint_of(source) or 0
        self.lane = budget.lane(self.endpoint_id, server)
        self.source_identity = table.identity_of(source)
        self.rules: NameRules | None = (
            table.names_for(self.endpoint_id, *server, protocol) if self.endpoint_id else None
        )
        self._transport = "tcp" if protocol == socket.IPPROTO_TCP else "udp"
        who = json.dumps(self.fields())[1:-1]
        self.query_line = f', "agent": "{AGENT}", "event": "{Event.DNS_QUERY}", {who}'.encode()
        self.answer_line = f', "agent": "{AGENT}", "event": "{Event.DNS_ANSWER}", {who}'.encode()

    def fields(self) -> dict[str, object]:
        """For the journal."""
        return {
            **({"endpoint": self.endpoint_id} if self.endpoint_id else {}),
            "source": socket.inet_ntoa(self.source),
            "server": f"{socket.inet_ntoa(self.server[0])}:{self.server[1]}",
            "transport": self._transport,
        }


class Case:
    """A question of an asker: on its way (`refusal` is None), or refused with these octets behind the ID."""

    __slots__ = (
        "address", "answer_line", "asker", "is_plain", "lane", "place", "policy", "query_line", "question",
        "refusal", "refused", "reply_rest", "was_counted", "was_taken_on",
    )  # fmt: skip

    def __init__(
        self, asker: Asker, question: Question, packet: bytes, settings: gate.GateSettings, policy: object
    ) -> None:
        """`policy`: by which this is so, as `Judgements` has it."""
        self.policy = policy
        self.asker = asker
        self.question = question
        self.address, self.place, self.lane = asker.address, asker.place, asker.lane
        self.refusal = _refusal(asker, question, packet, settings)
        self.was_taken_on = False
        self.was_counted = False
        """It was counted as a new name, and has not been answered yet."""
        self.is_plain = False
        """It goes on, under whatever ID, and has done so before."""
        self.reply_rest = b""
        """Empty where nothing is replied."""
        self.refused: Cell | None = None
        """The count of its like, where a reply to it has left before: so will the next."""
        verdict = b', "verdict": "forward"}\n'
        if self.refusal is not None:
            verdict = f", {json.dumps(_refused(self.refusal))[1:]}\n".encode()
            if isinstance(self.refusal, gate.Reply):
                self.reply_rest = self.refusal.packet[ID_BYTES:]
        self.query_line = asker.query_line + question.line + verdict
        self.answer_line = asker.answer_line + question.line

    @property
    def is_early(self) -> bool:
        """Nothing that we know of would have had the kernel redirect it."""
        rules = self.asker.rules
        return self.question.query is not None and (rules is None or rules.are_none)

    def replied(self, count: Cell) -> None:
        """It was refused with a reply; so will its like, unless another policy may be under way."""
        if not self.is_early:
            self.refused = count

    def taken_on(self) -> None:
        """It goes on; so will its like."""
        query = self.question.query
        self.was_taken_on = True
        self.is_plain = not (query and query.signature)


class Judgements:
    """Of the queries of one transport."""

    def __init__(self, protocol: int, settings: gate.GateSettings, budget: InFlight) -> None:
        self.protocol = protocol
        self.settings = settings
        self._budget = budget
        self.cases: Memory[CaseKey, Case] = Memory(_CASES_BYTES, _octets)
        self._questions: Memory[bytes, Question] = Memory(_QUESTIONS_BYTES, _octets)
        self._answers: Memory[_AnswerKey, Answer] = Memory(_ANSWERS_BYTES, _weight, _let_go)
        self._askers: Memory[tuple[bytes, Server], Asker] = Memory(_ASKERS)
        self.table: PolicyTable | None = None
        """The one in use."""
        self.policy = object()
        """Of the table in use alone. Were it the table, that would stay as long as a query of its time."""

    def use(self, table: PolicyTable) -> None:
        """The policy in force from now on."""
        if table is not self.table:
            self.table = table
            self.policy = object()
            self._askers.clear()
            self.cases.clear()

    def case(self, key: CaseKey, source: bytes, server: Server, packet: bytes) -> Case:
        """What becomes of this query, by the policy in use."""
        found = self.cases.get(key)
        if found is None:
            asker, question = self._asker(source, server), self._question(server, packet)
            found = Case(asker, question, packet, self.settings, self.policy)
            if len(packet) <= _REMEMBERED_OCTETS:
                self.cases.put(key, found)
        return found

    def allow(self, case: Case) -> bool:
        """Whether the policy in use lets a query go on that an earlier one has let go."""
        asker, query = self._asker(case.asker.source, case.asker.server), case.question.query
        return query is not None and asker.rules is not None and asker.rules.allow(query.name)

    def answer(self, question: Question, rest: bytes) -> Answer:
        """`rest`: the answer's octets behind the ID."""
        key = question, rest
        found = self._answers.get(key)
        if found is None:
            assert question.query is not None, "only queries are forwarded"
            found = Answer(gate.judge_answer(question.query, _NO_ID + rest, self.settings))
            if found.rest == rest:
                found.is_same, found.rest = True, rest
            if len(rest) <= _REMEMBERED_OCTETS:
                self._answers.put(key, found)
        if len(rest) <= _REMEMBERED_OCTETS:
            question.last, question.last_rest = found, rest
        return found

    def _question(self, server: Server, packet: bytes) -> Question:
        key = sockaddr_of(*server) + packet[ID_BYTES:]
        found = self._questions.get(key)
        if found is None:
            found = Question(packet, self.protocol)
            if len(packet) <= _REMEMBERED_OCTETS:
                self._questions.put(key, found)
        return found

    def _asker(self, source: bytes, server: Server) -> Asker:
        assert self.table is not None, "a policy is in use"
        found = self._askers.get((source, server))
        if found is None:
            found = Asker(self.table, source, server, self.protocol, self._budget)
            self._askers.put((source, server), found)
        return found


_AnswerKey = tuple[Question, bytes]


def _weight(key: _AnswerKey, answer: Answer) -> int:
    addresses = answer.learned.addresses if answer.learned else ()
    return _octets(key[1]) + _ADDRESS_BYTES * len(addresses)


def _let_go(key: _AnswerKey, answer: Answer) -> None:
    """It is not remembered any more."""
    question, _ = key
    if question.last is answer:
        question.last, question.last_rest = None, b""


def _refusal(
    asker: Asker, question: Question, packet: bytes, settings: gate.GateSettings
) -> gate.Drop | gate.Reply | None:
    """Why this goes nowhere; None: it is to be forwarded. The order is the gate's."""
    if question.query is None:
        return question.flaw
    if asker.rules is None:
        return gate.stranger(packet)
    return None if asker.rules.allow(question.query.name) else gate.denied(packet, settings)


def _refused(refusal: gate.Drop | gate.Reply) -> dict[str, object]:
    """For the journal."""
    replied = isinstance(refusal, gate.Reply)
    return {
        "verdict": "reply" if replied else "drop",
        "rcode": refusal.packet[3] & 0xF if isinstance(refusal, gate.Reply) else None,
        "reason": refusal.reason.value,
    }


def _readable(packet: bytes) -> Query | None:
    """What is refused is told too, as far as it can be read."""
    try:
        return message.read_query(packet)
    except message.MalformedDNS:
        return None


def _question_line(query: Query | None) -> bytes:
    if query is None:
        return b', "name": null, "type": null'
    return f', "name": {json.dumps(names.to_text(query.name))}, "type": {query.qtype}'.encode()


def _octets(rest: bytes, _value: object = None) -> int:
    return _ENTRY_BYTES + _COPIES * len(rest)
