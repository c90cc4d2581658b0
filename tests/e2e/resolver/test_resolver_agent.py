"""A real resolver and a scripted agent: policy in, mappings out, and what happens when the agent fails."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import time

import grpc
import pytest

from acns.api import fqdndata_pb2 as pb
from acns.resolver.budget import LARGE_OCTETS
from acns.resolver.early import MOST_OF_POD

from .resolver_world import (
    QUIET_S,
    SERVER,
    WAIT_S,
    Bench,
    Gate,
    answer,
    padded_query,
    policy,
    query,
    quiet,
    rcode,
    receive_framed,
    send_framed,
    until,
)

pytestmark = pytest.mark.root

REFUSED, SERVFAIL = 5, 2


def asked_and_answered(bench: Bench, name: str, address: str, ttl: int = 300) -> socket.socket:
    """A query of the pod that its server has answered; the pod's socket."""
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query(name), (SERVER, 53))
    forwarded, resolver = server.recvfrom(4096)
    server.sendto(answer(forwarded, address, ttl=ttl), resolver)
    server.close()
    return pod


def rcode_of(bench: Bench, name: str) -> int:
    """What the pod hears about a name; a forwarded query counts as 0."""
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query(name), (SERVER, 53))
    server.setblocking(False)
    pod.setblocking(False)

    def heard() -> list[int]:
        for receiver in (server, pod):
            with contextlib.suppress(BlockingIOError):
                packet = receiver.recv(4096)
                return [0 if receiver is server else rcode(packet)]
        return []

    try:
        return until(heard, "some outcome")[0]
    finally:
        server.close()


# --- the beginning -------------------------------------------------------------------------------------


def test_nothing_is_bound_and_readiness_says_why_until_the_first_snapshot(bench: Bench) -> None:
    bench.agent.start()
    resolver = bench.start()
    until(lambda: resolver.get("/readyz")[0], "http")
    status, text = resolver.get("/readyz")
    assert (status, json.loads(text)["reasons"]) == (503, ["no policy snapshot yet", "sockets not bound"])
    assert resolver.get("/healthz")[0] == 200
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    assert quiet(pod)
    assert quiet(server)  # fails closed: the query does not reach the server by itself
    server.close()
    bench.agent.publish(policy("*.example.com"))
    resolver.wait_ready()
    assert rcode_of(bench, "www.example.com.") == 0


def test_agent_that_comes_later_is_found(bench: Bench) -> None:
    resolver = bench.start()
    until(lambda: resolver.get("/readyz")[0] == 503, "http")
    bench.agent.publish(policy("*.example.com"))
    bench.agent.start()
    resolver.wait_ready()


def test_its_socket_is_for_root_alone(bench: Bench) -> None:
    bench.serving("*.example.com")
    assert stat.S_IMODE(bench.resolver.http_socket.stat().st_mode) == 0o600


def test_sigterm_ends_it_cleanly_with_a_query_and_a_stream_open(bench: Bench) -> None:
    bench.serving("*.example.com")
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    server.recv(4096)
    assert bench.resolver.end() == 0
    assert not bench.resolver.http_socket.exists()
    events = [json.loads(line)["event"] for line in bench.resolver.log_file.read_text().splitlines()]
    assert events[-1] == "stopped"


def test_a_port_that_is_taken_is_an_environment_fault(bench: Bench) -> None:
    bench.serving("*.example.com")
    first = bench.resolver
    second = bench.start(http_socket="")
    try:
        assert second.process.wait(timeout=5) == 3
        assert "cannot listen on" in second.log_file.read_text()
    finally:
        first.end()


def test_dead_resolver_fails_closed(bench: Bench) -> None:
    bench.serving("*.example.com")
    bench.resolver.process.kill()
    bench.resolver.process.wait()
    pod, server = bench.pod_socket(), bench.server_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    assert quiet(server)


# --- snapshots -----------------------------------------------------------------------------------------


