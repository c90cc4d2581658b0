"""Scenario files: what is written reads the same, what is wrong is said at its place, all of it at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from acns.errors import InputError
from lab.repro.scenario import load
from lab.repro.scenario.model import Scenario

from .scenes import ask, learned_on_each, on_two_nodes, scenario, written

REPO = Path(__file__).parents[3]
FILES = sorted(
    [*REPO.glob("tests/regressions/*/scenario.yaml"), *REPO.glob("tests/e2e/repro/stories/*.yaml")]
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_what_is_written_reads_as_the_same_scenario(path: Path) -> None:
    read = load.load(path)
    text = written(read)
    assert load.loads(text, "again") == read
    assert written(load.loads(text, "again")) == text


def test_a_policy_stands_as_a_block_that_reads_like_one() -> None:
    assert "\n    kind: CiliumNetworkPolicy\n" in written(scenario(ask("api.example.com", "198.51.100.1")))


@pytest.mark.parametrize("end", ["", "\n", "\n\n", "\n\n\n", "\n \n", "\n...\n", "\n---\n\n"])
def test_a_policy_may_end_as_it_likes(end: str) -> None:
    made = scenario(
        ask("api.example.com", "198.51.100.1"), policies=[{"name": "x.yaml", "text": f"a: 1{end}"}]
    )
    assert load.loads(written(made), "x") == made


def problems(text: str) -> list[str]:
    with pytest.raises(InputError) as raised:
        load.loads(text, "x.yaml")
    return [str(one) for one in raised.value.problems]


def changed(*pairs: tuple[str, str]) -> str:
    text = written(
        scenario(
            ask("api.example.com", "198.51.100.1", outcome="NOERROR 198.51.100.1"),
            {"at_ms": 5, "connect": "198.51.100.1:443", "after": 1, "outcome": "established"},
        )
    )
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_mistakes_of_all_kinds_come_at_once_each_at_its_place() -> None:
    found = problems(
        changed(
            ("outcome: established", "outcome: estblished"),
            ("ask: api.example.com A", "askk: api.example.com A"),
            ("address: 10.96.0.10", "address: 10.97.0.10"),
        )
    )
    assert [one.split(": ", 1)[1] for one in found] == [
        "10.97.0.10 will not do: by its labels the server is in the cluster,"
        " so its address is one of 10.96.0.0/16",
        "unknown field 'askk' (did you mean 'ask'?)",
        "'estblished' is no outcome of this (did you mean 'established'?)",
    ]
    assert all(one.startswith("x.yaml:") for one in found)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("after: 1", "after: 7", "step 7 is not before step 2"),
        ("api.example.com A", "api..com A", "it has an empty label"),
        ("api.example.com A", "api.example.com AX", "is no type of records"),
        ("60 A 198.51.100.1", "60 A 198.51.100.300", "is no address"),
        ("60 A 198.51.100.1", "60 MX mail", "is written as \\# HEX"),
        ("connect: '198.51.100.1:443'", "connect: '198.51.100.1:70000'", "70000 is no port"),
        ("198.51.100.1:443", "10.96.0.10:53", "10.96.0.10 is the DNS server kube-dns"),
        *(
            ("198.51.100.1:443", f"{address}:443", f"nobody can be at {address}")
            for address in ("127.0.0.1", "0.0.0.0", "224.0.0.1", "255.255.255.255")
        ),
        ("connect: '198.51.100.1:443'", "send: 1", "step 1 makes no connection"),
        ("connect: '198.51.100.1:443'", "fault: link down client", "a step's fault is an agent's"),
        (
            "connect: '198.51.100.1:443'",
            "remove: clint.yaml",
            "there is no policy 'clint.yaml' (did you mean",
        ),
        ("steps:\n", "shim: {fqdn_gc_intervall_s: 1}\nsteps:\n", "unknown setting 'fqdn_gc_intervall_s'"),
        ("steps:\n", "shim: {journal_file: /etc/passwd}\nsteps:\n", "the lab sets 'journal_file' itself"),
        ("name: client.yaml", "name: ../../client.yaml", "should match pattern"),
        ("scenario: scene", "scenario: ../scene", "should match pattern"),
        ("after: 1", "server: kube-dns, after: 1", "'server' is for queries"),
        ("after: 1", "pod: clinet, after: 1", "there is no pod 'clinet' (did you mean 'client'?)"),
    ],
)
def test_a_mistake_is_said(old: str, new: str, said: str) -> None:
    assert any(said in one for one in problems(changed((old, new)))), problems(changed((old, new)))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "a: &a [*a]",
        "scenario: x\npods: []\n",
        "scenario: x\npods: [{name: a}]\nsteps: [{ask: 1}]\n",
        "scenario: x\npods: [{name: a}]\nsteps: [{query: zz}]\n",
        "- " * 500,
        "scenario: !!python/object/apply:os.system ['true']\n",
        "scenario: x\npods: [{name: a}]\nsteps: [{at_ms: .inf, connect: '1.2.3.4:1'}]\n",
        "x: " + "[" * 300 + "]" * 300,
    ],
)
def test_a_hostile_file_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        load.loads(text, "x.yaml")


def test_a_file_is_written_whole_and_for_its_owner_alone(tmp_path: Path) -> None:
    load.save(scenario(ask("api.example.com", "198.51.100.1")), tmp_path / "x.yaml")
    assert (tmp_path / "x.yaml").stat().st_mode & 0o777 == 0o600
    assert isinstance(load.load(tmp_path / "x.yaml"), Scenario)
    assert [one.name for one in tmp_path.iterdir()] == ["x.yaml"]


ODD = "4500001400070000403e000000000000c6336401"


@pytest.mark.parametrize(
    "outcome", ["", "silent held", "rst forwarded", "icmp-3/13", "fin syn-ack", "answered"]
)
def test_what_may_come_of_recorded_packets(outcome: str) -> None:
    made = scenario({"wire": [ODD], "outcome": outcome})
    assert load.loads(written(made), "x") == made


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("silent forwarde", "'forwarde' is no outcome of this (did you mean 'forwarded'?)"),
        ("icmp-3", "'icmp-3' is no outcome of this"),
        ("established", "'established' is no outcome of this"),
    ],
)
def test_what_cannot_come_of_recorded_packets_is_said(outcome: str, said: str) -> None:
    [problem] = problems(written(scenario({"wire": [ODD], "outcome": outcome})))
    assert said in problem


def test_a_query_with_recorded_packets_needs_the_wire_and_a_plain_one_does_not() -> None:
    plain = ask("api.example.com", "198.51.100.1")
    assert scenario({**plain, "wire": [ODD]}).needs_wire
    assert not scenario(plain).needs_wire


def test_nodes_are_written_where_there_are_several() -> None:
    text = written(learned_on_each())
    assert "\nnodes:\n- west\n- east\n" in text
    assert load.loads(text, "x") == learned_on_each()
    assert "node" not in written(scenario(ask("api.example.com", "198.51.100.1")))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("node: east", "node: eats", "'eats' (did you mean 'east'?)"),
        ("address: 10.244.1.5", "address: 10.244.0.7", "10.244.0.7 is no pod's"),
        ("- west\n- east", "- west\n- west", "west"),
        ("kill shim --node east", "kill shim --node esat", "'esat'"),
    ],
)
def test_what_is_wrong_with_nodes_is_said(old: str, new: str, said: str) -> None:
    text = written(on_two_nodes({"fault": "kill shim --node east"}))
    assert load.loads(text, "x").nodes == ("west", "east")
    assert any(said in problem for problem in problems(text.replace(old, new)))
