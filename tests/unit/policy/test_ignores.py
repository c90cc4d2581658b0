"""`# acns:ignore`: which warnings a comment silences."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

from acns.errors import Problem
from acns.policy import ignores
from acns.policy.manifests import Parsed, parse, parse_served
from acns.policy.objects import Policy
from acns.policy.profiles import Profile

TEXT = """{head}
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: p}}
spec:
  endpointSelector: {{}}
  egress:
  {above}
  - toEndpoints: []  {beside}
  - toCIDR: []
  {below}
"""


def read(text: str) -> Parsed:
    return parse(text, "p.yaml", Profile.CILIUM)


def warnings(head: str = "#", above: str = "#", beside: str = "#", below: str = "#") -> list[tuple[int, str]]:
    parsed = read(TEXT.format(head=head, above=above, beside=beside, below=below))
    (policy,) = parsed.objects
    assert isinstance(policy, Policy)
    assert policy.problems == parsed.problems
    return [(problem.line, problem.code) for problem in parsed.problems]


FIRST, SECOND = (9, "empty-peers"), (10, "empty-peers")
IGNORE = "# acns:ignore empty-peers"


def test_without_a_comment_every_warning_is_reported() -> None:
    assert warnings() == [FIRST, SECOND]


def test_beside_a_line_it_silences_that_line() -> None:
    assert warnings(beside=IGNORE) == [SECOND]


def test_above_a_line_it_silences_the_next_line_with_content() -> None:
    assert warnings(above=f"{IGNORE}\n\n  # more words") == [(11, "empty-peers"), (12, "empty-peers")][1:]


def test_before_all_content_it_silences_the_document() -> None:
    assert warnings(head=IGNORE) == []


def test_after_all_content_it_silences_nothing() -> None:
    assert warnings(below=IGNORE) == [FIRST, SECOND]


@pytest.mark.parametrize(
    "comment",
    [
        "# acns:ignore octal-port, empty-peers",
        "# acns:ignore empty-peers,octal-port because",
        "#acns:ignore empty-peers: it is meant",
        "# words first # acns:ignore empty-peers",
    ],
)
def test_codes_are_a_list_and_free_text_may_follow(comment: str) -> None:
    assert warnings(head=comment) == []


def test_another_code_silences_nothing() -> None:
    assert warnings(head="# acns:ignore octal-port") == [FIRST, SECOND]


def test_a_second_word_without_a_comma_is_free_text() -> None:
    assert warnings(head="# acns:ignore octal-port empty-peers") == [FIRST, SECOND]


def test_an_unknown_code_is_a_warning_of_its_own_with_the_closest_one() -> None:
    (problem,) = read("# acns:ignore octal-ports\n").problems
    assert str(problem) == (
        "p.yaml:1:15: warning: no warning has the code 'octal-ports'"
        " (did you mean 'octal-port'?) [unknown-code]"
    )


def test_a_comment_without_a_code_is_a_warning() -> None:
    (problem,) = read("# acns:ignore\n").problems
    assert problem.code == "unknown-code"


def test_each_document_has_its_own_comments() -> None:
    def document(name: str, head: str) -> str:
        return TEXT.format(head=head, above="#", beside="#", below="#").replace("name: p", f"name: {name}")

    text = "---\n".join([document("a", IGNORE), document("b", "#"), document("c", IGNORE)])
    left = {problem.line for problem in read(text).problems}
    assert [text.splitlines()[line - 1].strip() for line in sorted(left)] == [
        "- toEndpoints: []  #",
        "- toCIDR: []",
    ]
    assert min(left) > text.splitlines().index("metadata: {name: b}")
    assert max(left) < text.splitlines().index("metadata: {name: c}")


def test_a_comment_on_the_separator_is_about_the_document_after_it() -> None:
    assert read(f"--- {IGNORE}{TEXT.format(head='', above='#', beside='#', below='#')}").problems == ()


def test_the_head_of_a_document_may_stand_before_its_separator() -> None:
    one = TEXT.format(head="#", above="#", beside="#", below="#")
    text = f"{IGNORE}\n---\n{one}---\n{one.replace('name: p', 'name: q')}"
    assert [problem.line for problem in read(text).problems] == [23, 24]


def test_a_comment_after_the_last_content_is_not_about_the_next_document() -> None:
    one = TEXT.format(head="#", above="#", beside="#", below=IGNORE)
    assert len(read(f"{one}---\n{one.replace('name: p', 'name: q')}").problems) == 4


def test_a_policy_says_what_its_text_silences() -> None:
    text = TEXT.format(head="# acns:ignore dns-missing", above="#", beside=IGNORE, below="#")
    (policy,) = read(text).objects
    assert isinstance(policy, Policy)
    assert policy.ignored == {0: {"dns-missing"}, 9: {"empty-peers"}}


def test_errors_are_never_silenced() -> None:
    error = Problem("p.yaml", 1, 1, "wrong", code="empty-peers")
    assert not ignores.silences({0: frozenset({"empty-peers"})}, error)
    assert ignores.silences({0: frozenset({"empty-peers"})}, replace(error, warning=True))
    text = TEXT.format(head="# acns:ignore empty-peers", above="#", beside="#", below="- toNothing: []")
    assert not read(text).ok


def test_comments_silence_warnings_about_other_objects_too() -> None:
    text = "apiVersion: v1\nkind: ConfigMap  # acns:ignore kind-passed-over\nmetadata: {name: x}\n"
    assert read(text).problems == ()


@pytest.mark.parametrize("line_break", ["\n", "\r\n", "\r"])
def test_lines_are_counted_as_yaml_counts_them(line_break: str) -> None:
    text = TEXT.format(head="#", above="#", beside=IGNORE, below="#").replace("\n", line_break)
    assert [problem.line for problem in read(text).problems] == [10]


def test_a_text_without_such_comments_is_not_searched() -> None:
    assert ignores.read("kind: x # acns: ignore\n", "p.yaml") == ignores.Comments((), ())


# --- the annotation -----------------------------------------------------------------------------------------

ANNOTATED = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: p, annotations: {{acns-lab/ignore: "{text}"}}}}
spec: {{endpointSelector: {{}}, egress: [{{toEndpoints: []}}]}}
"""


