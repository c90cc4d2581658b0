"""One program, compiled against glibc and against musl (Alpine): the search list under an FQDN policy.

Given the search list and ndots:5, a program asks `api.example.com.default.svc.cluster.local` first, which
a policy of exact names denies. REFUSED makes glibc drop the search list and go on; musl waits for a better
answer until its time-out and gives up (res_msend.c takes rcodes 0 and 3 only). The ways out that exist are
all shown.
Both ask for A and AAAA at once, from one socket, under two IDs.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from scapy.layers.dns import DNS
from scapy.layers.inet import IP, UDP
from scapy.packet import Packet

from lab.capture.tap import Tap
from lab.runtime.lab import Lab
from lab.spec.load import find_topology, load_topology
from lab.world import musl

from .wire import DNS_PORT, holding, is_udp_to, payload, seen, tapped, until

pytestmark = pytest.mark.root

COMPILERS = {"musl": musl.COMPILER, "glibc": ("gcc",)}
API = ["198.51.100.10", "198.51.100.11", "198.51.100.12"]
ONCE = "options ndots:{ndots} timeout:1 attempts:1\n"
"""Kubernetes' options, but that a program which waits in vain does so for a second."""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The client, by C library."""
    folder = tmp_path_factory.mktemp("clients")
    folder.chmod(0o755)
    made = {}
    for library, compiler in COMPILERS.items():
        made[library] = folder / library
        argv = [*compiler, "-O2", "-Wall", "-Werror", "-o", str(made[library]), str(musl.SOURCE)]
        subprocess.run(argv, check=True)
    return made


@pytest.fixture(scope="module")
def nxdomain() -> Iterator[Lab]:
    """quickstart, whose resolver answers NXDOMAIN to names that no rule allows."""
    topology = load_topology(find_topology("quickstart"))
    nodes = tuple(node.model_copy(update={"resolver": {"denied": "nxdomain"}}) for node in topology.nodes)
    running = Lab.up(topology.model_copy(update={"nodes": nodes}), name=f"t{os.getpid()}-nxdomain")
    try:
        yield running
    finally:
        running.down()


@contextlib.contextmanager
def resolv_conf(lab: Lab, pod: str, ndots: int, more_servers: Sequence[str] = ()) -> Iterator[None]:
    """The pod's file, with other options, and with more servers behind its own."""
    file = lab.folder.pod(f"default/{pod}") / "resolv.conf"
    shipped = file.read_text()
    lines = [line for line in shipped.splitlines(keepends=True) if not line.startswith("options")]
    lines += [f"nameserver {address}\n" for address in more_servers]
    file.write_text("".join(lines) + ONCE.format(ndots=ndots))  # in place: the pod has it mounted
    try:
        yield
    finally:
        file.write_text(shipped)


def resolve(
    lab: Lab, pod: str, program: Path, name: str, *, ndots: int = 5, more_servers: Sequence[str] = ()
) -> list[str]:
    """What the program prints: addresses, or the error."""
    with resolv_conf(lab, pod, ndots, more_servers):
        return sorted(lab.pod(pod).run([str(program), name]).stdout.split())


def test_glibc_goes_on_where_its_search_list_is_refused(quickstart: Lab, programs: dict[str, Path]) -> None:
    assert resolve(quickstart, "frontend", programs["glibc"], "api.example.com") == API


def test_musl_gives_up_there_and_never_asks_for_the_name_itself(
    quickstart: Lab, programs: dict[str, Path]
) -> None:
    with tapped(quickstart.pod("frontend")) as tap:
        found = resolve(quickstart, "frontend", programs["musl"], "api.example.com")
        assert found == ["EAI_AGAIN"]
        asked = {DNS(payload(packet)).qd[0].qname for packet in seen(tap, is_udp_to(DNS_PORT))}
    assert asked == {b"api.example.com.default.svc.cluster.local."}


