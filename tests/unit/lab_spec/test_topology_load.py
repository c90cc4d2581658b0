"""Topology files: wrong ones are refused with every problem at its place, right ones become models.

`wrong/NAME.yaml` is a wrong file, `wrong/NAME.txt` what must be said about it, line for line.
"""

from pathlib import Path

import pytest

from acns.errors import InputError
from lab.spec.load import find_topology, load_topology, shipped_topologies
from lab.spec.plan import Addressing
from lab.world import kubeproxy, manifests

WRONG = Path(__file__).parent / "wrong"
MINIMAL = "name: tiny\nnodes: [{name: n1}]\npods: [{name: p, node: n1}]\n"


@pytest.mark.parametrize("case", sorted(path.stem for path in WRONG.glob("*.yaml")))
def test_a_wrong_file_is_refused_with_every_problem_at_its_place(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(WRONG)
    with pytest.raises(InputError) as caught:
        load_topology(Path(f"{case}.yaml"))
    assert str(caught.value).splitlines() == (WRONG / f"{case}.txt").read_text().splitlines()


def test_every_wrong_file_has_its_messages() -> None:
    assert {p.stem for p in WRONG.glob("*.yaml")} == {p.stem for p in WRONG.glob("*.txt")}
    assert len(list(WRONG.glob("*.yaml"))) >= 5


@pytest.mark.parametrize("path", shipped_topologies(), ids=lambda path: path.stem)
def test_every_shipped_topology_loads_and_renders(path: Path) -> None:
    topology = load_topology(path)
    addressing = Addressing.of(topology)
    assert topology.name == path.stem
    assert topology.expect
    assert manifests.manifest_files(topology, addressing)
    assert all(kubeproxy.ruleset_text(topology, addressing, node.name) for node in topology.nodes)


@pytest.mark.parametrize("name", ["quickstart", "two-nodes"])
def test_the_expectations_speak_of_every_pod_and_of_both_outcomes(name: str) -> None:
    topology = load_topology(find_topology(name))
    spoken_of = {statement.split()[0] for statement in topology.expect}
    assert spoken_of == {pod.name for pod in topology.pods}
    assert {statement.split()[1] for statement in topology.expect} == {
        "resolves", "refused", "empty", "connects", "blocked",
    }  # fmt: skip


def test_policy_files_become_absolute(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("kind: x\n")
    (tmp_path / "t.yaml").write_text(MINIMAL + "policies: [{file: p.yaml}]\n")
    assert load_topology(tmp_path / "t.yaml").policies[0].file == str(tmp_path / "p.yaml")


@pytest.mark.parametrize("file", [r"a\0b.yaml", "x" * 5000 + ".yaml", ""])
def test_a_policy_file_with_an_impossible_name_is_a_problem_at_its_place(tmp_path: Path, file: str) -> None:
    (tmp_path / "t.yaml").write_text(MINIMAL + f'policies: [{{file: "{file}"}}]\n')
    with pytest.raises(InputError, match=r"t\.yaml:4:12: "):
        load_topology(tmp_path / "t.yaml")


def test_a_policy_file_that_is_no_text_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_bytes(b"\xff\xfe")
    (tmp_path / "t.yaml").write_text(MINIMAL + "policies: [{file: p.yaml}]\n")
    with pytest.raises(InputError, match=r"p\.yaml:1:1: octet 0xff is not UTF-8"):
        manifests.policy_files(load_topology(tmp_path / "t.yaml"))


@pytest.mark.parametrize("name", ["internet", "pod"])
def test_a_node_may_not_have_a_name_under_which_the_lab_runs_other_processes(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "t.yaml").write_text(f"name: tiny\nnodes: [{{name: {name}}}]\n")
    with pytest.raises(InputError, match="cannot be called"):
        load_topology(tmp_path / "t.yaml")


def test_kinds_without_an_object_have_no_file(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(MINIMAL)
    tiny = load_topology(tmp_path / "t.yaml")
    files = manifests.manifest_files(tiny, Addressing.of(tiny))
    assert set(files) == {"namespaces.yaml", "nodes.yaml", "pods.yaml"}


def test_a_policy_file_may_not_lie_outside_the_topologys_folder(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text("kind: x\n")
    home = tmp_path / "home"
    home.mkdir()
    (home / "link.yaml").symlink_to(tmp_path / "secret.yaml")
    for file in ("../secret.yaml", "link.yaml", str(tmp_path / "secret.yaml")):
        (home / "t.yaml").write_text(MINIMAL + f"policies: [{{file: {file}}}]\n")
        with pytest.raises(InputError, match="outside the topology's folder"):
            load_topology(home / "t.yaml")


def test_more_pods_than_a_node_has_addresses_are_said_where_the_first_too_many_is_written(
    tmp_path: Path,
) -> None:
    fixed = "  - {name: fixed, node: n1, address: 10.244.0.254}\n"
    names = "name: tiny\nnodes: [{name: n1}, {name: n2}]\npods:\n"

    def written(count: int) -> Path:
        pods = [f"  - {{name: p{number}, node: n1}}\n" for number in range(count - 1)]
        path = tmp_path / "t.yaml"
        path.write_text(names + "".join(pods) + fixed + "  - {name: other, node: n2}\n")
        return path

    assert len(Addressing.of(load_topology(written(253))).pods) == 254
    with pytest.raises(InputError) as caught:
        load_topology(written(255))
    assert [str(one) for one in caught.value.problems] == [
        f"{tmp_path / 't.yaml'}:256:5: node 'n1' has 255 pods, and addresses for 253"
        " (put some of them on another node)"
    ]


def test_a_topology_is_found_by_its_name_and_by_its_path() -> None:
    assert find_topology("quickstart").name == "quickstart.yaml"
    path = find_topology("quickstart")
    assert find_topology(str(path)) == path


@pytest.mark.parametrize(
    ("asked", "said"), [("quickstrat", "did you mean 'quickstart'?"), ("./none.yaml", "no topology file")]
)
def test_a_topology_that_is_not_there_is_said_to_be_missing(asked: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        find_topology(asked)
    assert said in str(caught.value)


@pytest.mark.parametrize("content", ["", "[1, 2]", "a: 1\n---\nb: 2\n", "a: [", "\x00"])
def test_what_is_no_topology_at_all_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "t.yaml").write_text(content)
    with pytest.raises(InputError):
        load_topology(tmp_path / "t.yaml")


def test_a_missing_file_is_the_operators_mistake(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        load_topology(tmp_path / "none.yaml")


def test_an_external_program_beside_the_topology_becomes_absolute_and_a_name_is_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "proxy"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("./proxy", "proxy"):
        (tmp_path / "t.yaml").write_text(
            f"name: tiny\nnodes: [{{name: n1, external: {{resolver: {{command: [{name}, '{{dns}}']}}}}}}]\n"
        )
        (node,) = load_topology(tmp_path / "t.yaml").nodes
        ((agent, external),) = node.external.programs()
        assert (agent, external.command) == ("resolver", (str(program), "{dns}"))
