"""What to do next with a lab: the tour after `lab.up`, and whom to ask why a statement is not true."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TextIO

from rich.text import Text

from lab.report.tables import console_for, print_truth
from lab.spec.expect import Expectation, Row, parse_any
from lab.spec.topology import Topology

_REASONS_AT_MOST = 5


def print_tour(topology: Topology, lab: str, out: TextIO | None = None, *, program: str = "invoke") -> None:
    """A handful of commands that work in this lab, each with what it will show.

    `program` is how the reader starts invoke: `.venv/bin/invoke` where that is not on the path.
    """
    console = console_for(out)
    console.print(Text("\nTry:", style="bold"))
    for arguments, shows in _tour(topology, lab):
        line = f"{program} {arguments}"
        console.print(Text.assemble("  ", (line, "cyan"), ("\n      " + shows, "dim")), soft_wrap=True)


def print_checked(topology: Topology, rows: Sequence[Row], lab: str, *, program: str = "invoke") -> None:
    """The truth table, and whom to ask why what is not true there is not."""
    print_truth(rows)
    print_reasons(topology, rows, lab, program=program)


def print_reasons(
    topology: Topology, rows: Sequence[Row], lab: str, out: TextIO | None = None, *, program: str = "invoke"
) -> None:
    """The commands that say why the first few statements are not true; nothing where all are.

    A common reason is no mistake: a lab made right in place keeps what its pods have learned, until the TTLs
    end. `rows` may leave statements of the topology out.
    """
    statements = [one for one in map(parse_any, topology.expect) if isinstance(one, Expectation)]
    of_row = {(one.pod, one.about, one.port, one.words): one for one in statements if not one.is_traced}
    keys = [(row.pod, row.name, row.port, row.expected) for row in rows if not row.ok]
    wrong = [of_row[key] for key in keys if key in of_row]
    if not wrong:
        return
    console = console_for(out)
    console.print(Text("\nWhy:", style="bold"))
    for statement in wrong[:_REASONS_AT_MOST]:
        line = f"{program} policy.explain --name {lab} {_question(statement)}"
        console.print(Text.assemble("  ", (line, "cyan")), soft_wrap=True)
    if len(wrong) > _REASONS_AT_MOST:
        console.print(Text(f"  and {len(wrong) - _REASONS_AT_MOST} more", style="dim"))


def _question(about: Expectation) -> str:
    """What policy.explain is asked about a statement: a connection, or a query."""
    if about.port:
        host = f"[{about.name}]" if ":" in about.name else about.name
        return f"{about.pod} {host}:{about.port}"
    server = f" --server {about.server}" if about.server else ""
    return f"{about.pod} --dns {about.name}{server}"


def _tour(topology: Topology, lab: str) -> Iterator[tuple[str, str]]:
    """Commands drawn from the topology's own statements, so that they show what they promise."""
    flag = "" if lab == "quickstart" else f" --name {lab}"
    statements = map(parse_any, topology.expect)
    wanted = [one for one in statements if isinstance(one, Expectation)]
    if allowed := _first(wanted, "connects"):
        url = f"{allowed.scheme}://{allowed.name}/"
        yield _exec(allowed, flag, f"curl -sS {url}"), "allowed by name: the server says what it was asked"
    if refused := _first(wanted, "refused"):
        yield _exec(refused, flag, f"dig {refused.name}"), "outside the policy: REFUSED, never sent upstream"
    if blocked := _first(wanted, "blocked"):
        url = f"http://{blocked.name}:{blocked.port}/"
        yield (
            _exec(blocked, flag, f"curl -sS --max-time 2 {url}"),
            "it resolves, but the port is not allowed",
        )
    yield f"lab.check{flag}", "the whole truth table again; exit code 1 where it disagrees"
    resolver = f"{topology.nodes[0].name}/resolver"
    yield f"lab.logs{flag} --follow {resolver}", "what that agent says, as it says it"
    yield f"lab.down{flag}", "leaves nothing behind"


def _first(wanted: Sequence[Expectation], verb: str) -> Expectation | None:
    """The first statement of that verb about a name (for connections, one that curl can show)."""
    fitting = (w for w in wanted if w.verb == verb and w.address is None)
    return next((w for w in fitting if verb != "connects" or w.scheme != "tcp"), None)


def _exec(wanted: Expectation, flag: str, program: str) -> str:
    return f"lab.exec{flag} {wanted.pod} -- {program}"
