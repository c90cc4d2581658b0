"""From evidence to a scenario: roles, what the server said, what came of it, and every inference said."""

from __future__ import annotations

import math
from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from acns.errors import InputError
from lab.repro.importing import given as giving
from lab.repro.importing import importer, roles
from lab.repro.importing import steps as stepping
from lab.repro.importing.given import Given
from lab.repro.reading.evidence import Counts, End, Kind, Outcome, Trouble
from lab.repro.running import pure
from lab.repro.scenario.model import Pod, Policy, Scenario, Step

from .scenes import POLICY, Recording

POD, OTHER, DNS, NODE = "10.3.1.5", "10.3.1.6", "10.100.0.10", "10.3.1.1"
API = "198.51.100.10"


def imported(recording: Recording, *, policy: str = POLICY, **more: object) -> Scenario:
    policies = (Policy(name="client.yaml", text=policy),) if policy else ()
    about = Given(policies=policies, objects=giving.objects_of(policies), **more)  # type: ignore[arg-type]
    return importer.from_evidence(recording.evidence(), about, "x")


def looked_up(recording: Recording, *, via_node: bool = False) -> bytes:
    query = recording.query(0, POD, DNS, "api.example.com")
    if via_node:
        inner = recording.query(1, NODE, DNS, "api.example.com", port=53_000, ident=99)
        recording.answer(21, inner, DNS, NODE, API, port=53_000)
    recording.answer(30, query, DNS, POD, API)
    return query


def test_who_asks_is_a_pod_and_who_is_asked_a_server_and_both_is_said() -> None:
    recording = Recording()
    looked_up(recording)
    made = imported(recording)
    [pod], [server], [step] = made.pods, made.servers, made.steps
    assert (str(pod.address), pod.labels) == ("10.244.0.2", {"app": "client"})
    assert (server.name, str(server.address)) == ("kube-dns", "10.96.0.10")
    assert (step.ask, step.outcome) == ("api.example.com A", f"NOERROR {API}")
    for about in (POD, DNS, "app=client", "10.244.0.2", "10.96.0.10"):
        assert any(about in one for one in made.assumptions), about


def test_without_the_server_s_side_the_pod_s_answer_is_what_was_said() -> None:
    recording = Recording()
    looked_up(recording)
    assert [one.after_ms for one in imported(recording).steps[0].answers] == [30]


def test_with_both_sides_the_server_s_own_delay_counts() -> None:
    recording = Recording()
    looked_up(recording, via_node=True)
    made = imported(recording)
    assert [one.after_ms for one in made.steps[0].answers] == [20]
    assert [pod.name for pod in made.pods] == ["pod1"]
    assert any(NODE in one and "resolver" in one for one in made.assumptions)


def test_what_came_to_the_resolvers_socket_for_another_query_is_no_answer_to_this_one() -> None:
    recording = Recording()
    names = ["a.example.com", "b.example.com", "c.example.com"]
    asked = [recording.query(n, POD, DNS, name, port=40_000 + n, ident=n) for n, name in enumerate(names)]
    again = [
        recording.query(10 + n, NODE, DNS, name, port=50_000, ident=70 + n) for n, name in enumerate(names)
    ]
    for n, query in enumerate(again):
        recording.answer(20 + n, query, DNS, NODE, f"198.51.100.{n + 1}", port=50_000)
    for n, query in enumerate(asked):
        recording.answer(30 + n, query, DNS, POD, f"198.51.100.{n + 1}", port=40_000 + n)
    steps = imported(recording).steps
    assert [len(step.answers) for step in steps] == [1, 1, 1]
    assert not any(one.wrong_id for step in steps for one in step.answers)


def test_a_refusal_of_the_resolver_is_none_of_the_server() -> None:
    recording = Recording()
    query = recording.query(0, POD, DNS, "evil.example.org")
    recording.answer(1, query, DNS, POD, rcode=5)
    [step] = imported(recording).steps
    assert (step.answers, step.outcome) == ((), "REFUSED")


def test_a_query_without_an_answer_is_silence() -> None:
    recording = Recording()
    recording.query(0, POD, DNS, "api.example.com")
    assert [one.outcome for one in imported(recording).steps] == ["silent"]