def test_each_snapshot_is_acknowledged_by_its_id_and_replaces_the_one_before_whole(bench: Bench) -> None:
    bench.serving("*.example.com", "*.example.net")
    assert rcode_of(bench, "www.example.com.") == 0
    bench.agent.publish(policy("*.example.org", request_id="two"))
    ack = bench.agent.take_ack()
    assert (ack.request_id, ack.response) == ("two", pb.RESPONSE_CODE_NO_ERROR)
    assert [rcode_of(bench, f"www.example.{end}.") for end in ("com", "net", "org")] == [REFUSED, REFUSED, 0]
    bench.agent.publish(policy(request_id="three"))
    assert bench.agent.take_ack().request_id == "three"
    assert rcode_of(bench, "www.example.org.") == REFUSED


def test_bad_snapshot_changes_nothing_and_is_acknowledged_with_an_error(bench: Bench) -> None:
    bench.serving("*.example.com")
    bad = policy("*.example.org", "not a pattern!", request_id="bad")
    bench.agent.publish(bad)
    ack = bench.agent.take_ack()
    assert (ack.request_id, ack.response) == ("bad", pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT)
    assert [rcode_of(bench, f"www.example.{end}.") for end in ("com", "org")] == [0, REFUSED]
    assert "not a pattern!" in bench.resolver.get("/readyz")[1]


def test_pod_without_an_endpoint_in_the_snapshot_is_servfail(bench: Bench) -> None:
    bench.serving("*.example.com")
    state = policy("*.example.com", request_id="two")
    state.ClearField("identity_to_endpoint_mapping")
    bench.agent.publish(state)
    bench.agent.take_ack()
    assert rcode_of(bench, "www.example.com.") == SERVFAIL


def publish_no_rules(bench: Bench, *, endpoints: bool = True) -> None:
    state = policy(request_id="none")
    state.ClearField("egress_l7_dns_policy")
    if not endpoints:
        state.ClearField("identity_to_endpoint_mapping")
    bench.agent.publish(state)
    bench.agent.take_ack()


@pytest.mark.parametrize("known", [True, False], ids=["an endpoint without rules", "no endpoint yet"])
def test_a_query_that_is_here_before_its_policy_is_answered_by_it(bench: Bench, known: bool) -> None:
    """The kernel redirects a pod before we are told why."""
    bench.serving("*.example.com")
    publish_no_rules(bench, endpoints=known)
    server, pod = bench.server_socket(), bench.pod_socket()
    stream, listening = bench.keep(bench.world.pod.connect(SERVER)), bench.world.dns.listen(SERVER, 53)
    bench.keep(listening)
    pod.sendto(query("www.example.com."), (SERVER, 53))
    send_framed(stream, query("tcp.example.com."))
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 2, "both are kept")
    bench.agent.publish(policy("*.example.com", request_id="with"))
    packet, resolver = server.recvfrom(4096)
    server.sendto(answer(packet, "192.0.2.7"), resolver)
    assert rcode(pod.recv(4096)) == 0
    upstream = bench.keep(listening.accept()[0])
    send_framed(upstream, answer(receive_framed(upstream), "192.0.2.8"))
    assert rcode(receive_framed(stream)) == 0


def test_a_snapshot_about_somebody_else_does_not_end_the_waiting(bench: Bench) -> None:
    bench.serving("*.example.com")
    publish_no_rules(bench)
    server, pod = bench.server_socket(), bench.pod_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 1, "it is kept")
    publish_no_rules(bench)
    assert bench.resolver.metric("acns_dns_in_flight") == 1
    bench.agent.publish(policy("*.example.com", request_id="with"))
    packet, resolver = server.recvfrom(4096)
    server.sendto(answer(packet, "192.0.2.7"), resolver)
    assert rcode(pod.recv(4096)) == 0


def test_snapshots_about_others_do_not_prolong_the_waiting(bench: Bench) -> None:
    bench.serving("*.example.com")
    publish_no_rules(bench)
    pod = bench.pod_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    pod.setblocking(False)

    def refused() -> bool:
        publish_no_rules(bench)
        with contextlib.suppress(BlockingIOError):
            return rcode(pod.recv(4096)) == REFUSED
        return False

    until(refused, "refused while snapshots come")


