"""What the commands under `invoke policy.…` do, apart from reading the command line.

What they are about: `--topology` or `--manifests`, and then nothing runs and nobody need be root; or a
running lab, `--name` or the only one; where none runs, the topology `quickstart`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import TYPE_CHECKING

from acns.dns import name as names
from acns.dns.name import Name
from acns.located import did_you_mean
from acns.policy import destination, matrix
from acns.policy.explain import explain, explain_query
from acns.policy.lookups import DNS_PORT, Server
from acns.policy.model import Traffic
from acns.policy.routes import Outcome
from acns.policy.wording import HIGHEST_PORT
from lab.errors import EnvironmentFault, InputError, ProcessFailed
from lab.policy_tools import inputs, live_remarks, name_cache, validating
from lab.policy_tools.inputs import Given
from lab.policy_tools.seen import Answered
from lab.report import explanations
from lab.report import matrix as matrix_report
from lab.report import name_cache as cache_report
from lab.report.tables import FORMAT_VERSION
from lab.runtime import state
from lab.runtime.commands import remark
from lab.runtime.lab import Lab

if TYPE_CHECKING:
    from lab.backends.kind.kind_lab import KindLab
    from lab.policy_tools.live import Live
    from lab.policy_tools.live_matrix import LiveMatrix

QUICKSTART = "quickstart"
_EXPECTED = ("allowed", "denied")
_PATIENCE_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What is asked about, as typed."""

    topology: str | None = None
    manifests: Sequence[str] = ()
    live: bool = False
    name: str | None = None
    profile: str | None = None
    enforcement: str | None = None

    def lab(self) -> Lab | None:
        """The running lab that is meant; None when it is files. Raises LabNotFound, InputError."""
        if self.topology and self.manifests:
            raise InputError("--topology and --manifests are two things: give one of them")
        files = self.topology or self.manifests
        wants_lab = self.live or self.name is not None
        if files and wants_lab:
            raise InputError("--live and --name mean a running lab: leave them out, or the files")
        if not files and (self.profile or self.enforcement):
            raise InputError(
                "a running lab has its own profile and enforcement", hint="give --topology or --manifests too"
            )
        if files or not (wants_lab or _any_lab_is_up()):
            return None
        return Lab.attach(self.name)

    def kind_lab(self) -> KindLab | None:
        """The lab on kind that is meant, if one is."""
        from lab.backends.kind import commands as on_kind

        if self.topology or self.manifests:
            return None
        found = on_kind.lab(self.name)
        return found.lab if found else None

    def given(self) -> Given:
        """The files that are meant."""
        if self.manifests:
            return inputs.from_manifests(self.manifests, self.profile, self.enforcement)
        if not self.topology:
            remark(
                f"no lab is up: this is about the topology {QUICKSTART} (--topology, --manifests say else)"
            )
        return inputs.from_topology(self.topology or QUICKSTART, self.profile, self.enforcement)


def run_explain(
    words: Sequence[str],
    about: About,
    *,
    dns: str | None,
    server: str | None,
    expect: str | None,
    as_json: bool,
) -> int:
    """1 where the kernel does otherwise than the model says, or the verdict is not `expect`."""
    if expect not in (None, *_EXPECTED):
        raise InputError(
            f"--expect {expect}: a verdict is allowed or denied", hint=did_you_mean(expect or "", _EXPECTED)
        )
    if len(words) != (2 if dns is None else 1):
        raise InputError(
            f"'{' '.join(words)}' is not a question",
            hint="policy.explain POD DEST[:PORT[/PROTO]], or policy.explain POD --dns NAME",
        )
    pod, to = words[0], words[1] if dns is None else None
    if kind := about.kind_lab():
        found, what = _on_kind(kind, pod, to, dns, server), f"lab {kind.name}, which runs on kind"
        lab = None
    else:
        lab = about.lab()
        found, what = (
            _live(lab, pod, to, dns, server) if lab else _offline(about.given(), pod, to, dns, server)
        )
    if as_json:
        print(explanations.explanation_json(found, what, is_live=lab is not None))
    else:
        explanations.print_explanation(found, what, is_live=lab is not None, now_s=time.time())
    return 0 if found.agrees and _is_as_expected(found.model.outcome, expect) else 1


def run_matrix(about: About, ports: Sequence[str], *, as_json: bool) -> int:
    """1 where a kernel does otherwise than the model says."""
    traffics = [destination.traffic(text) for text in ports]
    kind = about.kind_lab()
    lab = None if kind else about.lab()
    differences: Mapping[matrix.Place, str] | None = None
    if kind is not None:
        from lab.backends.kind import explaining

        columns, rows = explaining.matrix_of(kind, traffics)
        what = f"lab {kind.name}, which runs on kind: as the policies say, no packet was sent"
    elif lab is None:
        given = about.given()
        _say_problems(given)
        columns = matrix.columns(given.overview, traffics, given.names)
        rows = matrix.rows(given.overview, columns, lambda _: given.knowledge())
        what = given.what
    else:
        found = _live_matrix(lab, traffics)
        columns, rows, differences = found.columns, found.rows, found.differences
        what = f"lab {lab.name}"
    if as_json:
        print(matrix_report.matrix_json(columns, rows, what, differences))
    else:
        matrix_report.print_matrix(columns, rows, what, differences)
    return 1 if differences else 0


