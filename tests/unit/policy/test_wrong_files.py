"""Each wrong file in `wrong/` is reported as the file beside it says: all problems at once, at their places.

A first line `# profile: acns` chooses that profile; the others are read with profile cilium.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from acns.policy.manifests import parse
from acns.policy.profiles import Profile

WRONG = Path(__file__).parent / "wrong"


@pytest.mark.parametrize("path", sorted(WRONG.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_wrong_file_is_reported_as_expected(path: Path) -> None:
    text = path.read_text()
    profile = Profile.ACNS if text.startswith("# profile: acns\n") else Profile.CILIUM
    parsed = parse(text, path.name, profile)
    assert "".join(f"{problem}\n" for problem in parsed.problems) == path.with_suffix(".expected").read_text()


def test_every_wrong_file_has_its_expectation_and_none_is_left_over() -> None:
    texts = {path.stem for path in WRONG.glob("*.yaml")}
    assert texts == {path.stem for path in WRONG.glob("*.expected")}
    assert len(texts) >= 75