def test_an_early_query_leaves_on_a_connection_that_idles(bench: Bench) -> None:
    bench.serving("*.example.com")
    listening = bench.keep(bench.world.dns.listen(SERVER, 53))
    first, second = (bench.keep(bench.world.pod.connect(SERVER)) for _ in range(2))
    send_framed(first, query("first.example.com."))
    upstream = bench.keep(listening.accept()[0])
    upstream.settimeout(WAIT_S)
    send_framed(upstream, answer(receive_framed(upstream), "192.0.2.7"))
    assert rcode(receive_framed(first)) == 0
    first.close()
    publish_no_rules(bench)
    send_framed(second, query("second.example.com."))
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 1, "it is kept")
    bench.agent.publish(policy("*.example.com", request_id="with"))
    send_framed(upstream, answer(receive_framed(upstream), "192.0.2.8"))
    assert rcode(receive_framed(second)) == 0


def test_a_query_whose_policy_does_not_come_is_refused_and_others_do_not_wait_for_it(bench: Bench) -> None:
    bench.serving("*.example.com")
    publish_no_rules(bench)
    pods = [bench.pod_socket() for _ in range(MOST_OF_POD + 1)]
    for pod in pods:
        pod.sendto(query("www.example.com."), (SERVER, 53))
    assert rcode(pods[-1].recv(4096)) == REFUSED
    assert bench.resolver.metric("acns_dns_in_flight") == MOST_OF_POD
    assert [rcode(pod.recv(4096)) for pod in pods[:-1]] == [REFUSED] * MOST_OF_POD


def test_a_query_that_was_refused_for_want_of_its_policy_is_kept_for_it_again(bench: Bench) -> None:
    bench.serving("*.example.com")
    publish_no_rules(bench)
    server, pod = bench.server_socket(), bench.pod_socket()
    pod.sendto(query("www.example.com."), (SERVER, 53))
    assert rcode(pod.recv(4096)) == REFUSED
    pod.sendto(query("www.example.com."), (SERVER, 53))
    until(lambda: bench.resolver.metric("acns_dns_in_flight") == 1, "it is kept")
    bench.agent.publish(policy("*.example.com", request_id="with"))
    packet, resolver = server.recvfrom(4096)
    server.sendto(answer(packet, "192.0.2.7"), resolver)
    assert rcode(pod.recv(4096)) == 0


def test_a_large_query_is_not_kept_for_its_policy(bench: Bench) -> None:
    bench.serving("*.example.com")
    publish_no_rules(bench)
    pod = bench.pod_socket()
    pod.sendto(query("www.example.com.", ident=1), (SERVER, 53))
    pod.sendto(padded_query("www.example.com.", 2, LARGE_OCTETS), (SERVER, 53))
    assert [pod.recv(4096)[1] for _ in range(2)] == [2, 1]


# --- a failing agent -----------------------------------------------------------------------------------


def test_without_the_agent_the_last_policy_serves_and_answers_are_released_at_once(bench: Bench) -> None:
    bench.serving("*.example.com", commit_timeout_ms=4000)
    bench.agent.stop()
    until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
    started = time.monotonic()
    pod = asked_and_answered(bench, "www.example.com.", "192.0.2.7")
    assert rcode(pod.recv(4096)) == 0
    assert time.monotonic() - started < 1
    assert rcode_of(bench, "www.example.org.") == REFUSED
    assert bench.resolver.get("/readyz")[0] == 200


def test_mappings_are_told_again_in_order_with_what_is_left_of_their_ttl(bench: Bench) -> None:
    bench.serving("*.example.com")
    bench.agent.stop()
    until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
    for number, ttl in enumerate((300, 1, 200)):
        assert asked_and_answered(bench, f"n{number}.example.com.", f"192.0.2.{number}", ttl).recv(4096)
    assert bench.resolver.metric("acns_mappings_waiting") == 3
    answered_at = time.monotonic()
    until(lambda: time.monotonic() > answered_at + 1.1, "one TTL to run out")
    bench.agent.start()
    told = [bench.agent.take_mapping() for _ in range(2)]
    assert [mapping.fqdn for mapping in told] == ["n0.example.com.", "n2.example.com."]
    assert [295 <= told[0].ttl < 300, 195 <= told[1].ttl < 200] == [True, True]
    until(lambda: bench.resolver.metric("acns_mappings_waiting") == 0, "all told")
    assert bench.resolver.metric('acns_mappings_total{outcome="expired"}') == 1


