"""Statements tried from outside the pods: whose queries are redirected, which policies are refused."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address
from itertools import chain
from pathlib import PurePath
from typing import TYPE_CHECKING, Final

from lab.spec.expect import Expectation, PolicyExpectation, Row
from lab.world import probe
from lab.world.manifests import Place

if TYPE_CHECKING:
    from acns.policy.routes import Outcome
    from lab.runtime.lab import Lab

DNS_PORT: Final = 53
_UDP: Final = 17
_WORDS: Final = {"redirected": "uses resolver", "allowed": "bypasses resolver"}
"""By outcome, by its value: what it is the value of takes as long to import as all the rest."""
WARNING: Final = ": warning: "
"""In what a shim has against a manifest, where it only warns."""


def prepare() -> None:
    """Import what `traced` needs, in a moment in which there is nothing else to do."""
    importlib.import_module("lab.policy_tools.witness")


def traced(lab: Lab, expectations: Sequence[Expectation]) -> list[Row]:
    """A query of each pod to its DNS server, followed through the rules of its node's kernel."""
    if not expectations:
        return []
    from acns.policy import traffic
    from lab.policy_tools.witness import Ask, Witness

    began = time.monotonic()
    pods = [lab.addressing.pod(wanted.pod).key for wanted in expectations]
    servers = [_dns_server(lab, pod) for pod in pods]
    asks = [
        Ask(pod, server, traffic.packet(_UDP, DNS_PORT))
        for pod, server in zip(pods, servers, strict=True)
        if server
    ]
    witness = Witness(lab)
    try:
        seen = iter(witness.testify(asks))
    finally:
        witness.close()
    elapsed_ms = round(1000 * (time.monotonic() - began), 1)
    return [
        _row(wanted, next(seen).outcome if server else None, server, elapsed_ms)
        for wanted, server in zip(expectations, servers, strict=True)
    ]


def policy_row(wanted: PolicyExpectation, problems: Iterable[Iterable[str]]) -> Row:
    """`problems` are what each node's shim has to say against manifests."""
    by_shim = [[one for one in of_one if error_file(one) == wanted.file] for of_one in problems]
    said = list(chain.from_iterable(by_shim))
    fitting = [one for one in said if wanted.text in " ".join(one.split())]
    is_refused = bool(by_shim) and all(any(one in fitting for one in of_one) for of_one in by_shim)
    actual = "refused" if is_refused else "refused for another reason" if said else "accepted"
    folder, _, detail = (fitting or said or [""])[0].rpartition(f"/{wanted.file}:")
    detail = f"{wanted.file}:{detail}" if folder else detail
    return Row("policy", wanted.file, None, "refused", actual, is_refused, detail)


def error_file(problem: str) -> str:
    """The name of the file that a shim has something against; empty where it only warns."""
    return "" if WARNING in problem else PurePath(problem.partition(":")[0]).name


def error_object(problem: str) -> Place | None:
    """What object it is about, where a shim knows of no files: `CiliumNetworkPolicy default/x spec…: …`."""
    kind, _, rest = problem.partition(" ")
    if WARNING in problem or not rest:
        return None
    namespace, _, name = rest.split(" ")[0].rstrip(":").rpartition("/")
    return kind, namespace, name


def _dns_server(lab: Lab, pod: str) -> IPv4Address | None:
    """The first of the pod's resolv.conf; None where that is no IPv4 address."""
    try:
        return IPv4Address(probe.nameserver(lab.folder.pod(pod) / "resolv.conf"))
    except (AddressValueError, ValueError):
        return None


def _row(wanted: Expectation, outcome: Outcome | None, server: IPv4Address | None, elapsed_ms: float) -> Row:
    actual = _WORDS.get(outcome, "blocked") if outcome else "lost on the way"
    detail = f"a query to {server}" if server else "the pod has no DNS server"
    return Row(
        wanted.pod, wanted.about, None, wanted.words, actual, actual == wanted.words, detail, elapsed_ms
    )