def run_cache(words: Sequence[str], name: str | None, *, as_json: bool) -> int:
    """1 where what a kernel has learned is not what its shim says."""
    if len(words) > 1:
        raise InputError(f"'{' '.join(words)}' is not a pod", hint="lab.cache [POD]")
    from lab.backends.kind import commands as on_kind

    pod = words[0] if words else None
    if kind := on_kind.lab(name):
        from lab.backends.kind import seeing

        called, nodes = kind.lab.name, seeing.caches(kind.lab, pod)
    else:
        lab = Lab.attach(name)
        called, nodes = lab.name, name_cache.look(lab, pod)
    if as_json:
        print(cache_report.cache_json(called, nodes))
    else:
        cache_report.print_cache(nodes)
    return 0 if all(one.agrees for one in nodes) else 1


def validate(
    paths: list[str],
    *,
    topology: str | None = None,
    profile: str | None,
    enforcement: str | None = None,
    strict: bool,
    as_json: bool,
) -> int:
    """Every problem of the files, or of a topology's, and between them; 1 with errors (with `strict`: or
    warnings)."""
    if bool(topology) == bool(paths):
        raise InputError("give files, or --topology, and one of them only")
    if topology:
        problems = validating.problems_of_topology(topology, profile, enforcement)
    else:
        mode = inputs.enforcement_of(enforcement)
        problems = validating.problems(inputs.files_of(paths), inputs.profile_of(profile), mode)
    if as_json:
        print(
            json.dumps(
                {"version": FORMAT_VERSION, "problems": [validating.value(one) for one in problems]}, indent=2
            )
        )
    else:
        for problem in problems:
            print(problem)
        remark(validating.summary(problems))
    return 1 if any(strict or not problem.warning for problem in problems) else 0


def schema(kind: str) -> int:
    """A JSON schema for editors."""
    from acns.policy import schema as schemas

    if kind not in schemas.KINDS:
        raise InputError(f"there is no schema for kind '{kind}'", hint=did_you_mean(kind, schemas.KINDS))
    print(json.dumps(schemas.json_schema(kind), indent=2))
    return 0


def _offline(
    given: Given, pod: str, to: str | None, dns: str | None, server: str | None
) -> tuple[Answered, str]:
    _say_problems(given)
    overview = given.overview
    source = overview.local(overview.pod(pod))
    knowledge = given.knowledge(_server(server) if server else None)
    if dns is None:
        wanted = destination.parse(to or "", overview, source.resident)
        return Answered(explain(overview, source, wanted, knowledge)), given.what
    if knowledge.server is None:
        raise InputError(
            "there is no Service kube-system/kube-dns: whom does the pod ask?", hint="--server IP"
        )
    return Answered(explain_query(overview, source, _name(dns), knowledge)), given.what


def _on_kind(kind: KindLab, pod: str, to: str | None, dns: str | None, server: str | None) -> Answered:
    from lab.backends.kind import explaining

    asked = _server(server) if server else None
    if dns is None:
        return explaining.connection(kind, pod, to or "", asked)
    return explaining.query(kind, pod, _name(dns), asked)


def _live(lab: Lab, pod: str, to: str | None, dns: str | None, server: str | None) -> tuple[Answered, str]:
    from lab.policy_tools.live import Live

    _prepare(lab)
    live = Live(lab)
    try:
        _remark_on(live)
        if dns is None:
            return live.explain(pod, to or ""), f"lab {lab.name}"
        return live.explain_query(pod, _name(dns), _server(server) if server else None), f"lab {lab.name}"
    finally:
        live.close()


def _live_matrix(lab: Lab, traffics: Sequence[Traffic]) -> LiveMatrix:
    from lab.policy_tools.live import Live
    from lab.policy_tools.live_matrix import live_matrix

    _prepare(lab)
    live = Live(lab)
    try:
        _remark_on(live)
        return live_matrix(live, traffics)
    finally:
        live.close()


def _remark_on(live: Live) -> None:
    for text in live.remarks():
        remark(text)


def _prepare(lab: Lab) -> None:
    """Whoever asks why something is broken is not helped by hearing that something is broken."""
    try:
        lab.wait_settled(_PATIENCE_S)
    except ProcessFailed as error:
        remark(f"the lab is not as it should be: {error.message}")
    for text in live_remarks.remarks(lab.status()):
        remark(text)


def _say_problems(given: Given) -> None:
    errors = [problem for problem in given.problems if not problem.warning]
    for problem in errors:
        remark(f"left out: {problem}")
    if len(given.problems) > len(errors):
        remark(f"{len(given.problems) - len(errors)} warnings: policy.validate says which")
    if given.made_up:
        listed = ", ".join(given.made_up)
        remark(f"these pods have no address in their manifests, one was made up for each: {listed}")


def _is_as_expected(outcome: Outcome, expect: str | None) -> bool:
    """What goes to the resolver is let through: which names it may ask for is another question."""
    if expect is None:
        return True
    good = (Outcome.DENIED,) if expect == "denied" else (Outcome.ALLOWED, Outcome.REDIRECTED)
    return outcome in good


def _any_lab_is_up() -> bool:
    try:
        return any(record.alive() for folder in state.all_folders() if (record := folder.record()))
    except EnvironmentFault:  # labs are root's
        return False


def _server(text: str) -> Server:
    address, colon, port = text.partition(":")
    try:
        server = Server(IPv4Address(address), int(port) if colon else DNS_PORT)
    except (AddressValueError, ValueError):
        server = None
    if server is None or not 1 <= server.port <= HIGHEST_PORT:
        raise InputError(f"'{text}' is no DNS server's address", hint="write 10.96.0.10 or 10.96.0.10:53")
    return server


def _name(text: str) -> Name:
    try:
        return names.from_text(text)
    except ValueError as error:
        raise InputError(str(error)) from None