def annotated(text: str) -> Parsed:
    """As an API server has it: no line, no comment."""
    return parse_served(yaml.safe_load(ANNOTATED.format(text=text)), Profile.CILIUM)


def test_of_what_an_api_server_has_an_annotation_silences_all_of_that_code() -> None:
    assert [one.code for one in annotated("dns-missing").problems] == ["empty-peers"]
    parsed = annotated("dns-missing, empty-peers: both are meant")
    (policy,) = parsed.objects
    assert isinstance(policy, Policy)
    assert (parsed.problems, policy.problems) == ((), ())
    assert policy.ignored == {ignores.WHOLE_DOCUMENT: {"dns-missing", "empty-peers"}}


def test_an_annotation_counts_in_a_file_too_beside_its_comments() -> None:
    parsed = read("# acns:ignore dns-missing\n" + ANNOTATED.format(text="empty-peers"))
    (policy,) = parsed.objects
    assert isinstance(policy, Policy)
    assert policy.problems == ()
    assert policy.ignored[ignores.WHOLE_DOCUMENT] == {"dns-missing", "empty-peers"}


@pytest.mark.parametrize("text", ["", " ", ", empty-peers", "!"])
def test_an_annotation_that_names_no_code_silences_nothing_and_is_told(text: str) -> None:
    problems = annotated(text).problems
    assert [one.code for one in problems] == ["unknown-code", "empty-peers"]
    assert "names no code" in problems[0].message


def test_a_code_that_is_none_in_an_annotation_is_told_with_its_place() -> None:
    (problem, _) = annotated("empty-peer").problems
    assert problem.code == "unknown-code"
    assert "metadata.annotations" in problem.path
    assert "empty-peers" in problem.hint
