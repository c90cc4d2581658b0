"""Settings files: every mistake, at its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from acns import settings
from acns.errors import InputError
from acns.resolver.settings import ResolverSettings
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


@pytest.mark.parametrize("name", ["node", "state_dir", "manifests", "fqdndata_socket"])
def test_what_a_shim_cannot_be_without_is_not_empty(tmp_path: Path, name: str) -> None:
    path = tmp_path / "shim.toml"
    path.write_text("\n" + settings.render({**GOOD, name: ""}))
    with pytest.raises(InputError, match=rf"{name} must not be empty"):
        settings.load(ShimSettings, path)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        *((ShimSettings, name) for name in ("state_dir", "fqdndata_socket", "http_socket", "log_file")),
        *((ResolverSettings, name) for name in ("state_dir", "fqdndata", "http_socket", "log_file")),
    ],
)
def test_no_text_has_a_nul(tmp_path: Path, kind: type[Any], name: str) -> None:
    """Each that names a file ended the agent by a bug."""
    path = tmp_path / "agent.toml"
    path.write_text(settings.render({**(GOOD if kind is ShimSettings else {}), name: "unix:/a\0b"}))
    with pytest.raises(InputError, match=rf"agent\.toml:\d+:1: {name} must not have a NUL"):
        settings.load(kind, path)


LONG, LONG_LINK = "/a" * 54, "/a" * 51


@pytest.mark.parametrize(
    ("kind", "name", "value", "why"),
    [
        *(
            (kind, "http_socket", "foo", "neither a path nor host:port")
            for kind in (ShimSettings, ResolverSettings)
        ),
        *((kind, "http_socket", LONG_LINK, "bytes long") for kind in (ShimSettings, ResolverSettings)),
        (ResolverSettings, "http_socket", f"{'a' * 70}:80", "neither a path nor host:port"),
        (ResolverSettings, "http_socket", "unix:", "no path of a unix socket"),
        (ShimSettings, "fqdndata_socket", LONG_LINK, "bytes long"),
        *((ShimSettings, "fqdndata_socket", value, "no path of a unix socket") for value in ("/", ".")),
        (ResolverSettings, "handover_socket", LONG, "bytes long"),
        (ResolverSettings, "fqdndata", f"unix:{LONG}", "bytes long"),
        (ResolverSettings, "fqdndata", "unix://run/x", "names a host"),
        (ShimSettings, "max_queries_per_second_per_pod", 10**20, "must be at most 2147483647"),
        (ShimSettings, "settle_ms", 10**400, "must be at most 2147483647"),
        (ResolverSettings, "upstream_timeout_ms", 10**400, "must be at most 2147483647"),
        (ResolverSettings, "commit_timeout_ms", 2**31, "must be at most 2147483647"),
    ],
)
def test_what_an_agent_could_not_start_with_is_found_before(
    tmp_path: Path, kind: type[Any], name: str, value: str | int, why: str
) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(settings.render({**(GOOD if kind is ShimSettings else {}), name: value}))
    with pytest.raises(InputError, match=rf"agent\.toml:\d+:1: {name}:? .*{why}"):
        settings.load(kind, path)


@pytest.mark.parametrize("place", ["", "127.0.0.1:9091", "[::1]:0", "unix:/run/x", "./x", "/a" * 50])
def test_pages_may_be_on_a_port_at_a_path_or_nowhere(place: str) -> None:
    assert ResolverSettings(http_socket=place).http_socket == place
    assert ShimSettings(**{**GOOD, "http_socket": place}).http_socket == place


def test_manifests_are_not_needed_where_an_api_server_has_them() -> None:
    assert ShimSettings(node="n", state_dir="/s", source="kubernetes").manifests == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("listen_port", value) for value in ("true", '"10053"', "10053.0")),
        *(("takeover", value) for value in ('"no"', "1", "0.0")),
        *(("log_file", value) for value in ("1", "true", "1979-05-27")),
    ],
)
def test_what_is_of_another_type_than_its_setting_is_refused_in_a_file(
    tmp_path: Path, name: str, value: str
) -> None:
    path = tmp_path / "resolver.toml"
    path.write_text(f"\n{name} = {value}\n")
    with pytest.raises(InputError, match=rf"resolver\.toml:2:1: setting '{name}': Input should be a valid"):
        settings.load(ResolverSettings, path)


def test_a_whole_number_of_seconds_needs_no_point(tmp_path: Path) -> None:
    path = tmp_path / "shim.toml"
    path.write_text(settings.render({**GOOD, "idle_grace_s": 5}))
    assert settings.load(ShimSettings, path).idle_grace_s == 5.0


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"nodes": "x"}, "unknown setting 'nodes'"),
        ({"min_ttl_s": "soon"}, "setting 'min_ttl_s': Input should be a valid integer"),
        ({"proxy_port": "0"}, "proxy_port must be 1 to 65535"),
    ],
)
def test_a_mistake_in_what_is_set_over_a_file_is_not_said_to_be_the_files(
    tmp_path: Path, wrong: dict[str, str], message: str
) -> None:
    path = tmp_path / "shim.toml"
    path.write_text(settings.render(GOOD))
    with pytest.raises(InputError, match=f"^--set: {message}"):
        settings.load(ShimSettings, path, wrong)
