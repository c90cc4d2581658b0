"""Dropped packets and new connections as the real kernel reports them, and the thread that logs them."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import socket
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from acns.api.ledger_file import Terms
from acns.datapath import constants, ctevents, nflog
from acns.datapath import headers as packets
from acns.datapath.ctevents import ConntrackEvents, Opened
from acns.datapath.headers import Headers
from acns.datapath.model import Description, Ruleset
from acns.datapath.nflog import Logged, NflogSocket, Taken
from acns.policy.cluster import Cluster
from acns.policy.model import (
    Direction,
    DirectionPolicy,
    Endpoint,
    EndpointPolicy,
    Everything,
    Match,
    NodePolicy,
    Origin,
)
from acns.shim import flow_sources
from acns.shim.allowance import Allowance
from acns.shim.flow_names import FlowNames
from acns.shim.flow_scene import Scene
from acns.shim.flow_sources import Connections, Drops
from acns.shim.flow_teller import Teller
from acns.shim.flowlog import FlowLog
from acns.shim.ledger import Ledger
from acns.shim.planner import Plan

pytestmark = pytest.mark.root

TERMS = Terms(min_ttl_s=0, margin_s=60)
GROUP = constants.NFLOG_GROUP
HERE = IPv4Address("127.0.0.1")
LISTENERS = "/proc/thread-self/net/netfilter/nfnetlink_log"
RULES = f"""
table inet test {{
    chain out {{
        type filter hook output priority 0; policy accept;
        ip daddr 127.0.0.1 udp dport 5353 log prefix "acns:eg_0123456789 " group {GROUP} drop
        ip daddr 127.0.0.1 udp dport 5000 ct mark set 0x00070005 accept
    }}
    chain in {{
        type filter hook prerouting priority 0; policy accept;
        udp dport 5354 log prefix "acns:spoofed " group {GROUP} drop
    }}
    chain translate {{
        type nat hook output priority -100; policy accept;
        ip daddr 127.0.0.77 udp dport 80 dnat to 127.0.0.1:5000
    }}
}}
"""


@pytest.fixture
def place(alone: Any) -> Any:
    """An empty namespace with rules that log and mark."""
    alone.shell(f"nft -f - <<'NFT'\n{RULES}\nNFT")
    return alone


def send(place: Any, address: str, port: int, count: int = 1) -> int:
    """Datagrams; the port they come from. One that is dropped on its way out is an error to its sender."""
    sender = place.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sender.bind(("127.0.0.1", 0))
    for _ in range(count):
        with contextlib.suppress(PermissionError):
            sender.sendto(b"hello", (address, port))
    return int(sender.getsockname()[1])


# --- NFLOG --------------------------------------------------------------------------------------------------


@pytest.fixture
def logged(place: Any) -> Iterator[NflogSocket]:
    with contextlib.closing(place.do(NflogSocket, GROUP)) as listening:
        yield listening


def test_a_dropped_packet_is_reported_with_its_prefix_its_headers_and_where_it_was(
    place: Any, logged: NflogSocket, until: Callable[..., Any]
) -> None:
    port = send(place, "127.0.0.1", 5353)
    (packet,) = until(logged.read, "the packet is reported")
    headers = Headers(HERE, HERE, packets.UDP, port, 5353)
    assert packet == Logged("acns:eg_0123456789 ", nflog.OUTPUT, 0, headers, None, 0, 1)


def test_a_packet_that_comes_in_has_a_time_and_an_interface(
    place: Any, logged: NflogSocket, until: Callable[..., Any]
) -> None:
    send(place, "127.0.0.1", 5354)
    (packet,) = until(logged.read, "the packet is reported")
    assert (packet.prefix, packet.hook, packet.in_interface) == ("acns:spoofed ", nflog.PREROUTING, 1)
    assert packet.time_ns > 1_700_000_000 * 10**9


def test_one_program_at_a_time_has_the_group(place: Any) -> None:
    first = place.do(NflogSocket, GROUP)
    with pytest.raises(Taken):
        place.do(NflogSocket, GROUP)
    first.close()
    place.do(NflogSocket, GROUP).close()


def test_what_is_not_read_in_time_is_counted(
    place: Any, logged: NflogSocket, until: Callable[..., Any]
) -> None:
    sent, read = 20_000, 0

    def accounted_for() -> int:
        nonlocal read
        while (batch := logged.read()) is not None:
            read += len(batch)
        return read + logged.lost

    send(place, "127.0.0.1", 5353, sent)
    accounted_for()
    assert 0 < read < sent
    send(place, "127.0.0.1", 5353)  # its number tells what was lost before it
    until(lambda: accounted_for() == sent + 1, "every packet is accounted for")


# --- conntrack ----------------------------------------------------------------------------------------------


@pytest.fixture
def connections(place: Any) -> Iterator[ConntrackEvents]:
    with contextlib.closing(place.do(ConntrackEvents)) as listening:
        yield listening


def test_a_new_connection_is_reported_with_the_grants_it_was_given(
    place: Any, connections: ConntrackEvents, until: Callable[..., Any]
) -> None:
    port = send(place, "127.0.0.1", 5000)
    (found,) = until(connections.read, "the connection is reported")
    assert found == Opened(Headers(HERE, HERE, packets.UDP, port, 5000), HERE, 5000, 5, 7)


def test_a_connection_through_a_service_shows_both_what_was_asked_for_and_who_answers(
    place: Any, connections: ConntrackEvents, until: Callable[..., Any]
) -> None:
    send(place, "127.0.0.77", 80)
    (found,) = until(connections.read, "the connection is reported")
    assert (found.asked, found.asked_port) == (IPv4Address("127.0.0.77"), 80)
    assert (found.headers.destination, found.headers.destination_port) == (HERE, 5000)


def test_connections_that_are_not_read_in_time_are_noticed(place: Any, connections: ConntrackEvents) -> None:
    for _ in range(2_000):
        send(place, "127.0.0.1", 5000)
        place.close_sockets()
    while connections.read() is not None:
        pass
    assert connections.overruns > 0


def test_this_kernels_events_are_on_and_can_be_seen_to_be_off(place: Any) -> None:
    assert place.do(ctevents.problem) is None
    place.run("sysctl", "-qw", "net.netfilter.nf_conntrack_events=0")
    assert "nf_conntrack_events" in str(place.do(ctevents.problem))


@pytest.mark.parametrize(("source", "port"), [(Drops, 5353), (Connections, 5000)])
def test_what_is_read_is_paid_for(place: Any, until: Callable[..., Any], source: Any, port: int) -> None:
    with contextlib.closing(place.do(source)) as made:
        made.allowance = Allowance(per_s=0.001, burst=3)
        teller = Teller("node1", Scene.of(plan(), {}, Ledger(Path("/nonexistent"), TERMS)), FlowNames())

        def is_spent() -> bool:
            send(place, "127.0.0.1", port)
            return list(made.flows(lambda: teller)) != [] and made.allowance.recovers_in_s() > 0

        until(is_spent, "the allowance is used up")


# --- the thread ---------------------------------------------------------------------------------------------


RULE, GRANT = "re_1", 5


def plan(policy_name: str = "p") -> Plan:
    """A pod at this namespace's own address, whose rules are the ones above."""
    origin = Origin(f"default/{policy_name}", "egress", 0, "/m/p.yaml", 3, 5)
    allows = DirectionPolicy(True, (Match(Everything(), None, origin),))
    endpoint = Endpoint("default", "app", HERE, frozenset({"k8s:app=app"}))
    policy = NodePolicy(
        "node1", (EndpointPolicy(endpoint, allows),), frozenset({HERE}), frozenset(), frozenset()
    )
    described = {RULE: Description("rule", "everything", (origin,), direction=Direction.EGRESS)}
    return Plan(Cluster(), policy, Ruleset(frozenset(), {}, {}, {}, described), frozenset())


