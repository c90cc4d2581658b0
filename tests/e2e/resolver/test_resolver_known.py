"""A real resolver and an agent that promises to keep what it is told: what is told then, and what is held."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import grpc
import pytest

from acns.api import fqdndata_pb2 as pb
from acns.api import kept

from .resolver_world import (
    SERVER,
    WAIT_S,
    Behaviour,
    Bench,
    Gate,
    answer,
    confirm,
    policy,
    query,
    quiet,
    rcode,
    until,
)

pytestmark = pytest.mark.root

REFUSED = 5
KNOWN = 'acns_dns_answers_total{outcome="known",transport="udp"}'
_idents = itertools.count(1)


def promising(seconds: float) -> Behaviour:
    def behave(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
        context.set_trailing_metadata(kept.to_metadata(seconds))
        return confirm(mapping, context)

    return behave


class Asking:
    """A pod and its server, which answers with what the test says."""

    def __init__(self, bench: Bench) -> None:
        self.pod, self._server = bench.pod_socket(), bench.server_socket()

    def ask(self, *addresses: str, name: str = "www.example.com.", ttl: int = 300) -> None:
        self.held(*addresses, name=name, ttl=ttl)()

    def held(self, *addresses: str, name: str = "www.example.com.", ttl: int = 300) -> Callable[[], object]:
        """Asked, and to be answered when this is called."""
        self.pod.sendto(query(name, ident=next(_idents)), (SERVER, 53))
        forwarded, resolver = self._server.recvfrom(4096)
        return lambda: self._server.sendto(answer(forwarded, *addresses, ttl=ttl), resolver)

    def answered(self, *addresses: str, name: str = "www.example.com.", ttl: int = 300) -> int:
        """The code that the pod gets."""
        self.ask(*addresses, name=name, ttl=ttl)
        return rcode(self.pod.recv(4096))


@pytest.fixture
def asking(bench: Bench) -> Asking:
    """The agent promises 300 s, and nothing is learned yet."""
    bench.serving("*.example.com", commit_timeout_ms=4000)
    bench.agent.behaviour = promising(300)
    return Asking(bench)


def test_what_was_promised_is_told_once_and_then_passes(bench: Bench, asking: Asking) -> None:
    for _ in range(5):
        assert asking.answered("192.0.2.7") == 0
    assert bench.agent.take_mapping().record_ip == [b"192.0.2.7"]
    assert bench.agent.mappings.empty()
    assert bench.resolver.metric(KNOWN) == 4


def test_known_answers_do_not_wait_for_a_hung_agent(bench: Bench, asking: Asking) -> None:
    assert asking.answered("192.0.2.7", "192.0.2.8") == 0
    bench.agent.behaviour = Gate()
    for addresses in (("192.0.2.7",), ("192.0.2.8", "192.0.2.7")):
        assert asking.answered(*addresses) == 0


def test_a_new_address_of_a_known_name_is_held_until_it_is_confirmed(bench: Bench, asking: Asking) -> None:
    assert asking.answered("192.0.2.7") == 0
    bench.agent.behaviour = gate = Gate()
    asking.ask("192.0.2.7", "192.0.2.8")
    bench.agent.take_mapping()
    assert sorted(bench.agent.take_mapping().record_ip) == [b"192.0.2.7", b"192.0.2.8"]
    assert quiet(asking.pod)
    gate.open()
    assert rcode(asking.pod.recv(4096)) == 0


def test_the_same_address_under_another_name_is_held(bench: Bench, asking: Asking) -> None:
    assert asking.answered("192.0.2.7") == 0
    bench.agent.behaviour = gate = Gate()
    asking.ask("192.0.2.7", name="other.example.com.")
    assert quiet(asking.pod)
    gate.open()
    assert rcode(asking.pod.recv(4096)) == 0


def test_a_later_end_is_told_while_the_answer_passes(bench: Bench, asking: Asking) -> None:
    assert asking.answered("192.0.2.7", ttl=30) == 0
    bench.agent.take_mapping()
    bench.agent.behaviour = gate = Gate()
    assert asking.answered("192.0.2.7", ttl=3000) == 0
    assert bench.agent.take_mapping().ttl == 3000
    assert asking.answered("192.0.2.7", ttl=3000) == 0
    assert bench.agent.mappings.empty()  # one at a time for a name
    gate.open()


def test_each_later_end_is_told_however_many_of_one_name_there_are_at_once(
    bench: Bench, asking: Asking
) -> None:
    """A name whose addresses take turns: what one answer taught is not told with another's."""
    addresses = [f"192.0.2.{number}" for number in range(1, 41)]
    for address in addresses:
        assert asking.answered(address, ttl=30) == 0
        bench.agent.take_mapping()
    bench.agent.behaviour = gate = Gate()
    for ttl in (3000, 6000):
        for address in addresses:
            assert asking.answered(address, ttl=ttl) == 0
    gate.open()
    untold = set(addresses)
    while untold:
        told = bench.agent.take_mapping()
        untold -= {address.decode() for address in told.record_ip if told.ttl == 6000}


