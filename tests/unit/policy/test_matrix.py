"""Pods × destinations: what stands in a cell."""

from __future__ import annotations

from collections.abc import Mapping

from acns.policy import destination, matrix
from acns.policy.explain import Knowledge

from .explain_world import DNS, dns, fqdn, policy, world

WEB = """
    - toEndpoints: [{matchLabels: {app: web}}]
      toPorts: [{ports: [{port: "8080", protocol: TCP}]}]
"""


def table(
    *policies: str, ports: tuple[str, ...] = (), names: tuple[str, ...] = ()
) -> Mapping[str, Mapping[str, str]]:
    """Pod → destination → text."""
    overview = world(*policies)
    columns = matrix.columns(overview, [destination.traffic(port) for port in ports], names)
    rows = matrix.rows(overview, columns, lambda _: Knowledge(server=DNS))
    return {
        row.pod: {column.title: cell.text for column, cell in zip(columns, row.cells, strict=True)}
        for row in rows
    }


def test_every_pod_stands_against_pods_services_names_host_and_world() -> None:
    found = table(policy(dns("*") + fqdn("api.example.com")))
    assert list(found) == [
        "default/client",
        "default/other",
        "default/web-1",
        "default/web-2",
        "kube-system/dns",
    ]
    assert list(found["default/client"])[5:] == [
        "service default/lonely",
        "service default/web",
        "service kube-system/kube-dns",
        "api.example.com",
        "host",
        "remote-node",
        "world",
    ]


def test_the_own_node_and_another_have_cells_of_their_own() -> None:
    row = table(policy("    - toEntities: [remote-node]\n"))["default/client"]
    assert (row["host"], row["remote-node"]) == ("-", "all")


def test_what_is_denied_is_named_where_all_else_gets_through() -> None:
    denied = """
    - toEndpoints: [{matchLabels: {app: web}}]
      toPorts: [{ports: [{port: "8000", endPort: 8100, protocol: TCP}]}]
"""
    text = policy("    - toEntities: [all]").rstrip() + "\n  egressDeny:" + denied
    row = table(text)["default/client"]
    assert row["default/web-1"] == "all other traffic but 8000-8100/TCP"
    assert row["default/other"] == "all"


def test_queries_that_the_resolver_takes_are_told_where_all_else_gets_through() -> None:
    row = table(policy(dns("*.example.com") + "    - toEntities: [all]\n"))["default/client"]
    assert row["service kube-system/kube-dns"] == "53/TCP dns, 53/UDP dns"
    assert row["kube-system/dns"] == "53/TCP, 53/UDP dns, all other traffic"
    assert row["default/other"] == "all"


def test_cells_say_what_gets_through() -> None:
    row = table(policy(dns("*.example.com") + fqdn("api.example.com") + WEB))["default/client"]
    assert {
        key: row[key]
        for key in (
            "default/client",
            "default/other",
            "default/web-1",
            "service default/web",
            "api.example.com",
            "world",
        )
    } == {
        "default/client": "all",
        "default/other": "-",
        "default/web-1": "8080/TCP",
        "service default/web": "all",
        "api.example.com": "443/TCP",
        "world": "-",
    }
    assert row["kube-system/dns"] == "53/TCP, 53/UDP dns"
    assert row["service default/lonely"] == "-"


def test_with_a_port_a_cell_is_yes_or_no() -> None:
    row = table(policy(WEB), ports=("8080", "443"))["default/client"]
    assert (row["default/web-1 8080/TCP"], row["default/web-1 443/TCP"]) == ("yes", "-")
    assert row["service default/web 443/TCP"] == "n/a"


def test_known_names_are_columns_where_a_pattern_is_about_them() -> None:
    found = table(policy(fqdn("*.example.com")), names=("api.example.com", "evil.example.org"))
    assert "api.example.com" in found["default/client"]
    assert "evil.example.org" not in found["default/client"]


def test_a_service_with_a_closed_backend_is_open_to_some() -> None:
    closed = policy(ingress="    - fromEndpoints: [{matchLabels: {app: other}}]\n", selects="web, tier: far")
    assert table(closed)["default/client"]["service default/web"] == "80/TCP to some"


def test_fates_of_a_name_that_are_too_many_for_a_cell_are_not_passed_over_in_silence() -> None:
    rule = "    - toCIDR: [20.0.{0}.0/24]\n      toPorts: [{{ports: [{{port: '{1}', protocol: TCP}}]}}]\n"
    rules = "".join(rule.format(number, 1000 + number) for number in range(20))
    row = table(policy(dns("api.example.com") + fqdn("api.example.com") + rules))["default/client"]
    assert row["api.example.com"].startswith("443/TCP, 1000/TCP")
    assert row["api.example.com"].endswith(", and more")
