"""What the nodes of a lab go by, and where they differ."""

from __future__ import annotations

from acns.policy.model import Enforcement
from acns.policy.profiles import Profile
from lab.policy_tools.views import InForce, differing, overviews

NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n"


def given(enforcement: Enforcement = Enforcement.DEFAULT, **texts: str) -> InForce:
    return InForce(texts, Profile.ACNS, enforcement)


def test_of_nodes_that_go_by_the_same_nothing_is_said() -> None:
    assert list(differing({"n1": given(a=NAMESPACE), "n2": given(a=NAMESPACE)})) == []
    assert list(differing({})) == []


def test_nodes_that_go_by_others_are_named_with_the_files() -> None:
    nodes = {"n1": given(a=NAMESPACE, b=NAMESPACE), "n2": given(a=NAMESPACE, b=""), "n3": given(b=NAMESPACE)}
    assert list(differing(nodes)) == [
        "n2 goes by other manifests than n1: b",
        "n3 goes by other manifests than n1: a",
    ]


def test_nodes_that_go_by_the_same_are_read_once() -> None:
    found = overviews(
        {"n1": given(a=NAMESPACE), "n2": given(Enforcement.ALWAYS, a=NAMESPACE), "n3": given(a=NAMESPACE)}
    )
    assert found["n1"] is found["n3"]
    assert found["n1"] is found["n2"].on("n1")
    assert found["n2"].enforcement is Enforcement.ALWAYS
