"""The statements of `expect:`: what they mean, what is said of wrong ones, that they print as they read."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab.spec.expect import Expectation, parse


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
        ("p resolves", "should read 'POD resolves NAME'"),
        ("p resolves x.io now", "should read 'POD resolves NAME'"),
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
        ("p empty x.io", "should read 'POD empty NAME A|AAAA'"),
        ("p empty x.io MX", "should read 'POD empty NAME A|AAAA'"),
    ],
)
def test_a_wrong_statement_says_what_would_be_right(statement: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=re.escape(complaint)):
        parse(statement)


_PODS = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?(/[a-z]{1,5})?", fullmatch=True)
_NAMES = st.from_regex(r"([a-z0-9_]{1,8}\.){1,4}[a-z]{2,5}", fullmatch=True)
_HOSTS = st.one_of(_NAMES, st.ip_addresses().map(lambda ip: f"[{ip}]" if ip.version == 6 else str(ip)))
_STATEMENTS = st.one_of(
    st.builds("{} {} {}".format, _PODS, st.sampled_from(["resolves", "refused"]), _NAMES),
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