def test_musl_goes_on_where_denied_names_are_nxdomain(nxdomain: Lab, programs: dict[str, Path]) -> None:
    assert resolve(nxdomain, "frontend", programs["musl"], "api.example.com") == API
    assert resolve(nxdomain, "frontend", programs["glibc"], "api.example.com") == API
    assert resolve(nxdomain, "frontend", programs["musl"], "evil.example.org") == ["EAI_NONAME"]


@pytest.mark.parametrize("library", COMPILERS)
@pytest.mark.parametrize(("name", "ndots"), [("api.example.com.", 5), ("api.example.com", 1)])
def test_both_find_a_name_that_is_asked_as_it_stands(
    quickstart: Lab, programs: dict[str, Path], library: str, name: str, ndots: int
) -> None:
    assert resolve(quickstart, "frontend", programs[library], name, ndots=ndots) == API


@pytest.mark.parametrize("library", COMPILERS)
def test_both_walk_their_search_list_where_a_policy_allows_its_names(
    quickstart: Lab, programs: dict[str, Path], library: str
) -> None:
    """The patterns of the published work-around: the cluster's DNS says NXDOMAIN to each name of the list."""
    found = resolve(quickstart, "batch", programs[library], "data.storage.example.net")
    assert found == ["203.0.113.10"]


@pytest.mark.parametrize("library", COMPILERS)
def test_both_ask_for_both_families_at_once_from_one_socket_and_hear_of_both(
    quickstart: Lab, programs: dict[str, Path], library: str
) -> None:
    with tapped(quickstart.pod("frontend")) as tap:
        found = resolve(quickstart, "frontend", programs[library], "dual.example.com.")
        assert found == ["198.51.100.50"]
        queries = seen(tap, is_udp_to(DNS_PORT))
        about = seen(tap, holding(b"\4dual\7example"))
    answers = [packet for packet in about if packet[UDP].sport == DNS_PORT]
    assert len({packet[UDP].sport for packet in queries}) == 1
    asked = {DNS(payload(packet)).id: DNS(payload(packet)).qd[0].qtype for packet in queries}
    assert sorted(asked.values()) == [1, 28]
    assert {DNS(payload(packet)).id for packet in answers} == asked.keys()


def test_musl_asks_several_servers_at_once_under_one_id_and_hears_of_each(
    quickstart: Lab, programs: dict[str, Path]
) -> None:
    """The Service's address and its backend's: two servers that the policy allows."""
    backend = str(quickstart.pod("kube-dns").address)
    with tapped(quickstart.pod("frontend")) as tap:
        found = resolve(quickstart, "frontend", programs["musl"], "api.example.com.", more_servers=[backend])
        assert found == API
        queries = seen(tap, is_udp_to(DNS_PORT))
        wait_until_answered(tap, len(queries))
    servers = {packet[IP].dst for packet in queries}
    assert len(servers) == 2
    assert len({packet[UDP].sport for packet in queries}) == 1
    asked = [(packet[IP].dst, DNS(payload(packet)).id) for packet in queries]
    assert len(asked) == 4
    assert len({ident for _, ident in asked}) == 2
    assert sorted((packet[IP].src, DNS(payload(packet)).id) for packet in answers(tap)) == sorted(asked)


def test_musl_does_not_wait_for_a_server_that_no_rule_allows(
    quickstart: Lab, programs: dict[str, Path]
) -> None:
    silent = "203.0.113.253"
    with tapped(quickstart.pod("frontend")) as tap:
        found = resolve(quickstart, "frontend", programs["musl"], "api.example.com.", more_servers=[silent])
        assert found == API
        queries = seen(tap, is_udp_to(DNS_PORT))
    assert silent in {packet[IP].dst for packet in queries}
    assert len(queries) == 4, "none was sent again"


def answers(tap: Tap) -> list[Packet]:
    return seen(tap, lambda packet: UDP in packet and packet[UDP].sport == DNS_PORT)


def wait_until_answered(tap: Tap, count: int) -> None:
    """musl ends with the first answer to each of its questions."""
    until(lambda: len(answers(tap)) == count, "each query has an answer")
