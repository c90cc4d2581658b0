"""Where FQDNData may be served: never beyond the host."""

from __future__ import annotations

from pathlib import Path

import pytest

from acns import settings
from acns.api import address
from acns.errors import InputError
from acns.shim.settings import ShimSettings


@pytest.mark.parametrize(
    "good",
    [
        "unix:/run/acns/fqdndata.sock",
        "unix:///run/x",
        "unix:x",
        "127.0.0.1:10095",
        "127.9.9.9:1",
        "localhost:65535",
        "[::1]:10095",
    ],
)
def test_a_path_and_the_loopback_are_accepted(good: str) -> None:
    address.check_peer(good)


@pytest.mark.parametrize(
    "beyond",
    [
        *("0.0.0.0:10095", "[::]:10095", "192.0.2.1:10095", "node1:10095", "localhost.example:10095"),
        *("127.0.0.1.example.com:10095", "dns:///127.0.0.1:10095", "[::ffff:192.0.2.1]:10095", "::1:10095"),
    ],
)
def test_whatever_leads_beyond_the_host_is_refused(beyond: str) -> None:
    with pytest.raises(ValueError, match="not on the loopback"):
        address.check_peer(beyond)


def test_a_path_names_no_host_and_is_not_too_long() -> None:
    with pytest.raises(ValueError, match="names a host"):
        address.check_peer("unix://run/acns/fqdndata.sock")
    address.check_peer(f"unix:{'/a' * 53}b")
    with pytest.raises(InputError, match="108 bytes long"):
        address.check_peer(f"unix:{'/a' * 54}")


def test_grpc_gets_a_path_as_it_decodes_it_and_the_rest_as_it_is() -> None:
    assert address.for_grpc("unix:/run/a%41?b#ä.sock") == "unix:/run/a%2541%3Fb%23%C3%A4.sock"
    assert address.for_grpc("unix:/run/acns/fqdndata.sock") == "unix:/run/acns/fqdndata.sock"
    assert address.for_grpc("[::1]:10095") == "[::1]:10095"


@pytest.mark.parametrize("bad", ["unix:", "127.0.0.1:", ":10095", "127.0.0.1:0", "127.0.0.1:65536", "a:²"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="no host:port"):
        address.check_tcp(bad)


def test_the_shim_refuses_to_listen_beyond_the_host_and_says_where_that_is_written(tmp_path: Path) -> None:
    file = tmp_path / "shim.toml"
    file.write_text('node = "n"\nmanifests = "m"\nstate_dir = "s"\ntcp_listen = "0.0.0.0:10095"\n')
    with pytest.raises(InputError, match=r"shim\.toml:\d+:1: .*'0\.0\.0\.0:10095' is not on the loopback"):
        settings.load(ShimSettings, file)