def test_who_connects_has_been_told_the_address_before() -> None:
    recording = Recording()
    looked_up(recording)
    recording.flow(10, POD, API, 443)  # before the answer
    recording.flow(31, POD, API, 443)
    steps = imported(recording).steps
    assert [(one.kind, one.after) for one in steps] == [("ask", None), ("connect", None), ("connect", 1)]


@pytest.mark.parametrize(
    ("outcome", "more", "expected"),
    [
        (Outcome.ESTABLISHED, {}, "established"),
        (Outcome.ESTABLISHED, {"syns_ms": (0, 1000), "answered_ms": 1001}, "late"),
        (Outcome.ESTABLISHED, {"syns_ms": (0, 3), "answered_ms": 2}, "established"),
        (Outcome.SILENT, {"syns_ms": (0, 1000, 3000), "answered_ms": None}, "silent"),
        (Outcome.RESET, {}, "reset"),
        (Outcome.UNREACHABLE, {}, "unreachable"),
    ],
)
def test_what_came_of_a_connection(outcome: Outcome, more: dict[str, object], expected: str) -> None:
    recording = Recording()
    looked_up(recording)
    recording.flow(40, POD, API, 443, outcome, **more)  # type: ignore[arg-type]
    assert imported(recording).steps[1].outcome == expected


def test_a_connection_that_lasts_is_used_once_more_and_one_that_is_cut_says_so() -> None:
    recording = Recording()
    looked_up(recording)
    recording.flow(40, POD, API, 443, lasts_ms=5_000, octets=100)
    recording.flow(41, POD, API, 443, lasts_ms=6_000, end=End.CUT, octets=100)
    steps = imported(recording).steps
    assert [(one.kind, one.send, one.outcome) for one in steps[3:]] == [
        ("send", 2, "passes"),
        ("send", 3, "cut"),
    ]


def test_an_answer_under_another_id_or_from_somebody_else_is_told_apart() -> None:
    recording = Recording()
    query = recording.query(0, POD, DNS, "api.example.com")
    recording.answer(1, query, DNS, POD, "198.51.100.66", ident=1234)
    recording.answer(2, query, "203.0.113.9", POD, "198.51.100.67")
    recording.answer(3, query, DNS, POD, API)
    [step] = imported(recording).steps
    assert [(one.wrong_id, one.sender) for one in step.answers] == [
        (True, None),
        (False, "203.0.113.9:53"),
        (False, None),
    ]
    assert step.outcome == f"NOERROR {API}"


def test_queries_from_one_socket_share_one_in_the_scenario() -> None:
    recording = Recording()
    for number, kind in enumerate(("A", "AAAA")):
        recording.query(number, POD, DNS, "api.example.com", ident=number, kind=kind)
    recording.query(5, POD, DNS, "api.example.com", port=41_000)
    sockets = [one.socket for one in imported(recording).steps]
    assert sockets[0] == sockets[1] != sockets[2]


def test_what_a_dns_server_asks_itself_is_left_out() -> None:
    recording = Recording()
    query = recording.query(0, POD, DNS, "api.example.com")
    recording.query(1, DNS, "203.0.113.53", "api.example.com", port=5_000)
    recording.answer(9, query, DNS, POD, API)
    made = imported(recording)
    assert ([one.name for one in made.servers], len(made.steps)) == (["kube-dns"], 1)
    assert any(DNS in one and "asks others itself" in one for one in made.assumptions)


def test_a_server_that_a_policy_names_by_cidr_is_outside() -> None:
    recording = Recording()
    looked_up(recording)
    outside = POLICY.replace(
        POLICY[POLICY.index("toEndpoints") : POLICY.index("\n    toPorts")], f"toCIDR: [{DNS}/32]"
    )
    [server] = imported(recording, policy=outside).servers
    assert (str(server.address), server.labels) == (DNS, {})


def test_what_is_given_is_not_inferred() -> None:
    recording = Recording()
    looked_up(recording)
    pod = Pod(name="frontend", namespace="shop", labels={"app": "client"})
    made = imported(recording, pods={IPv4Address(POD): pod})
    assert (made.pods[0].name, made.pods[0].namespace) == ("frontend", "shop")
    assert not any("because it asks" in one for one in made.assumptions)


