"""Who connects the instant a name is answered is never dropped, and who knocks before is never let in.

Names and addresses are new, random and many. The check itself is put to the test: a resolver that answers
before the commit must be caught by it, and a right one must pass it beside the same slow shim.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lab.runtime.lab import Lab
from lab.spec.topology import Topology

from .. import cluster_dns
from .probes import Sides, answers_in, answers_out
from .race import Names, Verdict, rush
from .stand_in import stand_in
from .wire import query, seeded, tapped, until

pytestmark = pytest.mark.root

NAMES = 2_000
CONTROL_NAMES = 48
HELD_NAMES = 20
IN_FLIGHT = 16
PORT = 4433
ZONE = "race.example.net"
FAULTY = Path(__file__).parent / "faulty"

POLICY = f"""
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: client, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: client}}}}
  egress:
    - toEndpoints:
        - matchLabels: {{"k8s:io.kubernetes.pod.namespace": kube-system, "k8s:k8s-app": kube-dns}}
      toPorts:
        - ports: [{{port: "53", protocol: ANY}}]
          rules: {{dns: [{{matchPattern: "*.{ZONE}"}}]}}
    - toFQDNs: [{{matchPattern: "*.{ZONE}"}}]
      toPorts:
        - ports: [{{port: "{PORT}", protocol: TCP}}]
"""

TOPOLOGY = Topology.model_validate(
    {
        "name": "race",
        # However slow the machine is: no answer may be released because its commit took too long. However
        # fast it is: so many new names are more than a pod may usually ask for (1,000, then 5 a second).
        "nodes": [
            {
                "name": "node1",
                "resolver": {"commit_timeout_ms": 20_000, "max_new_names_at_once_per_pod": 100_000},
            }
        ],
        "pods": [
            {"name": "client", "node": "node1", "labels": {"app": "client"}},
            cluster_dns.pod(program=cluster_dns.DNSMASQ),
        ],
        "services": [cluster_dns.SERVICE],
        "policies": [{"inline": POLICY}],
    }
)


@dataclass(frozen=True, slots=True)
class Course:
    """A lab of one restricted pod, more names than the tests need, and the taps."""

    lab: Lab
    names: Names
    sides: Sides

    def rush(self, count: int, in_flight: int = IN_FLIGHT, linger_s: float = 5.0) -> Verdict:
        return rush(self.sides, self.names.take(count), PORT, in_flight=in_flight, linger_s=linger_s)


@pytest.fixture(scope="module")
def course() -> Iterator[Course]:
    rng = seeded()
    lab = Lab.up(TOPOLOGY, name=f"t{os.getpid()}-race")
    try:
        names = Names(ZONE, NAMES + 2 * CONTROL_NAMES + HELD_NAMES + 1, rng)
        lab.set_names(names.records())
        with Sides.of(lab, "client", rng) as sides:
            yield Course(lab, names, sides)
    finally:
        lab.down()


@pytest.fixture(scope="module")
def thousands(course: Course) -> tuple[Verdict, Verdict]:
    """Half of the names one at a time, which is the tightest; half of them many at once."""
    both = course.rush(NAMES // 2, in_flight=1), course.rush(NAMES // 2)
    for verdict in both:
        print(f"median time from answer to SYN: {verdict.median_gap_us:.0f} µs")
    return both


@pytest.fixture(scope="module")
def slow_shim(course: Course) -> Iterator[Course]:
    """The course while every commit takes a tenth of a second."""
    with stand_in(course.lab, "node1", "shim", FAULTY / "slow_shim.py"):
        yield course


def test_each_of_2000_new_names_is_answered_and_a_syn_follows(thousands: tuple[Verdict, Verdict]) -> None:
    assert [(verdict.unanswered, verdict.untested) for verdict in thousands] == [((), ())] * 2


def test_no_syn_that_follows_its_answer_at_once_is_dropped(thousands: tuple[Verdict, Verdict]) -> None:
    assert [verdict.dropped for verdict in thousands] == [(), ()]


def test_no_syn_has_to_be_sent_twice(thousands: tuple[Verdict, Verdict]) -> None:
    assert [verdict.repeated for verdict in thousands] == [(), ()]


def test_no_syn_is_let_through_before_its_name_is_asked_for(thousands: tuple[Verdict, Verdict]) -> None:
    assert [verdict.let_in for verdict in thousands] == [(), ()]


def test_no_syn_is_let_through_while_its_answer_is_held_back(course: Course) -> None:
    lab, sides, cable = course.lab, course.sides, course.sides.wire
    [(open_name, known)] = course.names.take(1)
    held = dict(course.names.take(HELD_NAMES))
    shim = lab.node("node1").shim
    with contextlib.ExitStack() as cleanup:
        upstream = cleanup.enter_context(tapped(lab.pod("kube-dns")))
        assert sides.ask(open_name).addresses == (known,)
        sides.clear()
        upstream.clear()
        shim.kill(signal.SIGSTOP)
        cleanup.callback(shim.kill, signal.SIGCONT)
        for number, name in enumerate(held):
            cable.udp(cable.cluster_dns, query(name, ident=number))
        until(lambda: len(answers_out(upstream)) == HELD_NAMES, "the DNS server has answered")
        early = sides.let_out(held.values(), PORT, known=known)
        assert not answers_in(cable.tap), "the answers were not held back"
        shim.kill(signal.SIGCONT)
        until(lambda: len(answers_in(cable.tap)) == HELD_NAMES, "the answers are released")
        late = sides.let_out(held.values(), PORT, known=known)
    assert (early, late) == ({known}, {known, *held.values()})


def test_a_slow_commit_delays_answers_and_still_drops_no_syn(slow_shim: Course) -> None:
    verdict = slow_shim.rush(CONTROL_NAMES)
    assert (verdict.unanswered, verdict.untested, verdict.dropped) == ((), (), ())


def test_a_resolver_that_answers_before_the_commit_is_caught(slow_shim: Course) -> None:
    with stand_in(slow_shim.lab, "node1", "resolver", FAULTY / "early_release.py"):
        verdict = slow_shim.rush(CONTROL_NAMES, linger_s=0.3)
    assert len(verdict.dropped) > 0
    assert (verdict.unanswered, verdict.untested) == ((), ())
