"""The placeholders of external programs: what a topology can tell them that only the lab knows.

`{fqdndata}`, say, in a word of the command or in a value of the environment; `{{` and `}}` stand for the
braces themselves. Nothing else is special: no formats, no attributes, no shell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FQDNDATA_TCP = "127.0.0.1:10095"
"""Where Cilium's agent serves its standalone DNS proxy."""

PLACEHOLDERS: Mapping[str, str] = {
    "node": "the node's name",
    "node_address": "its IPv4 address",
    "fqdndata": "host:port of FQDNData on TCP",
    "fqdndata_port": "the port alone",
    "fqdndata_socket": "path of FQDNData's unix socket",
    "dns": "host:port to which the pods' DNS queries are redirected",
    "dns_port": "the port alone",
    "manifests": "folder of the node's Kubernetes manifests",
    "home": "folder of the node's files: logs, settings",
}
_PART = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def unknown(text: str) -> list[str]:
    """The placeholders in `text` that there are not; a lone brace is one too."""
    found = (match for match in _PART.finditer(text) if match[0] not in ("{{", "}}"))
    return [match[0] for match in found if match[1] not in PLACEHOLDERS]


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with `values` in the place of its placeholders, which are all known."""

    def part(match: re.Match[str]) -> str:
        return match[0][0] if match[0] in ("{{", "}}") else values[match[1]]

    return _PART.sub(part, text)
