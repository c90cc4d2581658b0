"""The L4 side of rules compared by their words: what a deny takes of what is allowed.

A named port is left out: it is pods' alone, and each says for itself which number it has.
"""

from __future__ import annotations

from collections.abc import Iterator

from acns.policy.model import ICMP, Ports, Traffic
from acns.policy.objects import Rule


def traffic_by_words(rule: Rule) -> Iterator[Traffic]:
    if rule.icmps is not None:
        yield from map(ICMP, rule.icmps)
    elif rule.ports is None:
        yield None
    else:
        ports = (port for block in rule.ports for port in block.ports if not port.name)
        yield from (Ports(port.protocol, port.first, port.last) for port in ports)
