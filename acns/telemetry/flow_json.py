"""Flows as JSON lines, in the shape that `hubble observe -o json` prints and `--input-file` reads.

That is protojson of Cilium's `GetFlowsResponse` with the .proto's field names: enums by name, 64-bit numbers
as strings, times in RFC 3339, and what is 0, false or empty left out. Only Hubble's fields are used: where
a rule stands goes into the policy's labels (`acns:…`), what else there is to say into `policy_log`. The way
back is `flow_reading`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from acns.telemetry.flows import (
    Direction,
    DNSMessage,
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

JSON = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TO_STACK = 3  # Cilium's trace observation points; TO_ENDPOINT is 0
_LOST_SOURCE = "PERF_EVENT_RING_BUFFER"  # the way from the kernel to the agent


def line(record: Record) -> str:
    """One line, newline included. Whatever a pod put into a name is escaped."""
    return json.dumps(to_json(record), separators=(",", ":")) + "\n"


def to_json(record: Record) -> JSON:
    """The object that Hubble would print."""
    time = format_time(record.time_ns)
    if isinstance(record, Lost):
        what: JSON = {"lost_events": {"source": _LOST_SOURCE, "num_events_lost": str(record.count)}}
    else:
        what = {"flow": _flow(record, time)}
    return {**what, "node_name": record.node, "time": time}


def format_time(time_ns: int) -> str:
    """RFC 3339 with as many digits as protojson writes: none, 3, 6 or 9."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    text = (_EPOCH + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S")
    digits = f"{rest_ns:09}"
    while digits.endswith("000"):
        digits = digits[:-3]
    return f"{text}.{digits}Z" if digits else f"{text}Z"


def policies_key(direction: Direction, verdict: Verdict) -> str:
    """The field that holds a flow's policies."""
    word = "allowed" if verdict in (Verdict.FORWARDED, Verdict.REDIRECTED) else "denied"
    return f"{'ingress' if direction is Direction.INGRESS else 'egress'}_{word}_by"


def _flow(flow: Flow, time: str) -> JSON:
    return _filled(
        {
            "time": time,
            "verdict": flow.verdict.value,
            "drop_reason": int(flow.reason),
            "IP": {
                "source": flow.source.address,
                "destination": flow.destination.address,
                "ipVersion": "IPv6" if ":" in flow.source.address else "IPv4",
            },
            "l4": {flow.l4.protocol.value: _layer4(flow.l4)} if flow.l4 else {},
            "source": _endpoint(flow.source),
            "destination": _endpoint(flow.destination),
            "Type": "L7" if flow.dns else "L3_L4",
            "node_name": flow.node,
            "source_names": list(flow.source.names),
            "destination_names": list(flow.destination.names),
            "l7": _layer7(flow.dns) if flow.dns else {},
            "event_type": _filled({"type": int(flow.event), "sub_type": _sub_type(flow)}),
            "source_service": _service(flow.source.service),
            "destination_service": _service(flow.destination.service),
            "traffic_direction": flow.direction.value if flow.direction is not Direction.UNKNOWN else "",
            "drop_reason_desc": flow.reason.name if flow.reason else "",
            "is_reply": flow.is_reply,
            "interface": _filled({"name": flow.interface}),
            policies_key(flow.direction, flow.verdict): [_policy(one) for one in flow.policies],
            "policy_log": list(flow.notes),
            "Summary": flow.summary,
        }
    )


def _filled(fields: JSON) -> JSON:
    """Without what is empty: protojson leaves it out. A `BoolValue` that is False says something."""
    return {name: value for name, value in fields.items() if value or value is False}


def _sub_type(flow: Flow) -> int:
    """A drop's is its reason, a trace's where it was seen: on the way out of the node, or into the pod."""
    if flow.event is Event.DROP:
        return int(flow.reason)
    return _TO_STACK if flow.event is Event.TRACE and flow.direction is Direction.EGRESS else 0


def _layer4(l4: Layer4) -> JSON:
    if l4.protocol in (L4Protocol.ICMPV4, L4Protocol.ICMPV6):
        return _filled({"type": l4.type, "code": l4.code})
    ports = {"source_port": l4.source_port, "destination_port": l4.destination_port}
    return _filled({**ports, "flags": dict.fromkeys(l4.flags, True)})


def _layer7(dns: DNSMessage) -> JSON:
    record = {
        "query": dns.query,
        "ips": list(dns.addresses),
        "ttl": dns.ttl_s,
        "observation_source": "proxy",
        "rcode": dns.rcode,
        "qtypes": list(dns.qtypes),
    }
    return {"type": "RESPONSE" if dns.is_answer else "REQUEST", "dns": _filled(record)}


def _endpoint(peer: Peer) -> JSON:
    return _filled(
        {
            "ID": peer.endpoint_id,
            "identity": peer.identity,
            "namespace": peer.namespace,
            "labels": list(peer.labels),
            "pod_name": peer.pod,
        }
    )


def _service(key: str) -> JSON:
    namespace, _, name = key.partition("/")
    return _filled({"name": name, "namespace": namespace})


def _policy(policy: PolicyRef) -> JSON:
    return _filled(
        {
            "name": policy.name,
            "namespace": policy.namespace,
            "labels": list(policy.labels),
            "kind": policy.kind,
        }
    )
