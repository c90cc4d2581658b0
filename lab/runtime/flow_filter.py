"""Which flows somebody wants to see."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from acns.errors import InputError
from acns.located import did_you_mean
from acns.telemetry.flows import Flow, Lost, Peer, Record, Verdict

_PATTERN = re.compile(r"[-a-zA-Z0-9_.*\\]+")


@dataclass(frozen=True)
class FlowFilter:
    """All of what is given must hold. `pod`: `namespace/name` at either end. `fqdn`: a name (`*` stands for
    any text) that was asked for, or that an address of the flow answers to."""

    pod: str | None = None
    verdict: Verdict | None = None
    fqdn: str | None = None

    @classmethod
    def of(cls, *, pod: str | None = None, verdict: str | None = None, fqdn: str | None = None) -> FlowFilter:
        """From what was typed. Raises InputError."""
        if fqdn is not None and not _PATTERN.fullmatch(fqdn):
            raise InputError(
                f"'{fqdn}' is no name, and no pattern of one", hint="as in api.example.com or '*.example.com'"
            )
        return cls(pod, None if verdict is None else _verdict(verdict), fqdn)

    def wants(self, record: Record) -> bool:
        """Whether it is to be shown. That flows were lost is, always."""
        if isinstance(record, Lost):
            return True
        return (
            (self.pod is None or self.pod in (record.source.key, record.destination.key))
            and (self.verdict is None or record.verdict is self.verdict)
            and (self._name is None or any(self._name.fullmatch(name) for name in _names(record)))
        )

    @cached_property
    def _name(self) -> re.Pattern[str] | None:
        if self.fqdn is None:
            return None
        parts = self.fqdn.removesuffix(".").split("*")
        return re.compile(".*".join(map(re.escape, parts)), re.IGNORECASE | re.DOTALL)


def _verdict(text: str) -> Verdict:
    known = {verdict.value: verdict for verdict in Verdict if verdict is not Verdict.UNKNOWN}
    if text.upper() not in known:
        hint = did_you_mean(text.upper(), known) or f"verdicts: {', '.join(known)}"
        raise InputError(f"there is no verdict '{text}'", hint=hint)
    return known[text.upper()]


def _names(flow: Flow) -> list[str]:
    peers: tuple[Peer, ...] = (flow.source, flow.destination)
    asked = [flow.dns.query] if flow.dns else []
    return [name.removesuffix(".") for name in (*asked, *(name for peer in peers for name in peer.names))]