def test_slow_agent_holds_an_answer_for_the_bound_and_hears_of_it_again(bench: Bench) -> None:
    bench.serving("*.example.com", commit_timeout_ms=300)
    bench.agent.behaviour = gate = Gate()
    pod = asked_and_answered(bench, "www.example.com.", "192.0.2.7")
    started = time.monotonic()
    assert rcode(pod.recv(4096)) == 0
    assert 0.2 < time.monotonic() - started < 1
    assert bench.resolver.metric("cilium_proxy_datapath_update_timeout_total") == 1
    assert (
        bench.resolver.metric('standalone_dns_proxy_fqdn_mapping_sync_errors{error="mapping_sync_request"')
        == 1
    )
    gate.open()
    first, again = bench.agent.take_mapping(), bench.agent.take_mapping()
    assert again.record_ip == first.record_ip == [b"192.0.2.7"]
    until(lambda: bench.resolver.metric("acns_mappings_waiting") == 0, "confirmed")


def test_agent_that_dies_while_an_answer_waits_releases_it_at_once(bench: Bench) -> None:
    bench.serving("*.example.com", commit_timeout_ms=4000)
    bench.agent.behaviour = Gate()
    pod = asked_and_answered(bench, "www.example.com.", "192.0.2.7")
    bench.agent.take_mapping()
    assert quiet(pod)
    started = time.monotonic()
    bench.agent.stop()
    assert rcode(pod.recv(4096)) == 0
    assert time.monotonic() - started < 1
    bench.agent.start()
    assert bench.agent.take_mapping().fqdn == "www.example.com."


def refuse_by_code(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
    return pb.UpdateMappingResponse(response=pb.RESPONSE_CODE_ERROR_ENDPOINT_NOT_FOUND)


def refuse_by_status(mapping: pb.FQDNMapping, context: grpc.ServicerContext) -> pb.UpdateMappingResponse:
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no")
    raise AssertionError


@pytest.mark.parametrize("refuse", [refuse_by_code, refuse_by_status])
def test_mapping_that_the_agent_refuses_is_servfail_and_no_lost_connection(
    bench: Bench, refuse: object
) -> None:
    bench.serving("*.example.com")
    bench.agent.behaviour = refuse  # type: ignore[assignment]
    assert rcode(asked_and_answered(bench, "www.example.com.", "192.0.2.7").recv(4096)) == SERVFAIL
    error = 'standalone_dns_proxy_fqdn_mapping_sync_errors{error="mapping_sync_request"}'
    assert bench.resolver.metric(error) == 1
    assert bench.resolver.metric("acns_mappings_waiting") == 0
    assert bench.agent.streams == 1


def test_hung_process_behind_the_socket_holds_answers_no_longer_than_the_bound(bench: Bench) -> None:
    """The agent's socket accepts, but nobody speaks: no stream, so no waiting at all."""
    bench.serving("*.example.com", commit_timeout_ms=2000)
    bench.agent.stop()
    with socket.socket(socket.AF_UNIX) as mute:
        bench.agent.path.unlink(missing_ok=True)
        mute.bind(str(bench.agent.path))
        mute.listen()
        until(lambda: '"agent_connected": false' in bench.resolver.get("/readyz")[1], "loss noticed")
        started = time.monotonic()
        assert rcode(asked_and_answered(bench, "www.example.com.", "192.0.2.7").recv(4096)) == 0
        assert time.monotonic() - started < 1


def test_policy_change_while_disconnected_arrives_with_the_next_stream(bench: Bench) -> None:
    bench.serving("*.example.com")
    bench.agent.stop()
    bench.agent.publish(policy("*.example.org", request_id="later"))
    bench.agent.start()
    until(lambda: not bench.agent.acks.empty(), "acknowledged")
    assert bench.agent.take_ack().request_id == "later"
    assert [rcode_of(bench, f"www.example.{end}.") for end in ("com", "org")] == [REFUSED, 0]


def test_stopped_resolver_goes_on_where_it_was(bench: Bench) -> None:
    bench.serving("*.example.com")
    os.kill(bench.resolver.process.pid, signal.SIGSTOP)
    pod = bench.pod_socket()
    pod.sendto(query("www.example.org."), (SERVER, 53))
    assert quiet(pod, QUIET_S)
    os.kill(bench.resolver.process.pid, signal.SIGCONT)
    assert rcode(pod.recv(4096)) == REFUSED