def test_a_later_end_that_was_not_told_is_left_to_the_next_process(bench: Bench, asking: Asking) -> None:
    assert asking.answered("192.0.2.7", ttl=30) == 0
    bench.agent.take_mapping()
    bench.agent.behaviour = gate = Gate()
    assert asking.answered("192.0.2.7", ttl=3000) == 0
    assert bench.agent.take_mapping().ttl == 3000
    bench.resolver.process.terminate()
    assert bench.resolver.process.wait(timeout=WAIT_S) == 0
    gate.open()
    bench.agent.behaviour = promising(300)
    bench.start()
    assert bench.agent.take_mapping().record_ip == [b"192.0.2.7"]


def test_without_a_promise_each_answer_is_told_and_held(bench: Bench, asking: Asking) -> None:
    bench.agent.behaviour = confirm
    assert asking.answered("192.0.2.7") == 0
    bench.agent.behaviour = gate = Gate()
    asking.ask("192.0.2.7")
    assert quiet(asking.pod)
    gate.open()
    assert rcode(asking.pod.recv(4096)) == 0
    assert bench.agent.mappings.qsize() == 2


def test_when_a_promise_has_ended_answers_are_held_again(bench: Bench, asking: Asking) -> None:
    bench.agent.behaviour = promising(2)
    assert asking.answered("192.0.2.7") == 0
    bench.agent.behaviour = gate = Gate()

    def held() -> bool:
        asking.ask("192.0.2.7")
        return quiet(asking.pod)

    until(lambda: held() or (asking.pod.recv(4096) and False), "an answer that is held")
    gate.open()
    assert rcode(asking.pod.recv(4096)) == 0


def test_a_ttl_of_nothing_is_told_each_time(bench: Bench, asking: Asking) -> None:
    for _ in range(3):
        assert asking.answered("192.0.2.7", ttl=0) == 0
    assert bench.agent.mappings.qsize() == 3


def test_with_a_new_connection_nothing_is_known_any_more(bench: Bench, asking: Asking) -> None:
    assert asking.answered("192.0.2.7") == 0
    assert asking.answered("192.0.2.7") == 0
    bench.agent.stop()
    until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
    bench.agent.behaviour = gate = Gate()
    bench.agent.start()
    until(lambda: '"agent_connected": true' in bench.resolver.get("/readyz")[1], "connected")
    asking.ask("192.0.2.7")
    assert quiet(asking.pod)
    gate.open()
    assert rcode(asking.pod.recv(4096)) == 0


def test_while_the_agent_is_away_what_the_kernel_has_passes_and_no_backlog_grows(
    bench: Bench, asking: Asking
) -> None:
    assert asking.answered("192.0.2.7") == 0
    assert asking.answered("192.0.2.7") == 0
    bench.agent.stop()
    until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
    assert asking.answered("192.0.2.7") == 0
    assert bench.resolver.metric(KNOWN) == 2
    assert bench.resolver.metric("acns_mappings_waiting") == 0


def test_what_the_agent_refuses_to_renew_is_held_again(bench: Bench, asking: Asking) -> None:
    def refuse(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
        return pb.UpdateMappingResponse(response=pb.RESPONSE_CODE_ERROR_ENDPOINT_NOT_FOUND)

    assert asking.answered("192.0.2.7", ttl=30) == 0
    bench.agent.behaviour = refuse
    assert asking.answered("192.0.2.7", ttl=3000) == 0
    refused = 'acns_mappings_total{outcome="refused"}'
    until(lambda: bench.resolver.metric(refused) == 1, "the renewal is refused")
    assert asking.answered("192.0.2.7", ttl=3000) == 2  # SERVFAIL


@pytest.mark.parametrize("addresses", [("192.0.2.7",), ()], ids=["known", "nothing to learn"])
def test_what_is_under_way_when_its_name_is_taken_away_is_denied(
    bench: Bench, asking: Asking, addresses: tuple[str, ...]
) -> None:
    for _ in range(2):
        asking.answered(*addresses)
    answer_now = asking.held(*addresses)
    bench.agent.publish(policy("*.example.org", request_id="other"))
    bench.agent.take_ack()
    answer_now()
    assert rcode(asking.pod.recv(4096)) == REFUSED
