"""Policies as the published guides have them (names changed) mean what those guides say."""

from __future__ import annotations

import pytest

from acns.dns import name as names
from acns.policy.manifests import parse
from acns.policy.profiles import Profile

from .policy_world import DNS, DNS_IP, TCP, UDP, opened, policy_of, servers

# ACNS, "Set up FQDN filtering": an app may look up and reach one domain's names, and nothing else.
ACNS_HOW_TO = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: allow-one-domain
spec:
  endpointSelector:
    matchLabels:
      app: frontend
  egress:
    - toEndpoints:
      - matchLabels:
          "k8s:io.kubernetes.pod.namespace": kube-system
          "k8s:k8s-app": kube-dns
      toPorts:
        - ports:
          - port: "53"
            protocol: ANY
          rules:
            dns:
              - matchPattern: "*.example.com"
    - toFQDNs:
      - matchPattern: "*.example.com"
"""

# Cilium, "Locking down external access with DNS-based policies": a name, then a pattern, then ports.
CILIUM_DNS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: fqdn
spec:
  endpointSelector:
    matchLabels:
      app: frontend
  egress:
  - toFQDNs:
    - matchPattern: "*.example.com"
    toPorts:
    - ports:
      - port: "443"
        protocol: TCP
  - toEndpoints:
    - matchLabels:
        "k8s:io.kubernetes.pod.namespace": kube-system
        "k8s:k8s-app": kube-dns
    toPorts:
    - ports:
      - port: "53"
        protocol: ANY
      rules:
        dns:
        - matchPattern: "*"
"""

# ACNS's note for musl: search lists stop at REFUSED, so the searched names are allowed too.
MUSL_WORKAROUND = ACNS_HOW_TO.replace(
    '              - matchPattern: "*.example.com"\n',
    "".join(f'              - matchPattern: "*.example.com{".*" * n}"\n' for n in (0, 2, 3, 4, 5)),
)


@pytest.mark.parametrize("profile", list(Profile))
def test_the_acns_how_to_is_accepted_without_a_word(profile: Profile) -> None:
    assert parse(ACNS_HOW_TO, "p.yaml", profile).problems == ()


def test_it_gates_the_cluster_dns_and_opens_the_names() -> None:
    policy = policy_of("frontend", ACNS_HOW_TO)
    assert servers(policy) == {(str(a), p, 53) for a in (DNS, DNS_IP) for p in (UDP, TCP)}
    assert opened(policy) == [("fqdn:pattern:*.example.com.", "all")]
    assert not policy_of("legacy", ACNS_HOW_TO).egress.enforced


def test_it_allows_queries_for_one_label_below_the_domain_only() -> None:
    (dns,) = policy_of("frontend", ACNS_HOW_TO).dns

    def allowed(name: str) -> bool:
        return any(selector.matches(names.from_text(name)) for selector in dns.names or ())

    assert allowed("www.example.com")
    assert not allowed("example.com")
    assert not allowed("a.b.example.com")
    assert not allowed("www.example.org")


def test_ciliums_guide_opens_the_port_it_says_and_every_query() -> None:
    policy = policy_of("frontend", CILIUM_DNS)
    assert opened(policy) == [("fqdn:pattern:*.example.com.", "TCP/443")]
    (dns,) = policy.dns
    assert [selector.is_match_all for selector in dns.names or ()] == [True]


def test_profile_acns_refuses_ciliums_guide_for_its_bare_wildcard() -> None:
    parsed = parse(CILIUM_DNS, "p.yaml", Profile.ACNS)
    assert parsed.objects == ()
    assert "bare wildcard" in parsed.problems[0].message


@pytest.mark.parametrize("profile", list(Profile))
def test_the_musl_workaround_is_accepted_with_a_word_on_what_it_lets_out(profile: Profile) -> None:
    parsed = parse(MUSL_WORKAROUND, "p.yaml", profile)
    assert parsed.ok
    assert [problem.code for problem in parsed.problems] == ["trailing-wildcard-labels"] * 4
