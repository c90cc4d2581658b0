"""Settings files: every mistake, at its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from acns import settings
from acns.errors import InputError
from acns.shim.settings import ShimSettings

GOOD = {"node": "node1", "manifests": "/m", "state_dir": "/s", "min_ttl_s": 5, "fqdn_gc_interval_s": 0.5}


def test_what_is_rendered_loads(tmp_path: Path) -> None:
    path = tmp_path / "shim.toml"
    path.write_text(settings.render({**GOOD, "log_file": 'odd"\\\n\x7fname'}))
    loaded = settings.load(ShimSettings, path)
    assert (loaded.node, loaded.min_ttl_s, loaded.fqdn_gc_interval_s) == ("node1", 5, 0.5)
    assert loaded.log_file == 'odd"\\\n\x7fname'


def test_all_mistakes_are_named_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "shim.toml"
    path.write_text('node = "node1"\nmanifest = "/m"\nmanifests = "/m"\nmin_ttl_s = "soon"\nprofile = "x"\n')
    with pytest.raises(InputError) as caught:
        settings.load(ShimSettings, path)
    lines = {(problem.line, problem.message.split(":")[0]) for problem in caught.value.problems}
    assert lines == {
        (2, "unknown setting 'manifest'"),
        (1, "setting 'state_dir' is missing"),
        (4, "setting 'min_ttl_s'"),
        (5, "setting 'profile'"),
    }
    assert "did you mean 'manifests'?" in str(caught.value)


@pytest.mark.parametrize("text", ["= 1", "node = ", "\x00"])
def test_what_is_not_toml_is_an_input_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "shim.toml"
    path.write_text(text)
    with pytest.raises(InputError, match="not TOML"):
        settings.load(ShimSettings, path)


def test_what_is_set_over_a_file_wins_and_is_checked_alike(tmp_path: Path) -> None:
    path = tmp_path / "shim.toml"
    path.write_text(settings.render(GOOD))
    loaded = settings.load(ShimSettings, path, {"node": "123", "min_ttl_s": "7", "transparent": "true"})
    assert (loaded.node, loaded.min_ttl_s, loaded.transparent) == ("123", 7, True)
    with pytest.raises(InputError, match="unknown setting 'nodes'"):
        settings.load(ShimSettings, path, {"nodes": "x"})
