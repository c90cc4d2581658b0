"""Decisions find their packets: by who asked what, and when."""

from __future__ import annotations

from lab.capture.decisions import Decision, Key, When, dns_key, packet_key
from lab.capture.headers import TCP, UDP, Asked, Heads
from lab.capture.joining import Index, Seen

POD, SERVER, WEB = "10.244.0.2", "10.96.0.10", "198.51.100.10"
MS = 1_000_000
SECOND = 1_000 * MS


def query(number: int, time_ns: int, node: str = "node1", name: str = "api.example.com.") -> Seen:
    return Seen(
        number, node, time_ns, Heads(POD, SERVER, UDP, 4000 + number, 53, asked=Asked(name, 1, False))
    )


def answer(number: int, time_ns: int) -> Seen:
    asked = Asked("api.example.com.", 1, is_answer=True)
    return Seen(number, "node1", time_ns, Heads(SERVER, POD, UDP, 53, 4000, asked=asked))


def syn(number: int, time_ns: int, *, opens: bool = True, to: str = WEB) -> Seen:
    return Seen(number, "node1", time_ns, Heads(POD, to, TCP, 5000, 443, opens))


def decided(time_ns: int, key: Key, when: When, claim: str = "it", to: str = "") -> Decision:
    return Decision("node1", time_ns, key, when, "text", claim, b"{}", to)


ASKED = dns_key(POD, SERVER, UDP, "api.example.com.", "A", is_answer=False)
ANSWERED = dns_key(POD, SERVER, UDP, "api.example.com.", "A", is_answer=True)
OPENED = packet_key(POD, TCP, 5000)


def test_the_last_query_before_the_decision_is_meant() -> None:
    index = Index([query(0, 0), query(1, SECOND), query(2, 2 * SECOND)])
    assert index.claim(decided(SECOND + MS, ASKED, When.BEFORE)) == 1


def test_each_of_several_decisions_gets_a_packet_of_its_own_and_the_next_none() -> None:
    index = Index([query(0, 0), query(1, MS)])
    asked = decided(2 * MS, ASKED, When.BEFORE)
    assert {index.claim(asked), index.claim(asked)} == {0, 1}
    assert index.claim(asked) is None


def test_decisions_of_different_kinds_may_be_about_one_packet() -> None:
    index = Index([syn(0, 0)])
    assert index.claim(decided(MS, OPENED, When.FIRST, "egress")) == 0
    assert index.claim(decided(MS, OPENED, When.FIRST, "ingress")) == 0


def test_a_query_that_came_during_a_burst_is_found_after_the_moment_that_was_noted() -> None:
    index = Index([query(0, 20 * MS)])
    assert index.claim(decided(0, ASKED, When.BEFORE)) == 0


def test_an_answer_is_looked_for_after_its_decision_and_is_not_the_query() -> None:
    index = Index([query(0, 0), answer(1, MS), answer(2, SECOND)])
    assert index.claim(decided(500 * MS, ANSWERED, When.AFTER)) == 2


def test_a_connection_is_known_by_its_first_packet_however_late_it_is_reported() -> None:
    index = Index([syn(0, 0), syn(1, MS, opens=False), syn(2, 2 * MS, opens=False)])
    assert index.claim(decided(90 * MS, OPENED, When.FIRST)) == 0


def test_what_is_left_of_an_older_connection_does_not_open_the_new_one() -> None:
    index = Index([syn(0, 0, opens=False), syn(1, MS)])
    assert index.claim(decided(90 * MS, OPENED, When.FIRST)) == 1


def test_a_packet_to_someone_else_is_not_meant_unless_he_is_a_service() -> None:
    drop = decided(MS, OPENED, When.BEFORE, to="10.244.0.20")
    assert Index([syn(0, 0)]).claim(drop) is None
    assert Index([syn(0, 0, to=SERVER)], services={SERVER}).claim(drop) == 0


def test_another_node_or_another_name_or_long_ago_is_another_packet() -> None:
    packets = [query(0, 0, node="node2"), query(1, 0, name="other.example.com."), query(2, -9 * SECOND)]
    assert Index(packets).claim(decided(MS, ASKED, When.BEFORE)) is None
