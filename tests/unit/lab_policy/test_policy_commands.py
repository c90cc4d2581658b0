"""`invoke policy.…` on files: exit codes, what is printed, what is wrong with what was typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from invoke.parser import Parser

import tasks
from acns.errors import InputError
from lab.policy_tools import commands
from lab.policy_tools.commands import About
from lab.runtime import state

QUICKSTART = About(topology="quickstart")
BY_HAND = """
kind: Pod
apiVersion: v1
metadata: {name: client, labels: {app: client}}
spec: {containers: [{name: app, image: app}]}
---
kind: CiliumNetworkPolicy
apiVersion: cilium.io/v2
metadata: {name: p}
spec:
  endpointSelector: {matchLabels: {app: client}}
  egress:
  - toCIDR: [198.51.100.0/24]
"""


@pytest.fixture(autouse=True)
def _no_lab_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(state.STATE_ROOT_VARIABLE, str(tmp_path / "labs"))


def explain(
    *words: str,
    about: About = QUICKSTART,
    expect: str | None = None,
    dns: str | None = None,
    server: str | None = None,
) -> int:
    return commands.run_explain(words, about, dns=dns, server=server, expect=expect, as_json=False)


def explained(
    *words: str, about: About = QUICKSTART, dns: str | None = None, capsys: pytest.CaptureFixture[str]
) -> Any:
    commands.run_explain(words, about, dns=dns, server=None, expect=None, as_json=True)
    return json.loads(capsys.readouterr().out)


# --- explain ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("to", "expect", "code"),
    [
        ("api.example.com:443", None, 0),
        ("api.example.com:80", None, 0),
        ("api.example.com:443", "allowed", 0),
        ("api.example.com:443", "denied", 1),
        ("api.example.com:80", "denied", 0),
        ("api.example.com:80", "allowed", 1),
        ("api.example.com", "allowed", 1),
        ("api.example.com", "denied", 1),
        ("service kube-system/kube-dns:53/udp", "allowed", 0),
    ],
)
def test_the_exit_code_is_0_unless_something_else_was_expected(
    to: str, expect: str | None, code: int
) -> None:
    assert explain("frontend", to, expect=expect) == code


def test_the_verdict_its_rule_and_its_place_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    explain("frontend", "api.example.com:443")
    printed = capsys.readouterr().out
    assert printed.startswith("default/frontend → api.example.com:443: ALLOWED   (topology quickstart)\n")
    rule = "default/frontend egress[1] (topologies/policies/frontend.yaml:33:7)"
    assert f"{rule}: toFQDNs matchName api.example.com, 443/TCP" in printed


def test_queries_that_the_resolver_takes_are_told_beside_what_is_allowed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.yaml").write_text(
        BY_HAND.replace("toCIDR: [198.51.100.0/24]", "toEntities: [all]")
        + """
  - toCIDR: [203.0.113.53/32]
    toPorts: [{ports: [{port: "53", protocol: UDP}], rules: {dns: [{matchName: api.example.com}]}}]