def test_steps_that_no_packet_shows_are_put_among_the_others() -> None:
    recording = Recording()
    looked_up(recording)
    recording.flow(50, POD, API, 443)
    made = imported(recording, also=(Step(at_ms=40, fault="kill resolver"),))
    assert [one.kind for one in made.steps] == ["ask", "fault", "connect"]


def test_addresses_that_moved_are_told_as_they_are_now() -> None:
    recording = Recording()
    query = recording.query(0, POD, DNS, "other.example.com")
    recording.query(1, OTHER, DNS, "api.example.com", port=42_000)
    recording.answer(9, query, DNS, POD, OTHER)
    made = imported(recording)
    assert made.steps[0].answers[0].records == ("other.example.com 60 A 10.244.0.3",)
    assert made.steps[0].outcome == "NOERROR 10.244.0.3"


def test_troubles_of_the_capture_are_said() -> None:
    recording = Recording()
    looked_up(recording)
    evidence = recording.evidence(troubles=(Trouble(3, Kind.TRUNCATED, "cut at 68"),))
    made = importer.from_evidence(evidence, Given(), "x")
    assert any("frame 3" in one and "cut at 68" in one for one in made.assumptions)


def test_more_than_people_read_is_cut_and_said_to_be() -> None:
    recording = Recording()
    for number in range(12):
        recording.query(number, POD, DNS, f"n{number}.example.com", ident=number)
    whole = importer.from_evidence(recording.evidence(), Given(), "x")
    some = importer.from_evidence(recording.evidence(), Given(span_s=(0.003, 0.006)), "x")
    assert [step.ask for step in some.steps] == [step.ask for step in whole.steps[3:7]]
    found = stepping.steps(
        recording.evidence(),
        *_talk_and_roles(recording),
        at_most=5,
    )
    assert (len(found.steps), found.is_cut) == (5, True)


def _talk_and_roles(recording: Recording) -> tuple[roles.Dialogue, roles.Roles]:
    evidence = recording.evidence()
    talk = roles.dialogue(evidence, (53,))
    return talk, roles.infer(evidence, talk, Given())


def test_what_is_imported_runs() -> None:
    recording = Recording()
    looked_up(recording, via_node=True)
    recording.flow(31, POD, API, 443)
    assert all(one.agrees for one in pure.run(imported(recording)))


def test_nothing_to_import_is_refused_with_what_to_say() -> None:
    with pytest.raises(InputError, match="there are no packets"):
        importer.from_evidence(Recording().evidence(), Given(), "x")
    only_an_answer = Recording()
    query = Recording().query(0, POD, DNS, "api.example.com")
    only_an_answer.answer(0, query, DNS, POD, API)
    with pytest.raises(InputError, match="no query"):
        importer.from_evidence(only_an_answer.evidence(), Given(), "x")
    for counts, said in (
        (Counts(3, ipv6=3), "are IPv6"),
        (Counts(3, other=3), "none of its 3 packets is IP"),
    ):
        with pytest.raises(InputError, match=said):
            importer.from_evidence(Recording().evidence(counts=counts), Given(), "x")


@pytest.mark.parametrize("at_once", [False, True])
def test_one_socket_may_ask_as_often_as_it_likes(at_once: bool) -> None:
    recording = Recording()
    for number in range(600):
        asked_ms = number * 0.01 if at_once else number * 50
        query = recording.query(asked_ms, POD, DNS, f"n{number}.example.com", ident=number)
        recording.answer(asked_ms + 20, query, DNS, POD, API)
    steps = imported(recording).steps
    assert {(step.outcome, len(step.answers)) for step in steps} == {(f"NOERROR {API}", 1)}


def test_a_pod_that_asks_again_and_again_is_not_the_resolver() -> None:
    recording = Recording()
    for number in range(10):
        at_ms = number * 1000
        query = recording.query(at_ms, POD, DNS, "api.example.com", ident=number)
        inner = recording.query(at_ms + 1, NODE, DNS, "api.example.com", port=53_000, ident=99 - number)
        recording.answer(at_ms + 2, inner, DNS, NODE, API, port=53_000)
        recording.answer(at_ms + 3, query, DNS, POD, API)
    made = imported(recording)
    assert [(len(step.answers), step.outcome) for step in made.steps] == [(1, f"NOERROR {API}")] * 10
    assert any(NODE in one and "resolver" in one for one in made.assumptions)


