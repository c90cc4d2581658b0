"""Flows as lines for people, much as `hubble observe` prints them: who, to whom, what came of it, and why."""

from __future__ import annotations

import time
from pathlib import PurePath

from acns.telemetry.flows import Direction, DropReason, Flow, Lost, Peer, PolicyRef, Record, Verdict
from lab.report import printable

MAX_NAMES = 2

_COLOURS = {
    Verdict.FORWARDED: "32",
    Verdict.REDIRECTED: "32",
    Verdict.DROPPED: "31",
    Verdict.ERROR: "33",
}
_RULE = "acns:"
_DEFAULT_DENY = "default-deny"


def text(record: Record, *, nodes: bool = False, colours: bool = False) -> str:
    """One line, without its end. `nodes`: say which node's it is."""
    node = f" [{record.node}]" if nodes else ""
    at = f"{when(record.time_ns)}{node}"
    if isinstance(record, Lost):
        return f"{at}: {record.count} flows were lost: more than could be taken in"
    return printable.line(f"{at}: {_ends(record)} {_kind(record)} ") + _outcome(record, colours)


def _outcome(flow: Flow, colours: bool) -> str:
    verdict = flow.verdict.value
    if colours and flow.verdict in _COLOURS:
        verdict = f"\x1b[{_COLOURS[flow.verdict]}m{verdict}\x1b[0m"
    why = reasons(flow)
    return verdict + printable.line(f" ({flow.summary})" + (f" [{why}]" if why else ""))


def when(time_ns: int) -> str:
    """As Hubble has it: UTC, to the millisecond."""
    seconds, rest_ns = divmod(time_ns, 1_000_000_000)
    return f"{time.strftime('%b %d %H:%M:%S', time.gmtime(seconds))}.{rest_ns // 1_000_000:03}"


def _ends(flow: Flow) -> str:
    """The opener of the connection stands left, whichever way the packet went."""
    ports = (flow.l4.source_port, flow.l4.destination_port) if flow.l4 else (0, 0)
    source, destination = _end(flow.source, ports[0]), _end(flow.destination, ports[1])
    return f"{destination} <- {source}" if flow.is_reply else f"{source} -> {destination}"


def _end(peer: Peer, port: int) -> str:
    name = peer.key or (f"[{peer.address}]" if ":" in peer.address else peer.address)
    number = f":{port}" if port else ""
    return f"{name}{number} ({', '.join(_details(peer))})"


def _details(peer: Peer) -> list[str]:
    reserved = [label.removeprefix("reserved:") for label in peer.labels if label.startswith("reserved:")]
    who = [f"ID:{peer.identity}"] if peer.key else reserved or ["unknown"]
    more = [f"{len(peer.names) - MAX_NAMES} names more"] if len(peer.names) > MAX_NAMES else []
    service = [f"service {peer.service}"] if peer.service else []
    return [*who, *peer.names[:MAX_NAMES], *more, *service]


def _kind(flow: Flow) -> str:
    if flow.dns:
        return "dns-response" if flow.dns.is_answer else "dns-request"
    direction = "" if flow.direction is Direction.UNKNOWN else flow.direction.value.lower()
    reason = flow.reason.name if flow.verdict is Verdict.DROPPED else ""
    return " ".join(part for part in (direction, reason) if part) or "flow"


def reasons(flow: Flow) -> str:
    """The policies, in the words of the verdict; then what else is known."""
    named = ", ".join(policy(one) for one in flow.policies)
    if named and flow.verdict is Verdict.DROPPED:
        denied = "denied by" if flow.reason is DropReason.POLICY_DENY else "not allowed by"
        named = f"{denied} {named}"
    return "; ".join(part for part in (named, *flow.notes) if part)


def policy(one: PolicyRef) -> str:
    """`default/frontend egress[0] frontend.yaml:12`."""
    key = f"{one.namespace}/{one.name}" if one.namespace else one.name
    places = [_place(label) for label in one.labels if label.startswith(_RULE)]
    return " ".join([key, *places])


def _place(label: str) -> str:
    """`acns:egress[0]=/run/x/frontend.yaml:12:7` → `egress[0] frontend.yaml:12`."""
    rule, _, place = label.removeprefix(_RULE).partition("=")
    path, line, _ = place.rsplit(":", 2) if place.count(":") >= 2 else (place, "", "")
    where = f"{PurePath(path).name}:{line}" if line else path
    return where if rule == _DEFAULT_DENY else f"{rule} {where}"
