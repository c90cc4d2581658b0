"""Whose queries the resolver takes, in a lab on kind: told by what a query leaves behind on its pod's node.

One that is redirected stands in the resolver's journal, and the kernel tracks no connection for it. Of any
other the resolver knows nothing, and the kernel tracks it where it lets it through, as it translates
addresses. Where neither is to be seen, nobody has taken the query.
"""

from __future__ import annotations

import json
import secrets
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from acns.telemetry.bounded_file import older
from lab.backends.kind import objects, tools
from lab.spec.expect import Expectation, Row

if TYPE_CHECKING:
    from lab.backends.kind.kind_lab import KindLab

_TRIES, _RETRY_S = 20, 0.25
_REDIRECTED, _TRACKED = "redirected", "tracked"
_WORDS: Final = {_REDIRECTED: "uses resolver", _TRACKED: "bypasses resolver"}


def row(lab: KindLab, wanted: Expectation) -> Row:
    """Have the pod ask for a name that nobody else asks for, and see where that went."""
    began = time.monotonic()
    name = f"{secrets.token_hex(8)}.invalid."
    argv = lab.exec_argv(wanted.pod, ["python3", "-m", "lab.world.one_query", name])
    asked = json.loads(tools.checked(argv).out)
    node, address = lab.place(wanted.pod)
    journal = objects.file_of(lab.topology, "resolver", "journal_file")
    seen = _seen(lab, node, seen_script(name, journal, address, asked["port"]))
    actual = _WORDS.get(seen, "seen by nobody")
    elapsed_ms = round(1000 * (time.monotonic() - began), 1)
    detail = f"a query to {asked['server']}"
    return Row(
        wanted.pod, wanted.about, None, wanted.words, actual, actual == wanted.words, detail, elapsed_ms
    )


def seen_script(name: str, journal: str, address: str, port: int) -> str:
    """What a shell on the node says of the query with that name, from there."""
    journals = shlex.join([journal, str(older(Path(journal)))])
    return f"""command -v conntrack > /dev/null || {{
  echo 'error: this node image has no conntrack' >&2
  exit 1
}}
if grep -qsF {shlex.quote(name)} {journals}; then
  echo {_REDIRECTED}
elif conntrack -L -p udp --orig-src {address} --orig-port-src {int(port)} 2> /dev/null | grep -q .; then
  echo {_TRACKED}
fi
"""


def _seen(lab: KindLab, node: str, script: str) -> str:
    """The journal is written in turns, after the query."""
    for _ in range(_TRIES):
        if seen := lab.on_node(node, script).out.strip():
            return seen
        time.sleep(_RETRY_S)
    return ""