"""
    )
    assert explain("client", "203.0.113.53", about=About(manifests=[str(tmp_path)]), expect="allowed") == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "default/client → 203.0.113.53, all traffic: ALLOWED, 53/UDP through the resolver "
    )


def test_a_deny_says_what_comes_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    explain("frontend", "api.example.com:80")
    assert (
        "nearest: default/frontend egress[1] (topologies/policies/frontend.yaml:33:7) allows only 443/TCP"
        in capsys.readouterr().out
    )


def test_a_query_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert explain("batch", dns="storage.example.net") == 0
    printed = capsys.readouterr().out
    assert "REFUSED by the resolver" in printed
    assert "*.storage.example.net is exactly one label more than storage.example.net" in printed


def test_another_server_may_be_asked(capsys: pytest.CaptureFixture[str]) -> None:
    explain("frontend", dns="api.example.com", server="203.0.113.53:5353")
    assert "asked of 203.0.113.53:5353: no answer" in capsys.readouterr().out


def test_json_has_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained("frontend", "api.example.com:443", capsys=capsys)
    assert (found["version"], found["outcome"], found["supposed"]) == (1, "allowed", True)
    (said,) = found["parts"][0]["sides"][0]["rules"]
    assert (said["origin"]["path"], said["origin"]["line"]) == ("topologies/policies/frontend.yaml", 33)
    assert found["lookup"]["answer"] == "asked"
    assert "seen" not in found


def test_without_a_lab_the_shipped_topology_is_asked_about_and_said_to_be(
    capsys: pytest.CaptureFixture[str],
) -> None:
    explain("frontend", "api.example.com:443", about=About())
    assert "no lab is up: this is about the topology quickstart" in capsys.readouterr().err


def test_a_folder_of_manifests_written_by_hand_will_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.yaml").write_text(BY_HAND)
    about = About(manifests=[str(tmp_path)])
    assert explain("client", "198.51.100.7:443", about=about, expect="allowed") == 0
    assert explain("client", "203.0.113.7:443", about=about, expect="denied") == 0
    assert (
        "no address in their manifests, one was made up for each: default/client" in capsys.readouterr().err
    )


def test_of_a_pod_that_is_on_no_node_yet_no_node_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.yaml").write_text(BY_HAND)
    explain("client", "198.51.100.7:443", about=About(manifests=[str(tmp_path)]))
    assert "    egress of default/client: allowed\n" in capsys.readouterr().out


def test_profile_and_enforcement_are_those_that_were_given(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text(BY_HAND.partition("---")[0])
    assert explain("client", "world", about=About(manifests=[str(tmp_path)]), expect="allowed") == 0
    always = About(manifests=[str(tmp_path)], enforcement="always")
    assert explain("client", "world", about=always, expect="denied") == 0


def test_what_is_wrong_in_a_file_is_said_and_the_rest_counts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.yaml").write_text(BY_HAND + "---\nkind: Pdo\napiVersion: v1\n")
    assert explain("client", "203.0.113.7:443", about=About(manifests=[str(tmp_path)]), expect="denied") == 0
    assert "left out: " in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_left_out_as_one_that_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "all.yaml").write_text(BY_HAND)
    (tmp_path / "latin1.yaml").write_bytes("# für später\n".encode("latin-1"))
    assert explain("client", "203.0.113.7:443", about=About(manifests=[str(tmp_path)]), expect="denied") == 0
    assert f"left out: {tmp_path}/latin1.yaml:1:4: octet 0xfc is not UTF-8" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "about", "dns", "expect"),
    [
        (("frontend",), QUICKSTART, None, None),
        (("frontend", "web", "web"), QUICKSTART, None, None),
        (("frontend", "web"), QUICKSTART, "api.example.com", None),
        (("fronted", "web"), QUICKSTART, None, None),
        (("frontend", "wob"), QUICKSTART, None, None),
        (("frontend", "web"), QUICKSTART, None, "alowed"),
        (("frontend",), QUICKSTART, "a..b", None),
        (("frontend", "web"), About(topology="quickstart", manifests=["x"]), None, None),
        (("frontend", "web"), About(topology="quickstart", name="x"), None, None),
        (("frontend", "web"), About(topology="quickstart", live=True), None, None),
        (("frontend", "web"), About(profile="cilium"), None, None),
        (("frontend", "web"), About(topology="quickstart", profile="calico"), None, None),
        (("frontend", "web"), About(topology="quickstart", enforcement="often"), None, None),
        (("frontend", "web"), About(topology="quickstrat"), None, None),
        (("frontend", "web"), About(manifests=["/nowhere"]), None, None),
    ],
)
def test_what_was_typed_wrongly_is_an_input_error(
    words: tuple[str, ...], about: About, dns: str | None, expect: str | None
) -> None:
    with pytest.raises(InputError) as raised:
        explain(*words, about=about, dns=dns, expect=expect)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize(
    "text", ["10.96.0", "10.96.0.10:x", "10.96.0.10:0", "10.96.0.10:-1", "10.96.0.10:65536", "kube-dns"]
)
def test_what_is_no_dns_server_is_an_input_error(text: str) -> None:
    with pytest.raises(InputError, match="DNS server"):
        explain("frontend", dns="api.example.com", server=text)


# --- matrix -----------------------------------------------------------------------------------------------


def test_the_matrix_has_a_line_for_each_destination(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run_matrix(QUICKSTART, [], as_json=False) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["default/web", "-", "8080/TCP", "all"] in lines
    assert ["data.storage.example.net", "443/TCP", "-", "all"] in lines
    assert not any("remote-node" in line for line in lines)  # there is one node only


def test_the_matrix_judges_names_at_the_addresses_that_the_topology_gives_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    commands.run_matrix(QUICKSTART, [], as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["dual.example.com", "-", "443/TCP", "all"] in lines
    assert ["v6.example.com", "-", "-", "-"] in lines


def test_an_explanation_says_at_which_address(capsys: pytest.CaptureFixture[str]) -> None:
    found = explained("frontend", "www.example.com:443", capsys=capsys)
    assert [part["to"] for part in found["parts"]] == ["www.example.com (198.51.100.20)"]


def test_the_matrix_as_json_has_a_row_for_each_pod(capsys: pytest.CaptureFixture[str]) -> None:
    commands.run_matrix(QUICKSTART, ["443"], as_json=True)
    found = json.loads(capsys.readouterr().out)
    assert found["agrees"] is None
    row = next(one for one in found["rows"] if one["pod"] == "default/frontend")
    cells = dict(zip(found["columns"], row["cells"], strict=True))
    assert cells["api.example.com"] == {"text": "yes", "outcome": "allowed"}
    assert cells["service kube-system/kube-dns"] == {"text": "n/a", "outcome": None}


# --- validate, schema -------------------------------------------------------------------------------------


def validate(*paths: Path, strict: bool = False, profile: str | None = None) -> int:
    return commands.validate([str(path) for path in paths], profile=profile, strict=strict, as_json=False)


GOOD = BY_HAND.partition("---")[2]
DOUBTFUL = GOOD.replace("toCIDR: [198.51.100.0/24]", "toFQDNs: [{matchName: api.example.com}]")
WRONG = GOOD.replace("toCIDR", "toCIDRs")


def test_a_good_file_is_0_a_wrong_one_1(tmp_path: Path) -> None:
    (tmp_path / "good.yaml").write_text(GOOD)
    assert validate(tmp_path / "good.yaml") == 0
    (tmp_path / "wrong.yaml").write_text(WRONG)
    assert validate(tmp_path) == 1


def test_warnings_fail_only_where_they_are_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "doubtful.yaml").write_text(DOUBTFUL)
    assert (validate(tmp_path), validate(tmp_path, strict=True)) == (0, 1)
    assert "warning: " in capsys.readouterr().out


def test_every_problem_is_a_line_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    validate(tmp_path)
    assert capsys.readouterr().out.startswith(f"{tmp_path}/wrong.yaml:8:5: unknown field 'toCIDRs'")


def test_no_text_of_a_file_forges_lines_or_colours_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "forged.yaml").write_text(GOOD.replace("toCIDR", r'"x\n/etc/passwd:1:1: \e[31my"'))
    validate(tmp_path / "forged.yaml")
    (line,) = capsys.readouterr().out.splitlines()
    assert r"unknown field 'x\n/etc/passwd:1:1: \x1b[31my'" in line


def test_problems_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "wrong.yaml").write_text(WRONG)
    commands.validate([str(tmp_path)], profile=None, strict=False, as_json=True)
    (problem,) = json.loads(capsys.readouterr().out)["problems"]
    assert problem.keys() == {"path", "line", "column", "severity", "code", "message", "hint"}
    assert (problem["severity"], problem["line"], problem["column"]) == ("error", 8, 5)


def test_files_are_judged_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text(GOOD)
    assert validate(tmp_path) == 1
    assert "CiliumNetworkPolicy default/p is given already, in" in capsys.readouterr().out


def test_policies_alone_are_not_blamed_for_pods_that_are_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text(GOOD)
    assert validate(tmp_path, strict=True) == 0
    (tmp_path / "pod.yaml").write_text(BY_HAND.partition("---")[0].replace("app: client", "app: other"))
    assert validate(tmp_path, strict=True) == 1


def test_the_profile_decides_what_is_wrong(tmp_path: Path) -> None:
    everything = """
  - toEndpoints: [{}]
    toPorts: [{ports: [{port: "53", protocol: ANY}], rules: {dns: [{matchPattern: "*"}]}}]
