"""Connections: what became of each, how it ended, and who is the client."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.repro.reading.evidence import End, Flow, Kind, Limits, Outcome

from .made import (
    ACK,
    FIN,
    MS,
    POD,
    PSH,
    RST,
    SERVICE,
    SYN,
    T0,
    WEB,
    Talk,
    enhanced,
    ethernet,
    evidence,
    interface,
    ipv4,
    ipv6,
    paced,
    pcap,
    section,
    taps,
    tcp,
    udp,
)

S = 1_000 * MS


def flows(file: bytes, folder: Path) -> tuple[Flow, ...]:
    return evidence(file, folder).flows


def only(frames: list[bytes], folder: Path, step_ns: int = MS) -> Flow:
    (flow,) = flows(pcap(paced(frames, step_ns)), folder)
    return flow


def exchange(talk: Talk) -> list[bytes]:
    return [
        *talk.handshake(),
        talk.out(PSH | ACK, 1, 5_001, b"get"),
        talk.back(PSH | ACK, 1, 4, b"there you are"),
        talk.out(ACK, 4, 5_014),
    ]


def test_a_connection_that_came_to_be_and_was_closed(tmp_path: Path) -> None:
    talk = Talk(WEB)
    last = [talk.out(FIN | ACK, 4, 5_014), talk.back(FIN | ACK, 14, 5), talk.out(ACK, 5, 5_015)]
    flow = only([*exchange(talk), *last], tmp_path)
    assert (flow.outcome, flow.end, flow.protocol) == (Outcome.ESTABLISHED, End.CLOSED, "tcp")
    assert (str(flow.client), str(flow.server)) == (f"{POD}:50000", f"{WEB}:443")
    assert (flow.syns_ns, flow.answered_ns, flow.ended_ns) == ((T0,), T0 + MS, T0 + 6 * MS)
    assert (flow.bytes_sent, flow.bytes_received, flow.packets, flow.resent) == (3, 13, 9, 0)


def test_a_connection_that_lives_at_the_end_is_open(tmp_path: Path) -> None:
    flow = only(exchange(Talk(WEB)), tmp_path)
    assert (flow.end, flow.ended_ns) == (End.OPEN, None)


def test_a_syn_that_nobody_answers_is_silent_with_the_times_of_its_retransmissions(tmp_path: Path) -> None:
    talk = Talk(WEB)
    flow = only([talk.out(SYN, 0) for _ in range(4)], tmp_path, S)
    assert (flow.outcome, flow.answered_ns) == (Outcome.SILENT, None)
    assert flow.syns_ns == (T0, T0 + S, T0 + 2 * S, T0 + 3 * S)


def test_a_syn_whose_answer_is_lost_on_the_way_back_is_silent(tmp_path: Path) -> None:
    talk = Talk(WEB)
    frames = [talk.out(SYN, 0), talk.back(SYN | ACK, 0, 1), talk.out(SYN, 0), talk.back(SYN | ACK, 0, 1)]
    assert only(frames, tmp_path, S).outcome is Outcome.SILENT


def test_a_syn_answered_by_a_reset(tmp_path: Path) -> None:
    talk = Talk(WEB)
    flow = only([talk.out(SYN, 0), talk.back(RST | ACK, 0, 1)], tmp_path)
    assert (flow.outcome, flow.end, flow.answered_ns) == (Outcome.RESET, End.RESET, T0 + MS)


def test_a_syn_answered_by_an_icmp_error_belongs_to_its_flow(tmp_path: Path) -> None:
    syn = Talk(WEB).out(SYN, 0)
    error = ethernet(ipv4("10.244.0.1", POD, 1, b"\3\x0d" + bytes(6) + syn[14 : 14 + 28]))
    flow = only([syn, error], tmp_path)
    assert (flow.outcome, flow.icmp, flow.answered_ns) == (Outcome.UNREACHABLE, (3, 13), T0 + MS)


def test_an_icmp_error_that_asks_for_smaller_packets_is_no_end(tmp_path: Path) -> None:
    frames = exchange(Talk(WEB))
    error = ethernet(ipv4("10.244.0.1", POD, 1, b"\3\4" + bytes(6) + frames[0][14 : 14 + 28]))
    assert only([*frames, error], tmp_path).icmp is None


def test_a_connection_that_is_reset_and_one_that_is_cut_end_so(tmp_path: Path) -> None:
    talk = Talk(WEB)
    reset = only([*exchange(talk), talk.back(RST, 14)], tmp_path)
    assert (reset.outcome, reset.end, reset.ended_ns) == (Outcome.ESTABLISHED, End.RESET, T0 + 6 * MS)
    talk = Talk(WEB)
    cut = only([*exchange(talk), *(talk.out(PSH | ACK, 4, 5_014, b"more") for _ in range(4))], tmp_path)
    assert (cut.end, cut.ended_ns, cut.resent) == (End.CUT, T0 + 6 * MS, 3)


def test_a_fin_that_nobody_acknowledges_is_a_cut(tmp_path: Path) -> None:
    talk = Talk(WEB)
    flow = only([*exchange(talk), *(talk.out(FIN | ACK, 4, 5_014) for _ in range(4))], tmp_path)
    assert (flow.end, flow.ended_ns) == (End.CUT, T0 + 6 * MS)


def test_what_is_sent_again_and_comes_is_no_cut_and_a_keep_alive_is_no_retransmission(tmp_path: Path) -> None:
    talk = Talk(WEB)
    again = [talk.out(PSH | ACK, 4, 5_014, b"more") for _ in range(4)]
    flow = only([*exchange(talk), *again, talk.back(ACK, 14, 8)], tmp_path)
    assert (flow.end, flow.resent) == (End.OPEN, 3)
    talk = Talk(WEB)
    alive = [talk.out(ACK, 3, 5_014, b"\0") for _ in range(5)]
    flow = only([*exchange(talk), *alive], tmp_path)
    assert (flow.end, flow.resent) == (End.OPEN, 0)


def test_a_connection_from_before_the_capture_is_midway_and_its_server_is_guessed_by_port(
    tmp_path: Path,
) -> None:
    flow = only(exchange(Talk(WEB))[4:], tmp_path)
    assert (flow.outcome, str(flow.server), flow.syns_ns) == (Outcome.MIDWAY, f"{WEB}:443", ())


def test_a_port_that_is_used_again_is_another_connection(tmp_path: Path) -> None:
    first, second = Talk(WEB, isn=1_000), Talk(WEB, isn=900_000)
    second.ident = 500
    found = flows(pcap(paced([*exchange(first), *exchange(second)])), tmp_path)
    assert [(one.outcome, one.packets) for one in found] == [(Outcome.ESTABLISHED, 6)] * 2


def test_datagrams_are_a_flow_answered_or_not_and_another_one_after_a_long_silence(tmp_path: Path) -> None:
    def sent(ident: int) -> bytes:
        return ethernet(ipv4(POD, WEB, 17, udp(50_000, 443, b"hello"), ident=ident))

    back = ethernet(ipv4(WEB, POD, 17, udp(443, 50_000, b"hi"), ident=9))
    first, second = flows(pcap([(T0, sent(1)), (T0 + S, back), (T0 + 300 * S, sent(2))]), tmp_path)
    assert (first.outcome, first.bytes_sent, first.bytes_received) == (Outcome.ESTABLISHED, 5, 2)
    assert (second.outcome, second.protocol, second.syns_ns) == (Outcome.SILENT, "udp", (T0 + 300 * S,))


def with_server(frame: bytes, server: str, ttl: int) -> bytes:
    """The same packet on the other side of a translation."""
    ident = int.from_bytes(frame[18:20], "big")
    to_server = frame[26:30] == bytes(map(int, POD.split(".")))
    ends = (POD, server) if to_server else (server, POD)
    return ethernet(ipv4(*ends, 6, frame[34:], ident=ident, ttl=ttl))


def no_ident(frame: bytes) -> bytes:
    return frame[:18] + bytes(2) + frame[20:]


def test_a_connection_to_a_service_is_one_flow_as_the_client_sees_it(tmp_path: Path) -> None:
    frames = paced(exchange(Talk(WEB)))
    node, pod = [], []
    for at_ns, frame in frames:
        outward = frame[26:30] == bytes(map(int, POD.split(".")))
        node.append((at_ns, with_server(frame, WEB, 63 if outward else 64)))
        shift = -1_000 if outward else 1_000
        pod.append((at_ns + shift, with_server(frame, SERVICE, 64 if outward else 63)))
    # What Linux sends as the answer to a SYN has no identification.
    node[1], pod[1] = ((at, no_ident(frame)) for at, frame in (node[1], pod[1]))
    (flow,) = flows(taps(pod, node), tmp_path)
    assert (str(flow.server), str(flow.translated)) == (f"{SERVICE}:443", f"{WEB}:443")
    assert (flow.outcome, flow.packets, flow.resent, flow.tap) == (Outcome.ESTABLISHED, 6, 0, "tap0")


def test_a_retransmission_is_none_only_because_two_taps_hear_it(tmp_path: Path) -> None:
    talk = Talk(WEB)
    frames = paced([talk.out(SYN, 0), talk.out(SYN, 0)], S)
    later = [(at_ns + 500, frame) for at_ns, frame in frames]
    (flow,) = flows(taps(frames, later), tmp_path)
    assert flow.syns_ns == (T0, T0 + S)


def test_an_ipv6_connection_is_a_flow(tmp_path: Path) -> None:
    syn = ethernet(ipv6("fd00::5", "2001:db8::7", 6, tcp(50_000, 443, SYN, 0)))
    assert str(only([syn], tmp_path).server) == "[2001:db8::7]:443"


def test_comments_of_any_sighting_are_the_flows(tmp_path: Path) -> None:
    syn = Talk(WEB).out(SYN, 0)
    file = section() + interface() + interface() + enhanced(0, 5, syn)
    file += enhanced(1, 6, syn[:22] + b"\x3f" + syn[23:], (1, b"egress -> dropped"))
    (flow,) = flows(file, tmp_path)
    assert (flow.comments, flow.packets) == (("egress -> dropped",), 1)


@pytest.mark.parametrize("limit", [0, 3])
def test_more_connections_than_are_taken_in_are_told(tmp_path: Path, limit: int) -> None:
    frames = [Talk(WEB, client_port=1024 + number).out(SYN, 0) for number in range(10)]
    found = evidence(pcap(paced(frames)), tmp_path, Limits(flows=limit))
    assert (len(found.flows), found.troubles[0].kind, found.troubles[0].count) == (
        limit,
        Kind.TOO_MUCH,
        10 - limit,
    )