class Log:
    """A flow log that runs in the namespace."""

    def __init__(self, place: Any, folder: Path, what: Any = "all", **options: Any) -> None:
        self.path = folder / "flows.jsonl"
        ledger = Ledger(folder / "ledger.log", TERMS)
        ledger.grants.egress.adopt({RULE: GRANT})
        self.flows = FlowLog(str(self.path), what, "node1", ledger, **options)
        place.do(self.flows.start)  # a thread lives where it is made

    def lines(self) -> list[dict[str, Any]]:
        whole = (line for line in self.path.read_text().splitlines(keepends=True) if line.endswith("\n"))
        return [json.loads(line) for line in whole]

    def told(self) -> list[dict[str, Any]]:
        """Its flows; on a busy machine lines about lost ones stand between them."""
        return [line["flow"] for line in self.lines() if "flow" in line]

    def verdicts(self) -> list[str]:
        return [flow["verdict"] for flow in self.told()]


@pytest.fixture
def running(place: Any, tmp_path: Path) -> Iterator[Callable[..., Log]]:
    made: list[Log] = []

    def run(what: Any = "all", **options: Any) -> Log:
        made.append(Log(place, tmp_path, what, **options))
        return made[-1]

    yield run
    for log in made:
        log.flows.close()


def test_drops_and_connections_are_in_the_file_with_the_policies_that_decided(
    place: Any, running: Callable[..., Log], until: Callable[..., Any]
) -> None:
    log = running()
    log.flows.use(plan(), {HERE: "lo"})
    log.flows.learned((b"a", b"io"), [b"\xc6\x33\x64\x07"], 60)

    def flows() -> dict[str, Any]:
        """The newest of each verdict."""
        send(place, "127.0.0.1", 5353)
        send(place, "127.0.0.1", 5000)
        return {flow["verdict"]: flow for flow in log.told()}

    found = until(lambda: len(flows()) == 2 and flows(), "both are in the file")
    assert found["DROPPED"]["drop_reason_desc"] == "POLICY_DENIED"
    assert [policy["name"] for policy in found["FORWARDED"]["egress_allowed_by"]] == ["p"]