"""
    (tmp_path / "policy.yaml").write_text(GOOD.rstrip() + everything)
    assert (validate(tmp_path), validate(tmp_path, profile="cilium")) == (1, 0)


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        validate(tmp_path / "nowhere.yaml")


def test_a_folder_without_manifests_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text(GOOD)
    with pytest.raises(InputError, match="there is no manifest in"):
        validate(tmp_path)


def test_a_topology_among_the_files_is_told_by_its_own_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "topology.yaml"
    path.write_text("name: mine\nnodes:\n  - name: n1\n")
    (tmp_path / "good.yaml").write_text(GOOD)
    assert validate(tmp_path) == 1
    assert capsys.readouterr().out == (
        f"{path}:1:1: this is a topology, not a manifest "
        f"(policy.validate --topology {path} looks at its policies)\n"
    )


def test_a_schema_is_one_of_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.schema("NetworkPolicy") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "NetworkPolicy"
    with pytest.raises(InputError, match="Polic"):
        commands.schema("Policy")


# --- words on the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (["policy.explain", "a", "b"], ["a", "b"]),
        (["policy.explain", "a", "--dns", "x.example.com"], ["a"]),
        (["policy.explain", "--dns", "x.example.com", "a"], ["a"]),
        (["policy.explain", "--json", "a", "-t", "quickstart", "b"], ["a", "b"]),
        (["policy.validate", "a", "b", "c", "--profile=cilium"], ["a", "b", "c"]),
    ],
)
def test_a_command_takes_as_many_words_as_there_are(
    line: list[str], words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["invoke", *line])
    (found,) = Parser(contexts=tasks.namespace.to_contexts()).parse_argv(line)
    assert [found.args[name].value for name in found.args if name.startswith("word")] == words


# --- what a topology knows ---------------------------------------------------------------------------------


def validated(capsys: pytest.CaptureFixture[str], **about: str) -> list[str]:
    assert commands.validate([], profile=None, strict=False, as_json=True, **about) == 0
    return [one["code"] for one in json.loads(capsys.readouterr().out)["problems"]]


def test_a_topology_tells_which_addresses_are_several_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert validated(capsys, topology="shared-address") == ["shared-address"] * 2
    assert validated(capsys, topology="cname-cdn") == ["shared-address"]  # not for the name behind the alias
    assert validated(capsys, topology="two-nodes") == []


def test_files_and_a_topology_are_not_validated_at_once_nor_neither(tmp_path: Path) -> None:
    for paths, topology in ((["p.yaml"], "quickstart"), ([], None)):
        with pytest.raises(InputError, match="one of them only"):
            commands.validate(paths, topology=topology, profile=None, strict=False, as_json=False)
