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
    ["unix:/run/acns/fqdndata.sock", "127.0.0.1:10095", "127.9.9.9:1", "localhost:65535", "[::1]:10095"],
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


@pytest.mark.parametrize("bad", ["unix:", "127.0.0.1:", ":10095", "127.0.0.1:0", "127.0.0.1:65536", "a:²"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ValueError, match="no host:port"):
        address.check_tcp(bad)


def test_the_shim_refuses_to_listen_beyond_the_host_and_says_where_that_is_written(tmp_path: Path) -> None:
    file = tmp_path / "shim.toml"
    file.write_text('node = "n"\nmanifests = "m"\nstate_dir = "s"\ntcp_listen = "0.0.0.0:10095"\n')
    with pytest.raises(InputError, match=r"shim\.toml:\d+:1: .*'0\.0\.0\.0:10095' is not on the loopback"):
        settings.load(ShimSettings, file)
