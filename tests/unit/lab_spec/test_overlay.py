"""A topology on top of another: what comes of the two, and whose line is blamed when it is wrong."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from acns.errors import InputError
from lab.spec.load import load_topology
from lab.spec.overlay import Removal
from lab.spec.plan import Addressing
from lab.spec.topology import Topology

BASE = """\
name: base
description: the base
nodes: [{name: n1}]
pods:
  - {name: a, node: n1, labels: {app: a}}
  - {name: b, node: n1}
  - {name: b, namespace: other, node: n1}
internet:
  dns: 203.0.113.9
  names:
    one.example.com: {a: [198.51.100.1]}
    two.example.com: {a: [198.51.100.2]}
policies:
  - file: policies/p.yaml
expect:
  - a resolves one.example.com
  - a connects two.example.com:443
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "lower" / "policies").mkdir(parents=True)
    (tmp_path / "lower" / "policies" / "p.yaml").write_text("kind: x\n")
    (tmp_path / "lower" / "base.yaml").write_text(BASE)
    return tmp_path


def over(folder: Path, text: str) -> Topology:
    path = folder / "top.yaml"
    path.write_text(f"base: lower/base.yaml\n{text}")
    return load_topology(path)


def complaints(folder: Path, text: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        over(folder, text)
    return [line.removeprefix(f"{folder}/") for line in str(caught.value).splitlines()]


def test_what_is_not_changed_stays_and_the_name_is_the_overlays_own(folder: Path) -> None:
    both = over(folder, "name: top\n")
    base = load_topology(folder / "lower" / "base.yaml")
    assert both == base.model_copy(update={"name": "top", "description": ""})


def test_an_overlay_has_a_name_of_its_own(folder: Path) -> None:
    assert complaints(folder, "description: mine\n") == ["top.yaml:1:1: 'name' is missing"]


def test_what_both_have_by_name_is_replaced_whole_where_it_stood_and_what_is_new_comes_after(
    folder: Path,
) -> None:
    both = over(folder, "name: top\npods: [{name: c, node: n1}, {name: a, node: n1, namespace: default}]\n")
    assert [f"{pod.namespace}/{pod.name}" for pod in both.pods] == [
        "default/a", "default/b", "other/b", "default/c",
    ]  # fmt: skip
    assert both.pods[0].labels == {}


def test_the_addresses_of_the_base_stay_when_a_pod_is_replaced_or_added(folder: Path) -> None:
    both = over(folder, "name: top\npods: [{name: c, node: n1}, {name: a, node: n1}]\n")
    before = {one.key: one.address for one in Addressing.of(load_topology(folder / "lower/base.yaml")).pods}
    after = {one.key: one.address for one in Addressing.of(both).pods}
    assert after.items() > before.items()


def test_names_of_the_internet_are_merged_and_its_other_settings_stay(folder: Path) -> None:
    both = over(
        folder,
        "name: top\n"
        "internet: {names: {two.example.com: {a: [198.51.100.9]}, three.example.com: {a: [198.51.100.3]}}}\n",
    )
    assert str(both.internet.dns) == "203.0.113.9"
    assert {name: str(records.a[0]) for name, records in both.internet.names.items()} == {
        "one.example.com": "198.51.100.1",
        "two.example.com": "198.51.100.9",
        "three.example.com": "198.51.100.3",
    }


def test_a_policy_file_is_looked_for_beside_the_file_that_names_it(folder: Path) -> None:
    (folder / "q.yaml").write_text("kind: z\n")
    both = over(folder, "name: top\npolicies: [{file: q.yaml}]\n")
    assert [policy.file for policy in both.policies] == [
        str(folder / "lower/policies/p.yaml"), str(folder / "q.yaml"),
    ]  # fmt: skip


def test_a_policy_file_of_the_same_name_takes_the_others_place(folder: Path) -> None:
    (folder / "p.yaml").write_text("kind: z\n")
    both = over(folder, "name: top\npolicies: [{file: p.yaml}]\n")
    assert [policy.file for policy in both.policies] == [str(folder / "p.yaml")]


def test_what_is_removed_is_gone(folder: Path) -> None:
    both = over(
        folder,
        "name: top\n"
        "remove:\n"
        "  pods: [b, other/b]\n"
        "  names: [two.example.com]\n"
        "  policies: [p.yaml]\n"
        "  expect: ['a connects  two.example.com:443']\n",
    )
    assert [pod.name for pod in both.pods] == ["a"]
    assert list(both.internet.names) == ["one.example.com"]
    assert both.policies == ()
    assert both.expect == ("a resolves one.example.com",)


def test_a_whole_section_can_be_removed(folder: Path) -> None:
    both = over(folder, "name: top\nremove: {expect: all}\nexpect: [a refused evil.example.org]\n")
    assert both.expect == ("a refused evil.example.org",)


def test_what_an_overlay_removes_has_to_be_there(folder: Path) -> None:
    assert complaints(folder, "name: top\nremove:\n  pods: [c, other/a]\n  names: [too.example.com]\n") == [
        "top.yaml:4:10: the base has no 'c' there (known here: a, b, other/b)",
        "top.yaml:4:13: the base has no 'other/a' there (did you mean 'other/b'?)",
        "top.yaml:5:11: the base has no 'too.example.com' there (did you mean 'two.example.com'?)",
    ]


def test_each_problem_points_to_the_file_that_is_wrong(folder: Path) -> None:
    wrong = BASE.replace("198.51.100.2]", "198.51.100.2], tll_s: 3").replace("node: n1}", "node: n2}")
    (folder / "lower" / "base.yaml").write_text(wrong)
    found = complaints(folder, "name: top\npods: [{name: a, node: n3}]\nexpect: [z refused x.example.com]\n")
    assert found == [
        "lower/base.yaml:6:15: there is no node 'n2' (known here: n1)",
        "lower/base.yaml:7:33: there is no node 'n2' (known here: n1)",
        "lower/base.yaml:12:42: unknown field 'tll_s' (did you mean 'ttl_s'?)",
        "top.yaml:3:18: there is no node 'n3' (known here: n1)",
        "top.yaml:4:10: there is no pod 'z' (known here: a, b)",
    ]


def test_two_places_in_two_files_are_both_named(folder: Path) -> None:
    found = complaints(folder, "name: top\nexpect: [a resolves one.example.com]\n")
    assert found == [
        "top.yaml:3:10: statement 'a resolves one.example.com' is given twice; first in "
        f"{folder}/lower/base.yaml:16"
    ]


def test_removing_takes_a_base(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text("name: t\nnodes: [{name: n1}]\nremove: {pods: all}\n")
    with pytest.raises(InputError, match=r"t\.yaml:3:1: 'remove' takes away from a base"):
        load_topology(tmp_path / "t.yaml")


@pytest.mark.parametrize(
    ("base", "complaint"),
    [
        ("quickstrat", "t.yaml:2:1: no topology 'quickstrat' is shipped (did you mean 'quickstart'?)"),
        ("none.yaml", "t.yaml:2:1: there is no file 'none.yaml' beside the topology"),
        ("../out.yaml", "t.yaml:2:1: '../out.yaml' is outside the topology's folder"),
        ("link.yaml", "t.yaml:2:1: 'link.yaml' is outside the topology's folder"),
        ("t.yaml", "t.yaml:2:1: the base 't.yaml' leads back to itself"),
        ("around.yaml", "around.yaml:2:1: the base 't.yaml' leads back to itself"),
        ('"a\\0b.yaml"', "t.yaml:2:1: the base cannot be read"),
        ("[1]", "t.yaml:2:1: base: Input should be a valid string"),
        ("broken.yaml", "broken.yaml:2:1: not YAML"),
    ],
)
def test_a_base_that_will_not_do(tmp_path: Path, base: str, complaint: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "out.yaml").write_text("name: out\nnodes: [{name: n1}]\n")
    (home / "link.yaml").symlink_to(tmp_path / "out.yaml")
    (home / "around.yaml").write_text("name: around\nbase: t.yaml\n")
    (home / "broken.yaml").write_text("a: [")
    (home / "t.yaml").write_text(f"name: t\nbase: {base}\n")
    with pytest.raises(InputError) as caught:
        load_topology(home / "t.yaml")
    assert complaint in str(caught.value)


def test_a_shipped_topology_can_be_the_base_of_a_file_anywhere(tmp_path: Path) -> None:
    (tmp_path / "t.yaml").write_text(
        "name: mine\nbase: quickstart\nremove: {expect: all, policies: [batch.yaml]}\n"
        "expect: [batch connects evil.example.org:443]\n"
    )
    made = load_topology(tmp_path / "t.yaml")
    assert [Path(policy.file or "").name for policy in made.policies] == ["frontend.yaml"]
    assert len(made.expect) == 1


_SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(0, 9), st.sampled_from(["n1", "a", "all", "", "x.y"])
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["name", "namespace", "of", "file", "names", "node"]), inner, max_size=3
        ),
    ),
    max_leaves=8,
)
_SECTIONS = st.dictionaries(
    st.sampled_from([*Topology.model_fields, "remove", "internet", "pods", "links"]), _VALUES, max_size=5
)
_REMOVED = st.dictionaries(
    st.sampled_from([*Removal.model_fields]),
    st.one_of(st.just("all"), st.lists(st.sampled_from(["a", "n1", "x.y"]), max_size=2)),
    max_size=4,
)


@settings(max_examples=60)
@given(base=_SECTIONS, ours=_SECTIONS, remove=_REMOVED)
def test_whatever_two_files_say_the_overlay_is_a_topology_or_refused(
    tmp_path_factory: pytest.TempPathFactory, base: Any, ours: Any, remove: Any
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "base.yaml").write_text(json.dumps({"name": "base", "nodes": [{"name": "n1"}], **base}))
    (folder / "t.yaml").write_text(json.dumps({"name": "t", "remove": remove, **ours, "base": "base.yaml"}))
    with contextlib.suppress(InputError):
        load_topology(folder / "t.yaml")
