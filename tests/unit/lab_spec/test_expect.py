"""The statements of `expect:`: what they mean, what is said of wrong ones, that they print as they read."""

import contextlib
import re
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.spec.expect import Expectation, PolicyExpectation, parse, parse_any


@pytest.mark.parametrize(
    ("statement", "meaning"),
    [
        ("frontend resolves api.example.com", Expectation("frontend", "resolves", "api.example.com")),
        ("a/frontend refused evil.example.com.", Expectation("a/frontend", "refused", "evil.example.com.")),
        ("p empty x.io AAAA", Expectation("p", "empty", "x.io", record_type="AAAA")),
        ("p connects x.io:443", Expectation("p", "connects", "x.io", 443, "https")),
        ("p connects x.io:80", Expectation("p", "connects", "x.io", 80, "http")),
        ("p  connects   x.io:8443", Expectation("p", "connects", "x.io", 8443, "tcp")),
        ("p blocked 198.51.100.9:443", Expectation("p", "blocked", "198.51.100.9", 443, "https")),
        ("p blocked [2001:db8::1]:22", Expectation("p", "blocked", "2001:db8::1", 22, "tcp")),
        ("p connects web:80", Expectation("p", "connects", "web", 80, "http")),
        ("p fails x.io by musl", Expectation("p", "fails", "x.io", by_musl=True)),
        ("p resolves x.io over tcp", Expectation("p", "resolves", "x.io", over_tcp=True)),
        ("p refused x.io at 9.9.9.9", Expectation("p", "refused", "x.io", server=IPv4Address("9.9.9.9"))),
        (
            "p nxdomain x.io at 9.9.9.9 over tcp",
            Expectation("p", "nxdomain", "x.io", over_tcp=True, server=IPv4Address("9.9.9.9")),
        ),
        ("p truncated x.io", Expectation("p", "truncated", "x.io")),
        ("p unanswered by.over.at", Expectation("p", "unanswered", "by.over.at")),
        ("p bypasses resolver", Expectation("p", "bypasses", "resolver")),
        ("p uses resolver", Expectation("p", "uses", "resolver")),
        ("policy resolves x.io", Expectation("policy", "resolves", "x.io")),
    ],
)
def test_a_statement_means_what_it_says(statement: str, meaning: Expectation) -> None:
    assert parse(statement) == meaning


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("", "is not a statement"),
        ("frontend", "is not a statement"),
        ("Front_end resolves x.io", "'Front_end' is not a pod's name"),
        ("p resolve x.io", "did you mean 'resolves'?"),
        ("p resolves", "should read 'POD resolves NAME [by musl] [over tcp] [at ADDRESS]'"),
        ("p resolves x.io now", "should read 'POD resolves NAME [by musl]"),
        ("p resolves x.io by glibc", "'by glibc' does not say how"),
        ("p resolves x.io by musl over tcp", "does not say how"),
        ("p resolves x.io over", "'over' does not say how"),
        ("p refused x.io by musl", "should read 'POD refused NAME [over tcp] [at ADDRESS]'"),
        ("p refused x.io at kube-dns", "'at kube-dns' does not say how"),
        ("p refused x.io at 9.9.9.9 at 8.8.8.8", "does not say how"),
        ("p bypasses shim", "'shim' should read 'resolver'"),
        ("p resolves x.io:443", "has a port; only connects and blocked take one"),
        ("p resolves 198.51.100.9", "is an address; this verb takes a name"),
        ("p connects x.io", "'x.io' has no port; write 'x.io:443'"),
        ("p connects x.io:0", "0 is not a port"),
        ("p connects x.io:70000", "70000 is not a port"),
        ("p connects 2001:db8::1:443", "write an IPv6 address in brackets"),
        ("p connects [x.io]:443", "'x.io' is not an IPv6 address"),
        ("p connects https://x.io:443", "write an IPv6 address in brackets"),
        ("p connects 198.51.100:443", "neither a DNS name nor an address"),
        ("p blocked *.x.io:443", "neither a DNS name nor an address"),
        ("p empty x.io", "should read 'POD empty NAME A|AAAA [at ADDRESS]'"),
        ("p empty x.io MX", "should read 'POD empty NAME A|AAAA [at ADDRESS]'"),
    ],
)
def test_a_wrong_statement_says_what_would_be_right(statement: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(statement)


_PODS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(/[a-z]{1,5})?", fullmatch=True)
_NAMES = st.from_regex(r"([a-z0-9_]{1,8}\.){1,4}[a-z]{2,5}", fullmatch=True)
_HOSTS = st.one_of(_NAMES, st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)))
_STATEMENTS = st.one_of(
    st.builds(
        "{} {} {}{}".format,
        _PODS,
        st.sampled_from(["resolves", "refused", "nxdomain", "unanswered"]),
        _NAMES,
        st.sampled_from(["", " over tcp", " at 192.0.2.1", " over tcp at 192.0.2.1"]),
    ),
    st.builds("{} fails {}{}".format, _PODS, _NAMES, st.sampled_from(["", " by musl"])),
    st.builds("{} {} resolver".format, _PODS, st.sampled_from(["uses", "bypasses"])),
    st.builds("{} empty {} {}".format, _PODS, _NAMES, st.sampled_from(["A", "AAAA"])),
    st.builds(
        "{} {} {}:{}".format, _PODS, st.sampled_from(["connects", "blocked"]), _HOSTS, st.integers(1, 65535)
    ),
)


@given(_STATEMENTS)
def test_a_statement_prints_as_it_was_read(statement: str) -> None:
    """The probe gets statements as text: what is lost on the way would be tested as something else."""
    assert str(parse(statement)) == statement
    assert parse(str(parse(statement))) == parse(statement)


@given(st.text(max_size=60))
def test_any_text_is_a_statement_or_a_valueerror(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse(text).pod == text.split()[0]


def test_a_statement_about_a_policy_file_prints_as_it_was_read() -> None:
    wanted = parse_any("policy wrong.yaml  refused  L7 rules other than DNS")
    assert wanted == PolicyExpectation("wrong.yaml", "L7 rules other than DNS")
    assert parse_any(str(wanted)) == wanted


@pytest.mark.parametrize("statement", ["policy wrong.yaml refused", "policy wrong.yaml accepted that"])
def test_a_wrong_statement_about_a_policy_says_what_would_be_right(statement: str) -> None:
    with pytest.raises(ValueError, match="should read 'policy FILE refused TEXT'"):
        parse_any(statement)