def test_a_pod_that_asks_what_another_has_been_told_is_a_pod() -> None:
    recording = Recording()
    for number in range(5):
        for at_ms, pod in ((number * 1000, POD), (number * 1000 + 200, OTHER)):
            query = recording.query(at_ms, pod, DNS, f"n{number}.example.com")
            recording.answer(at_ms + 5, query, DNS, pod, API)
    assert len(imported(recording, policy="").pods) == 2


def test_an_answer_that_is_cut_off_says_nothing_and_one_that_is_late_is_left_out() -> None:
    recording = Recording()
    looked_up(recording)
    late = recording.query(100, POD, DNS, "slow.example.com", ident=8)
    recording.answer(100 + 12_000, late, DNS, POD, API)
    recording.messages[1] = replace(recording.messages[1], payload=recording.messages[1].payload[:40])
    made = imported(recording)
    assert [(step.outcome, step.answers) for step in made.steps] == [("", ()), ("silent", ())]
    assert any("1 answers are not whole" in one for one in made.assumptions)
    assert any("later than 10 s" in one for one in made.assumptions)


def test_a_query_that_is_cut_off_is_left_out_and_said_to_be() -> None:
    recording = Recording()
    looked_up(recording)
    recording.query(50, POD, DNS, "api.example.com", ident=9)
    recording.messages[-1] = replace(recording.messages[-1], size=1_000)
    made = imported(recording)
    assert len(made.steps) == 1
    assert any("1 queries are not whole" in one for one in made.assumptions)


@pytest.mark.parametrize("nowhere", ["127.0.0.53", "224.0.0.251", "255.255.255.255", "0.0.0.0"])
def test_whom_no_lab_can_have_is_left_out_and_said_to_be(nowhere: str) -> None:
    recording = Recording()
    looked_up(recording)
    recording.query(50, POD, nowhere, "api.example.com", ident=9)
    recording.flow(60, POD, nowhere, 443)
    made = imported(recording)
    assert [step.kind for step in made.steps] == ["ask"]
    assert sum(nowhere in one for one in made.assumptions) == 2


def test_a_dns_server_that_nobody_asks_is_a_mistake_and_one_that_is_not_given_is_said() -> None:
    recording = Recording()
    looked_up(recording)
    recording.query(50, POD, "10.100.0.11", "api.example.com", ident=9)
    with pytest.raises(InputError, match=r"nobody in the capture asks 192\.0\.2\.1"):
        imported(recording, dns=giving.addresses(["192.0.2.1"]))
    made = imported(recording, dns=giving.addresses([DNS]))
    assert any("10.100.0.11 are asked too" in one for one in made.assumptions)


@pytest.mark.parametrize(
    "span", [(5.0, 1.0), (math.nan, 9.0), (0.0, math.nan), (math.inf, math.inf), (-1.0, 2.0)]
)
def test_a_time_in_which_nothing_is_is_refused(span: tuple[float, float]) -> None:
    with pytest.raises(InputError):
        giving.span(*span)


@pytest.mark.parametrize("name", ["../x", "", "A", "-x", "x" * 64])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        importer.name_given(name)


def test_two_pods_at_one_address_are_refused() -> None:
    with pytest.raises(InputError, match="two pods"):
        giving.pods(["10.0.0.1=a", "10.0.0.1=b"])
    assert len(giving.pods(["10.0.0.1=a", "10.0.0.1=a"])) == 1


@pytest.mark.parametrize("text", ["", "10.0.0.1", "x=y", "10.0.0.1=Frontend", "10.0.0.1=a/b/c d"])
def test_what_names_no_pod_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        giving.pods([text])


def test_a_pod_is_given_with_namespace_and_labels() -> None:
    [(address, pod)] = giving.pods(["10.0.0.1=shop/web:app=web,tier=x"]).items()
    assert (str(address), pod.namespace, pod.name, pod.labels) == (
        "10.0.0.1",
        "shop",
        "web",
        {"app": "web", "tier": "x"},
    )