def test_the_thread_waits_for_the_first_commit_and_then_tells_what_came_before_it(
    place: Any, running: Callable[..., Log], until: Callable[..., Any]
) -> None:
    log = running()
    until(lambda: place.read(LISTENERS).strip(), "the group is bound")
    send(place, "127.0.0.1", 5353)
    until(lambda: place.read(LISTENERS).split()[2] == "0", "the kernel has passed it on")
    assert log.lines() == []
    log.flows.use(plan(), {HERE: "lo"})
    until(lambda: log.verdicts() == ["DROPPED"], "the drop is in the file")


def test_a_flow_is_told_by_what_was_committed_last(
    place: Any, running: Callable[..., Log], until: Callable[..., Any]
) -> None:
    log = running()
    log.flows.use(plan("first"), {HERE: "lo"})
    until(lambda: send(place, "127.0.0.1", 5000) and log.verdicts(), "the log has begun")
    for name in ("second", "third", "fourth"):
        log.flows.use(plan(name), {HERE: "lo"})
        port = send(place, "127.0.0.1", 5000)

        def of_port(port: int = port) -> list[dict[str, Any]]:
            return [flow for flow in log.told() if flow["l4"]["UDP"]["source_port"] == port]

        (flow,) = until(of_port, "the connection is in the file")
        assert [policy["name"] for policy in flow["egress_allowed_by"]] == [name]


def test_only_drops_are_logged_where_only_drops_are_asked_for(
    place: Any, running: Callable[..., Log], until: Callable[..., Any]
) -> None:
    log = running("drops")
    log.flows.use(plan(), {HERE: "lo"})

    def verdicts() -> set[str]:
        send(place, "127.0.0.1", 5000)
        send(place, "127.0.0.1", 5353)
        return set(log.verdicts())

    assert until(verdicts, "the drop is in the file") == {"DROPPED"}


def test_without_conntrack_events_the_drops_are_still_logged_and_it_is_said(
    place: Any, running: Callable[..., Log], until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    place.run("sysctl", "-qw", "net.netfilter.nf_conntrack_events=0")
    log = running()
    log.flows.use(plan(), {HERE: "lo"})

    def verdicts() -> set[str]:
        send(place, "127.0.0.1", 5000)
        send(place, "127.0.0.1", 5353)
        return set(log.verdicts())

    assert until(verdicts, "the drop is in the file") == {"DROPPED"}
    assert caplog.messages == ["connections are not logged"]


def test_a_log_waits_until_another_one_lets_the_group_go(
    place: Any, running: Callable[..., Log], until: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    other = place.do(NflogSocket, GROUP)
    log = running("drops")
    log.flows.use(plan(), {HERE: "lo"})
    until(lambda: caplog.messages, "it is said")
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    other.close()

    def is_logged() -> bool:
        send(place, "127.0.0.1", 5353)
        return "DROPPED" in log.verdicts()

    until(is_logged, "drops are logged")


def test_a_flood_is_logged_in_part_and_the_rest_is_counted_once(
    place: Any, running: Callable[..., Log], until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow_sources, "FLOWS_PER_S", 5_000.0)  # what is lost is lost in the kernel
    log = running("drops")
    log.flows.use(plan(), {HERE: "lo"})
    until(lambda: place.read(LISTENERS).strip(), "the group is bound")
    sent = 0
    looks = itertools.count()

    def flood(count: int) -> None:
        nonlocal sent
        sent += count
        send(place, "127.0.0.1", 5353, count)

    def is_accounted_for() -> bool:
        if not next(looks) % 50:
            flood(1)  # its number tells what was lost before it
        text = log.path.read_text()  # not parsed: the log's thread shares the interpreter with this loop
        lost = sum(map(int, re.findall(r'"num_events_lost":"(\d+)"', text)))
        return lost > 500 and lost + text.count('{"flow":') == sent

    for _ in range(2):
        flood(5_000)
        until(is_accounted_for, "every packet is logged or counted")
    assert len(log.verdicts()) > 100


def test_the_file_of_a_flood_is_bounded(
    place: Any, running: Callable[..., Log], until: Callable[..., Any]
) -> None:
    log = running("drops", max_bytes=20_000)
    log.flows.use(plan(), {HERE: "lo"})
    older = log.path.with_name("flows.jsonl.1")

    def is_rotated() -> bool:
        send(place, "127.0.0.1", 5353, 20)
        return older.exists()

    until(is_rotated, "the file is put aside")
    assert older.stat().st_size < 60_000


def test_a_log_that_cannot_be_written_stops_nobody(
    place: Any, running: Callable[..., Log], until: Callable[..., Any]
) -> None:
    log = running("drops", max_bytes=1)
    log.flows.use(plan(), {HERE: "lo"})
    obstacle = log.path.with_name("flows.jsonl.1")
    obstacle.mkdir()

    def is_stuck() -> bool:
        send(place, "127.0.0.1", 5353)
        return log.path.stat().st_size > 0

    until(is_stuck, "the first drop is in the file, which cannot be put aside")
    obstacle.rmdir()

    def goes_on() -> bool:
        send(place, "127.0.0.1", 5353)
        return obstacle.is_file()

    until(goes_on, "the log goes on")
