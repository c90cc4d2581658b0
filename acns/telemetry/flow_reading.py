"""Flows read back from JSON lines: ours, or Hubble's own.

What is read may be anything: what is no flow is refused with `BadFlow`, fields that are not known here are
passed over, and what is absent is empty, as protojson has it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from acns.telemetry.flow_json import policies_key
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

Word = TypeVar("Word", bound=StrEnum)

_TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class BadFlow(ValueError):
    """It is JSON at best, but no flow."""


def read(text: str) -> Record:
    """The record of a line. Raises BadFlow."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFlow(f"not JSON: {error}") from error
    return from_json(value)


def from_json(value: object) -> Record:
    """The record that an object of Hubble's says. Raises BadFlow."""
    whole = _Fields(value)
    if lost := whole.inner("lost_events"):
        return Lost(parse_time(whole.text("time")), whole.text("node_name"), lost.number("num_events_lost"))
    flow = whole.inner("flow")
    if not flow:
        raise BadFlow("it has neither `flow` nor `lost_events`")
    ip = flow.inner("IP")
    direction = flow.word("traffic_direction", Direction, Direction.UNKNOWN)
    verdict = flow.word("verdict", Verdict, Verdict.UNKNOWN)
    return Flow(
        time_ns=parse_time(flow.text("time")),
        node=flow.text("node_name"),
        verdict=verdict,
        source=_read_peer(flow, "source", ip.text("source")),
        destination=_read_peer(flow, "destination", ip.text("destination")),
        direction=direction,
        event=_event(flow.inner("event_type").number("type")),
        reason=_reason(flow),
        is_reply=flow.flag("is_reply"),
        l4=_read_layer4(flow.inner("l4")),
        dns=_read_dns(flow.inner("l7")),
        policies=tuple(_read_policy(one) for one in flow.objects(policies_key(direction, verdict))),
        notes=flow.texts("policy_log"),
        interface=flow.inner("interface").text("name"),
        summary=flow.text("Summary"),
    )


def parse_time(text: str) -> int:
    """Nanoseconds since the epoch. Raises BadFlow."""
    found = _TIME.fullmatch(text)
    if found is None:
        raise BadFlow(f"{text!r} is no time")
    whole, fraction, zone = found.groups()
    try:
        since = datetime.fromisoformat(whole + zone.replace("Z", "+00:00")) - _EPOCH
    except (ValueError, OverflowError) as error:
        raise BadFlow(f"{text!r} is no time") from error
    return (since // timedelta(seconds=1)) * 1_000_000_000 + int((fraction or "").ljust(9, "0"))


class _Fields:
    """An object of JSON, read by type: what is absent is empty, what is wrong a BadFlow."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, Mapping):
            raise BadFlow(f"an object is expected, not {type(value).__name__}")
        self._values = value

    def __bool__(self) -> bool:
        return bool(self._values)

    def names(self) -> list[str]:
        return list(self._values)

    def inner(self, name: str) -> _Fields:
        return _Fields(self._get(name, Mapping, {}))

    def objects(self, name: str) -> list[_Fields]:
        return [_Fields(one) for one in self._get(name, list, [])]

    def text(self, name: str) -> str:
        return str(self._get(name, str, ""))

    def texts(self, name: str) -> tuple[str, ...]:
        found = self._get(name, list, [])
        if not all(isinstance(one, str) for one in found):
            raise BadFlow(f"`{name}` must hold texts")
        return tuple(found)

    def number(self, name: str) -> int:
        value = self._values.get(name)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 21:
            return int(value)
        return int(self._get(name, int, 0))

    def flag(self, name: str) -> bool | None:
        value: bool | None = self._get(name, bool, None)
        return value

    def word(self, name: str, kind: type[Word], default: Word) -> Word:
        text = self.text(name)
        try:
            return kind(text) if text else default
        except ValueError:
            raise BadFlow(f"{text!r} is no {name}") from None

    def _get(self, name: str, kind: Any, default: Any) -> Any:
        value = self._values.get(name)
        if value is None:
            return default
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise BadFlow(f"`{name}` is {type(value).__name__}")
        return value


def _read_peer(flow: _Fields, side: str, address: str) -> Peer:
    endpoint, service = flow.inner(side), flow.inner(f"{side}_service")
    return Peer(
        address=address,
        identity=endpoint.number("identity"),
        namespace=endpoint.text("namespace"),
        pod=endpoint.text("pod_name"),
        labels=endpoint.texts("labels"),
        names=flow.texts(f"{side}_names"),
        service=f"{service.text('namespace')}/{service.text('name')}" if service else "",
        endpoint_id=endpoint.number("ID"),
    )


def _event(number: int) -> Event:
    try:
        return Event(number)
    except ValueError:
        return Event.UNSPECIFIED


def _reason(flow: _Fields) -> DropReason:
    """Cilium has more reasons than can happen here."""
    name = flow.text("drop_reason_desc")
    return DropReason.__members__.get(name, DropReason.DROP_REASON_UNKNOWN)


def _read_layer4(l4: _Fields) -> Layer4 | None:
    for protocol in L4Protocol:
        if protocol.value in l4.names():
            fields = l4.inner(protocol.value)
            flags = fields.inner("flags")
            return Layer4(
                protocol,
                source_port=fields.number("source_port"),
                destination_port=fields.number("destination_port"),
                flags=tuple(name for name in flags.names() if flags.flag(name)),
                type=fields.number("type"),
                code=fields.number("code"),
            )
    return None


def _read_dns(layer7: _Fields) -> DNSMessage | None:
    if "dns" not in layer7.names():
        return None
    dns = layer7.inner("dns")
    return DNSMessage(
        query=dns.text("query"),
        qtypes=dns.texts("qtypes"),
        is_answer=layer7.text("type") == "RESPONSE",
        rcode=dns.number("rcode"),
        addresses=dns.texts("ips"),
        ttl_s=dns.number("ttl"),
    )


def _read_policy(policy: _Fields) -> PolicyRef:
    return PolicyRef(
        kind=policy.text("kind"),
        name=policy.text("name"),
        namespace=policy.text("namespace"),
        labels=policy.texts("labels"),
    )
