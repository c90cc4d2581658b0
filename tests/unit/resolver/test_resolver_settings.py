"""The resolver's settings file and its command line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from acns import settings
from acns.errors import InputError
from acns.resolver import __main__ as command
from acns.resolver.settings import ResolverSettings


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "resolver.toml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_apply() -> None:
    assert settings.load(ResolverSettings, None) == ResolverSettings()


def test_every_setting_is_explained_in_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert {name for name, _, _ in settings.describe(ResolverSettings)} == {
        field.name for field in dataclasses.fields(ResolverSettings)
    }
    assert all(f"  {field.name} = " in text for field in dataclasses.fields(ResolverSettings))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('denid = "refused"', "did you mean 'denied'?"),
        ('\ndenied = "servfail"', ":2:1: setting 'denied'"),
        ('commit_timeout_ms = "soon"', "setting 'commit_timeout_ms'"),
        ("max_in_flight = 0", "max_in_flight must be at least 1"),
        ("listen_port = 70000", "listen_port"),
        ('fqdndata = "somewhere"', "neither unix:PATH nor host:port"),
        ('\nfqdndata = "192.0.2.1:10095"', "'192.0.2.1:10095' is not on the loopback"),
    ],
)
def test_mistakes_are_input_errors_that_say_where(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError) as caught:
        settings.load(ResolverSettings, written(tmp_path, text))
    assert expected in str(caught.value)


def test_wrong_settings_end_the_command_with_code_two(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--settings", str(written(tmp_path, "denid = 1"))]) == 2
    assert "denid" in capsys.readouterr().err
    assert command.main(["--settings", str(tmp_path / "absent.toml")]) == 2


def test_good_settings_pass_the_check(tmp_path: Path) -> None:
    assert command.main(["--check", "--settings", str(written(tmp_path, 'aaaa = "passthrough"'))]) == 0
