"""Real programs in pods, as their images would run them: dig, curl, Python, busybox, the C library.

They see the policy the way an application does, through resolv.conf, the search list, EDNS and TCP after
truncation. Where a program got nowhere, a tap at the Internet's door proves that nothing of it got out.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from subprocess import CompletedProcess
from typing import Any

import pytest
from scapy.layers.inet import IP, UDP

from lab.runtime.handles import PodHandle
from lab.runtime.lab import Lab
from lab.spec.topology import InternetName

from .wire import (
    DNS_PORT,
    both,
    holding,
    is_tcp_to,
    is_udp_to,
    more_names,
    payload,
    seen,
    tapped,
    to_,
    wait_for,
)

pytestmark = pytest.mark.root

Client = Callable[[PodHandle, str], CompletedProcess[str]]

API = ["198.51.100.10", "198.51.100.11", "198.51.100.12"]
CLUSTER_DNS = "10.96.0.10"
MEDIUM, LARGE = "medium.storage.example.net", "large.storage.example.net"
MEDIUM_ADDRESSES = tuple(IPv4Address(f"198.19.10.{host}") for host in range(1, 41))
"""An answer of more than 512 bytes (RFC 1035's limit) and less than 1232 (what everybody announces now)."""
LARGE_ADDRESSES = tuple(IPv4Address(f"198.19.11.{host}") for host in range(1, 121))
"""An answer that no UDP datagram of the Internet's server holds: it takes TCP."""


@pytest.fixture(scope="module")
def lab(quickstart: Lab) -> Iterator[Lab]:
    """`quickstart`, with two names more under the pattern of `batch`."""
    names = {MEDIUM: InternetName(a=MEDIUM_ADDRESSES), LARGE: InternetName(a=LARGE_ADDRESSES)}
    with more_names(quickstart, names):
        yield quickstart


@pytest.fixture
def frontend(lab: Lab) -> PodHandle:
    return lab.pod("frontend")


@pytest.fixture
def batch(lab: Lab) -> PodHandle:
    return lab.pod("batch")


# --- dig --------------------------------------------------------------------------------------------------

DIG_OPTIONS = {
    "default, with a cookie": (),
    "tcp": ("+tcp",),
    "bufsize 512": ("+bufsize=512",),
    "bufsize 4096": ("+bufsize=4096",),
    "no cookie": ("+nocookie",),
    "no EDNS": ("+noedns",),
    "DNSSEC wanted": ("+dnssec",),
}
options = pytest.mark.parametrize("given", DIG_OPTIONS.values(), ids=DIG_OPTIONS.keys())


def dig(pod: PodHandle, *words: str) -> str:
    """What dig prints; it must be content with the answer (no warning about ID, question, cookie or size)."""
    done = pod.run(["dig", "+tries=1", "+time=5", *words])
    assert done.returncode == 0, done.stdout + done.stderr
    remarks = [line for line in done.stdout.splitlines() if "warning" in line.lower()]
    assert [line for line in remarks if ".local is reserved" not in line] == []
    return done.stdout


def dug(output: str) -> list[str]:
    """The data of the records in the answer section."""
    _, _, rest = output.partition(";; ANSWER SECTION:\n")
    return sorted(line.split()[-1] for line in rest.partition("\n\n")[0].splitlines())


@options
def test_dig_gets_the_addresses_of_an_allowed_name(frontend: PodHandle, given: tuple[str, ...]) -> None:
    assert dug(dig(frontend, *given, "api.example.com")) == API


@options
def test_dig_is_refused_a_name_outside_the_policy(frontend: PodHandle, given: tuple[str, ...]) -> None:
    assert "status: REFUSED" in dig(frontend, *given, "evil.example.org")


def test_dig_may_spell_an_allowed_name_in_any_case(frontend: PodHandle) -> None:
    assert dug(dig(frontend, "aPi.ExaMple.coM")) == API


@pytest.mark.parametrize(("option", "transport"), [("+notcp", "UDP"), ("+tcp", "TCP")])
def test_dig_is_answered_by_the_server_that_it_asked_over_the_transport_it_chose(
    frontend: PodHandle, option: str, transport: str
) -> None:
    output = dig(frontend, option, "api.example.com")
    assert f";; SERVER: {CLUSTER_DNS}#53({CLUSTER_DNS}) ({transport})" in output


def test_digs_cookie_reaches_the_dns_server_as_it_was(lab: Lab, frontend: PodHandle) -> None:
    cookie = "0123456789abcdef"
    with tapped(lab.pod("kube-dns")) as server:
        dig(frontend, f"+cookie={cookie}", "api.example.com")
        wait_for(server, both(holding(bytes.fromhex(cookie)), holding(b"\3api\7example\3com")))


def test_dig_gets_no_address_for_aaaa_and_no_error_either(frontend: PodHandle) -> None:
    output = dig(frontend, "AAAA", "dual.example.com")
    assert "status: NOERROR" in output
    assert dug(output) == []


def test_dig_is_refused_aaaa_like_any_other_type_outside_the_policy(frontend: PodHandle) -> None:
    assert "status: REFUSED" in dig(frontend, "AAAA", "evil.example.org")


def test_dig_to_a_server_that_no_rule_names_gets_no_answer(lab: Lab, frontend: PodHandle) -> None:
    server = str(lab.topology.internet.dns)
    with tapped(lab.internet) as internet:
        done = frontend.run(["dig", "+tries=1", "+time=1", f"@{server}", "shared.example.com"])
        assert seen(internet, holding(b"\6shared\7example\3com")) == []
    assert "no servers could be reached" in done.stdout


def test_dig_of_a_pod_without_policy_gets_whatever_there_is_from_whomever(lab: Lab) -> None:
    output = dig(lab.pod("legacy"), f"@{lab.topology.internet.dns}", "+norecurse", "AAAA", "evil.example.org")
    assert dug(output) == ["2001:db8::99"]


# --- truncation -------------------------------------------------------------------------------------------


def test_an_answer_that_fits_the_size_the_client_announced_comes_whole_over_udp(batch: PodHandle) -> None:
    output = dig(batch, "+bufsize=1232", MEDIUM)
    assert dug(output) == sorted(map(str, MEDIUM_ADDRESSES))
    assert "(UDP)" in output


@pytest.mark.parametrize("name", [MEDIUM, LARGE])
@pytest.mark.parametrize("option", ["+bufsize=512", "+noedns"])
def test_an_answer_over_512_bytes_is_truncated_for_who_takes_no_more(
    batch: PodHandle, name: str, option: str
) -> None:
    output = dig(batch, "+ignore", option, name)
    assert "flags: qr aa tc" in output
    assert int(output.partition("MSG SIZE  rcvd: ")[2].split()[0]) <= 512


@pytest.mark.parametrize("option", ["+bufsize=512", "+noedns", "+bufsize=1232", "+bufsize=4096"])
def test_dig_gets_a_truncated_answer_whole_over_tcp(batch: PodHandle, option: str) -> None:
    output = dig(batch, option, LARGE)
    assert ";; Truncated, retrying in TCP mode." in output
    assert dug(output) == sorted(map(str, LARGE_ADDRESSES))


def test_the_c_library_gets_a_truncated_answer_whole_over_tcp(batch: PodHandle) -> None:
    assert getaddrinfo(batch, LARGE) == sorted(map(str, LARGE_ADDRESSES))


def test_every_address_of_an_answer_over_tcp_is_open_when_it_arrives(batch: PodHandle) -> None:
    """The last one, which is in no truncated answer, and only after the lookup that gives it."""
    script = (
        "import socket, sys; socket.getaddrinfo(sys.argv[1], 443); socket.create_connection(sys.argv[2:])"
    )
    last = max(LARGE_ADDRESSES)
    done = batch.run([sys.executable, "-c", script, LARGE, str(last), "443"])
    assert done.returncode == 0, done.stderr


# --- names to addresses by the C library ------------------------------------------------------------------


def getaddrinfo(pod: PodHandle, name: str) -> list[str]:
    """The distinct addresses, IPv4 and IPv6, that a program gets which asks for neither in particular."""
    script = "import json, socket, sys; json.dump(socket.getaddrinfo(sys.argv[1], 443), sys.stdout)"
    done = pod.run([sys.executable, "-c", script, name])
    assert done.returncode == 0, done.stderr
    return sorted({entry[4][0] for entry in json.loads(done.stdout)})


def test_getaddrinfo_gives_all_addresses_of_an_allowed_name(frontend: PodHandle) -> None:
    assert getaddrinfo(frontend, "api.example.com") == API


def test_getaddrinfo_of_a_dual_stack_name_gives_its_ipv4_address_alone(lab: Lab) -> None:
    assert getaddrinfo(lab.pod("frontend"), "dual.example.com") == ["198.51.100.50"]
    assert getaddrinfo(lab.pod("legacy"), "dual.example.com") == ["198.51.100.50", "2001:db8::50"]


def test_getaddrinfo_follows_a_cname_chain(frontend: PodHandle) -> None:
    assert getaddrinfo(frontend, "www.example.com") == ["198.51.100.20"]


@pytest.mark.parametrize("name", ["evil.example.org", "v6.example.com", "tracker.example.org"])
def test_getaddrinfo_fails_where_there_is_nothing_to_be_had(frontend: PodHandle, name: str) -> None:
    done = frontend.run(
        [sys.executable, "-c", "import socket, sys; socket.getaddrinfo(sys.argv[1], 443)", name]
    )
    assert "socket.gaierror" in done.stderr


def test_the_search_list_ends_in_nxdomain_where_a_policy_allows_its_names(lab: Lab) -> None:
    """What musl needs: at REFUSED it gives up, at NXDOMAIN it goes on to the name itself."""
    searched = "data.storage.example.net.default.svc.cluster.local"
    assert "status: NXDOMAIN" in dig(lab.pod("batch"), searched)
    assert "status: REFUSED" in dig(lab.pod("frontend"), searched)


def test_busybox_nslookup_finds_the_allowed_name_and_is_refused_the_other(frontend: PodHandle) -> None:
    found = frontend.run(["busybox", "nslookup", "api.example.com"]).stdout
    assert all(f"Address: {address}\n" in found for address in API)
    refused = frontend.run(["busybox", "nslookup", "evil.example.org"])
    assert (refused.returncode, "can't find evil.example.org: REFUSED" in refused.stdout) == (1, True)


# --- fetching by name -------------------------------------------------------------------------------------


def curl(pod: PodHandle, url: str, *switches: str, **options: Any) -> CompletedProcess[str]:
    return pod.run(["curl", "-sS", "--max-time", "8", *switches, url], **options)


def urllib(pod: PodHandle, url: str) -> CompletedProcess[str]:
    script = (
        "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=8).read().decode())"
    )
    return pod.run([sys.executable, "-c", script, url])


def busybox_wget(pod: PodHandle, url: str) -> CompletedProcess[str]:
    # Without -T: Debian 12's busybox crashes when a lookup fails under it.
    return pod.run(["busybox", "wget", "-q", "-O", "-", url])


CLIENTS = {"curl": curl, "urllib": urllib, "busybox wget": busybox_wget}
clients = pytest.mark.parametrize("client", CLIENTS.values(), ids=CLIENTS.keys())
COULD_NOT_RESOLVE, COULD_NOT_CONNECT, TIMED_OUT, UNTRUSTED = 6, 7, 28, 60
"""Exit codes of curl."""


@clients
def test_an_allowed_name_answers_over_http(frontend: PodHandle, client: Client) -> None:
    done = client(frontend, "http://www.example.com/")
    assert "host: www.example.com\nserver: 198.51.100.20:80\n" in done.stdout, done.stderr


@pytest.mark.parametrize("client", [curl, urllib])
@pytest.mark.parametrize("name", ["api.example.com", "www.example.com", "shared.example.com"])
def test_an_allowed_name_answers_over_https_for_itself(
    frontend: PodHandle, client: Client, name: str
) -> None:
    done = client(frontend, f"https://{name}/")
    assert f"host: {name}\nsni: {name}\n" in done.stdout, done.stderr


@clients
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_denied_name_leads_nowhere_and_no_packet_of_it_gets_out(
    lab: Lab, frontend: PodHandle, client: Client, scheme: str
) -> None:
    with tapped(lab.internet) as internet, tapped(lab.pod("kube-dns")) as server:
        done = client(frontend, f"{scheme}://evil.example.org/")
        assert (done.returncode > 0, done.stdout) == (True, "")
        assert seen(internet, to_("198.51.100.99")) == []
        assert seen(server, holding(b"\4evil\7example\3org")) == []


def test_curl_reports_a_denied_name_as_one_that_does_not_resolve(frontend: PodHandle) -> None:
    assert curl(frontend, "https://evil.example.org/").returncode == COULD_NOT_RESOLVE


def test_curl_gets_no_connection_to_a_port_outside_the_policy(lab: Lab, frontend: PodHandle) -> None:
    with tapped(lab.internet) as internet:
        done = curl(frontend, "http://api.example.com/", "--connect-timeout", "1")
        assert seen(internet, both(to_(*API), is_tcp_to(80))) == []
    assert done.returncode == TIMED_OUT


def test_curl_does_not_trust_the_servers_without_the_labs_authority(frontend: PodHandle) -> None:
    """So that it does trust them with it proves something."""
    others = {"CURL_CA_BUNDLE": "/etc/ssl/certs/ca-certificates.crt"}
    assert curl(frontend, "https://api.example.com/", env=others).returncode == UNTRUSTED


def test_curl_does_not_trust_a_server_under_a_name_that_is_not_its_own(frontend: PodHandle) -> None:
    detour = ("--connect-to", "stranger.example.com:443:api.example.com:443")
    assert curl(frontend, "https://stranger.example.com/", *detour).returncode == UNTRUSTED


def test_curl_reaches_a_dual_stack_name_over_ipv4_by_itself(frontend: PodHandle) -> None:
    assert "server: 198.51.100.50:443" in curl(frontend, "https://dual.example.com/").stdout


def test_curl_minus_4_reaches_a_dual_stack_name(frontend: PodHandle) -> None:
    assert "server: 198.51.100.50:443" in curl(frontend, "https://dual.example.com/", "-4").stdout


def test_curl_minus_6_finds_no_address_and_sends_nothing(lab: Lab, frontend: PodHandle) -> None:
    with tapped(lab.internet) as internet:
        done = curl(frontend, "https://dual.example.com/", "-6")
        assert done.returncode in (COULD_NOT_RESOLVE, COULD_NOT_CONNECT)
        assert seen(internet, is_tcp_to(443)) == []


def test_curl_minus_6_works_for_a_pod_without_policy(lab: Lab) -> None:
    assert "server: [2001:db8::50]:443" in curl(lab.pod("legacy"), "https://dual.example.com/", "-6").stdout


def test_a_pod_without_policy_reaches_a_service_by_its_search_list(lab: Lab) -> None:
    done = curl(lab.pod("legacy"), "http://web.default/")
    assert "host: web.default\nserver: 10.244.0.20:8080\n" in done.stdout, done.stderr


def test_what_a_client_sends_and_gets_is_ordinary_dns_on_the_wire(lab: Lab, frontend: PodHandle) -> None:
    """curl's own query and its answer, at the pod's cable: the server asked is the server that answers."""
    with tapped(frontend) as cable:
        curl(frontend, "https://api.example.com/")
        (query,) = seen(cable, both(to_(CLUSTER_DNS), holding(b"\3api\7example\3com\0\0\1")))
        (answer,) = seen(cable, both(is_udp_to(query[UDP].sport), holding(b"\3api\7example\3com\0\0\1")))
    assert payload(query)[:2] == payload(answer)[:2]
    assert (answer[IP].src, answer[UDP].sport) == (CLUSTER_DNS, DNS_PORT)
