"""Flows as JSON: protobuf itself judges the shape, by the part of Hubble's .proto beside this file."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from google.protobuf.message import Message
from grpc_tools import protoc
from hypothesis import given, settings
from hypothesis import strategies as st

from acns.telemetry import flow_json, flow_reading
from acns.telemetry.flow_reading import BadFlow
from acns.telemetry.flows import (
    Direction,
    DNSMessage,
    DropReason,
    Event,
    Flow,
    L4Protocol,
    Layer4,
    Lost,
    Peer,
    PolicyRef,
    Record,
    Verdict,
)

HERE = Path(__file__).parent
DENIED = Flow(
    time_ns=1_763_934_012_123_456_000,
    node="node1",
    verdict=Verdict.DROPPED,
    source=Peer("10.244.0.2", 257, "default", "frontend", ("k8s:app=frontend",), endpoint_id=3),
    destination=Peer("198.51.100.7", 2, labels=("reserved:world",), names=("api.example.com",)),
    direction=Direction.EGRESS,
    event=Event.DROP,
    reason=DropReason.POLICY_DENIED,
    l4=Layer4(L4Protocol.TCP, 40000, 443, ("SYN",)),
    policies=(PolicyRef("CiliumNetworkPolicy", "frontend", "default", ("acns:egress[0]=f.yaml:3:5",)),),
    summary="TCP Flags: SYN",
)


# --- the shape ---------------------------------------------------------------------------------------------


@cache
def hubble() -> type[Message]:
    """`GetFlowsResponse`, as protoc understands it."""
    include = resources.files("grpc_tools") / "_proto"
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder, "hubble.pb")
        options = [f"-I{HERE}", f"-I{include}", "--include_imports", f"--descriptor_set_out={target}"]
        assert protoc.main(["protoc", *options, "hubble.proto"]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(target.read_bytes()).file
    pool = descriptor_pool.DescriptorPool()
    for file in files:
        pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("hubble.GetFlowsResponse"))


def as_protojson(line: str) -> Any:
    """What protobuf prints after it has read the line, strictly: an unknown field or value is an error."""
    message = json_format.Parse(line, hubble()(), ignore_unknown_fields=False)
    return json_format.MessageToDict(message, preserving_proto_field_name=True)


def test_a_denied_connection_reads_as_hubble_would_print_it() -> None:
    assert json.loads(flow_json.line(DENIED)) == {
        "flow": {
            "time": "2025-11-23T21:40:12.123456Z",
            "verdict": "DROPPED",
            "drop_reason": 133,
            "IP": {"source": "10.244.0.2", "destination": "198.51.100.7", "ipVersion": "IPv4"},
            "l4": {"TCP": {"source_port": 40000, "destination_port": 443, "flags": {"SYN": True}}},
            "source": {
                "ID": 3,
                "identity": 257,
                "namespace": "default",
                "labels": ["k8s:app=frontend"],
                "pod_name": "frontend",
            },
            "destination": {"identity": 2, "labels": ["reserved:world"]},
            "Type": "L3_L4",
            "node_name": "node1",
            "destination_names": ["api.example.com"],
            "event_type": {"type": 1, "sub_type": 133},
            "traffic_direction": "EGRESS",
            "drop_reason_desc": "POLICY_DENIED",
            "egress_denied_by": [
                {
                    "name": "frontend",
                    "namespace": "default",
                    "labels": ["acns:egress[0]=f.yaml:3:5"],
                    "kind": "CiliumNetworkPolicy",
                }
            ],
            "Summary": "TCP Flags: SYN",
        },
        "node_name": "node1",
        "time": "2025-11-23T21:40:12.123456Z",
    }


def test_a_refused_name_reads_as_hubbles_dns_proxy_would_log_it() -> None:
    refused = dataclasses.replace(
        DENIED, event=Event.L7, l4=None, dns=DNSMessage("evil.example.org.", ("A",), rcode=5), policies=()
    )
    flow = flow_json.to_json(refused)["flow"]
    assert (flow["Type"], flow["event_type"]) == ("L7", {"type": 129})
    dns = {"query": "evil.example.org.", "observation_source": "proxy", "rcode": 5, "qtypes": ["A"]}
    assert flow["l7"] == {"type": "REQUEST", "dns": dns}


@pytest.mark.parametrize(
    ("verdict", "direction", "field"),
    [
        (Verdict.DROPPED, Direction.EGRESS, "egress_denied_by"),
        (Verdict.DROPPED, Direction.INGRESS, "ingress_denied_by"),
        (Verdict.ERROR, Direction.EGRESS, "egress_denied_by"),
        (Verdict.FORWARDED, Direction.EGRESS, "egress_allowed_by"),
        (Verdict.REDIRECTED, Direction.INGRESS, "ingress_allowed_by"),
    ],
)
def test_policies_stand_where_verdict_and_direction_put_them(
    verdict: Verdict, direction: Direction, field: str
) -> None:
    flow = flow_json.to_json(dataclasses.replace(DENIED, verdict=verdict, direction=direction))["flow"]
    assert [name for name in flow if name.endswith("_by")] == [field]


@pytest.mark.parametrize(
    ("event", "direction", "expected"),
    [
        (Event.TRACE, Direction.EGRESS, {"type": 4, "sub_type": 3}),
        (Event.TRACE, Direction.INGRESS, {"type": 4}),
        (Event.POLICY_VERDICT, Direction.EGRESS, {"type": 5}),
    ],
)
def test_hubble_is_told_where_a_flow_was_seen(event: Event, direction: Direction, expected: Any) -> None:
    forwarded = dataclasses.replace(
        DENIED,
        verdict=Verdict.FORWARDED,
        reason=DropReason.DROP_REASON_UNKNOWN,
        event=event,
        direction=direction,
    )
    assert flow_json.to_json(forwarded)["flow"]["event_type"] == expected


def test_the_version_of_ip_is_that_of_the_addresses() -> None:
    v6 = dataclasses.replace(DENIED, source=Peer("fd00::1"), destination=Peer("2001:db8::7"))
    assert flow_json.to_json(v6)["flow"]["IP"]["ipVersion"] == "IPv6"


texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
words = st.text("abcdefghij-.0123456789", min_size=1, max_size=12)
lists = st.lists(texts, max_size=3).map(tuple)
uint32 = st.integers(0, 2**32 - 1)
addresses = st.sampled_from(["10.0.0.1", "198.51.100.7"]) | st.just("2001:db8::1")
peers = st.builds(
    Peer,
    address=addresses,
    identity=uint32,
    namespace=texts,
    pod=texts,
    labels=lists,
    names=lists,
    service=st.just("") | st.builds("{}/{}".format, words, words),
    endpoint_id=uint32,
)
ported = st.builds(
    Layer4,
    st.sampled_from([L4Protocol.UDP, L4Protocol.SCTP]),
    source_port=st.integers(0, 65535),
    destination_port=st.integers(0, 65535),
)
tcp = st.builds(
    Layer4,
    st.just(L4Protocol.TCP),
    source_port=st.integers(0, 65535),
    destination_port=st.integers(0, 65535),
    flags=st.lists(st.sampled_from(["FIN", "SYN", "RST", "PSH", "ACK", "NS"]), unique=True).map(tuple),
)
icmp = st.builds(
    Layer4,
    st.sampled_from([L4Protocol.ICMPV4, L4Protocol.ICMPV6]),
    type=st.integers(0, 255),
    code=st.integers(0, 255),
)
dns_messages = st.builds(
    DNSMessage,
    query=texts,
    qtypes=lists,
    is_answer=st.booleans(),
    rcode=st.integers(0, 15),
    addresses=lists,
    ttl_s=uint32,
)
times = st.integers(0, 4_000_000_000 * 10**9)
flows = st.builds(
    Flow,
    time_ns=times,
    node=words,
    verdict=st.sampled_from([verdict for verdict in Verdict if verdict is not Verdict.DROPPED]),
    source=peers,
    destination=peers,
    direction=st.sampled_from(Direction),
    event=st.sampled_from(Event),
    is_reply=st.none() | st.booleans(),
    l4=st.none() | ported | tcp | icmp,
    dns=st.none() | dns_messages,
    policies=st.lists(st.builds(PolicyRef, texts, texts, texts, lists), max_size=2).map(tuple),
    notes=lists,
    interface=texts,
    summary=texts,
)
drops = st.builds(
    lambda flow, reason: dataclasses.replace(flow, verdict=Verdict.DROPPED, reason=reason),
    flows,
    st.sampled_from(DropReason),
)
records = flows | drops | st.builds(Lost, times, words, st.integers(1, 2**63))


@given(records)
def test_protobuf_reads_every_line_and_prints_it_the_same(record: Record) -> None:
    line = flow_json.line(record)
    expected = json.loads(line)
    if isinstance(record, Flow) and record.verdict is Verdict.UNKNOWN:
        del expected["flow"]["verdict"]  # protojson leaves out an enum's first value; we say it
    assert as_protojson(line) == expected


@given(records)
def test_a_line_is_read_back_as_what_was_written(record: Record) -> None:
    line = flow_json.line(record)
    assert line.count("\n") == 1
    assert line.isascii()
    assert flow_reading.read(line) == record


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_000_000, "1970-01-01T00:00:00.001Z"),
        (120_000_000, "1970-01-01T00:00:00.120Z"),
        (1_000, "1970-01-01T00:00:00.000001Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
    ],
)
def test_times_have_as_many_digits_as_protojson_gives_them(time_ns: int, text: str) -> None:
    assert flow_json.format_time(time_ns) == text
    assert flow_reading.parse_time(text) == time_ns


# --- what is no flow of ours --------------------------------------------------------------------------------


def test_a_flow_of_hubbles_own_with_fields_that_are_not_known_here_is_read() -> None:
    value = json.loads(flow_json.line(DENIED))
    value["flow"] |= {
        "uuid": "6662257a-4526-4d72-9b4d-7d480f65b2f5",
        "ethernet": {"source": "04:8c:16:f3:7d:f0", "destination": "00:50:56:96:93:80"},
        "drop_reason_desc": "STALE_OR_UNROUTABLE_IP",
        "time": "2024-07-17T14:36:48.479752205+02:00",
        "event_type": {"type": 131},
    }
    read = flow_reading.from_json(value)
    assert isinstance(read, Flow)
    assert (read.reason, read.event) == (DropReason.DROP_REASON_UNKNOWN, Event.UNSPECIFIED)
    assert read.time_ns == 1_721_219_808_479_752_205
    assert read.policies == DENIED.policies


def mutations() -> Any:
    """JSON near a flow: one value somewhere replaced by another."""
    paths = [("flow",), *[("flow", name) for name in json.loads(flow_json.line(DENIED))["flow"]]]
    paths += [
        ("flow", "l4", "TCP"),
        ("flow", "l4", "TCP", "flags"),
        ("flow", "egress_denied_by", 0),
        ("time",),
    ]
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | texts,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
        max_leaves=4,
    )

    def mutated(path: tuple[Any, ...], value: Any) -> Any:
        whole = json.loads(flow_json.line(DENIED))
        place = whole
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value
        return whole

    return st.builds(mutated, st.sampled_from(paths), values) | values


@settings(max_examples=400)
@given(mutations())
def test_any_json_is_a_flow_or_refused_as_none(value: Any) -> None:
    with contextlib.suppress(BadFlow):
        flow_reading.from_json(value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("time", "2024-13-41T00:00:00Z"),
        ("time", "now"),
        ("time", 7),
        ("verdict", "MAYBE"),
        ("traffic_direction", "SIDEWAYS"),
        ("IP", []),
        ("source", {"identity": True}),
        ("source", {"identity": "9" * 30}),
        ("source", {"labels": [7]}),
        ("l4", {"TCP": 7}),
        ("l4", {"TCP": {"source_port": 1.5}}),
        ("egress_denied_by", ["default/p"]),
        ("is_reply", "no"),
    ],
)
def test_a_field_of_the_wrong_kind_is_refused(field: str, value: Any) -> None:
    whole = json.loads(flow_json.line(DENIED))
    whole["flow"][field] = value
    with pytest.raises(BadFlow):
        flow_reading.from_json(whole)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "7", '{"flow":{}}', "[" * 100_000, '{"flow": 1}'])
def test_what_is_no_flow_is_refused(text: str) -> None:
    with pytest.raises(BadFlow):
        flow_reading.read(text)
