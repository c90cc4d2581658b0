"""The lab's web server, over real connections with certificates verified."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path

import pytest

from lab.world import certs, web

from .lab_world_servers import free_port, running

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Web:
    http: int
    https: int
    folder: Path

    def trusting(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))

    def over_tls(self, name: str) -> dict[str, str]:
        with socket.create_connection((HOST, self.https), timeout=5) as plain:
            connection = HTTPSConnection(name)
            connection.sock = self.trusting().wrap_socket(plain, server_hostname=name)
            connection.request("GET", "/")
            return parsed(connection.getresponse().read())


def parsed(body: bytes) -> dict[str, str]:
    pairs = (line.partition(": ") for line in body.decode().splitlines())
    return {key: value for key, _, value in pairs}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    folder, http, https = tmp_path_factory.mktemp("web"), free_port(), free_port()
    certificates = certs.ensure(folder, ["api.example.com", "other.example.com", HOST])
    with running(web.command(http_port=http, https_port=https, certificates=certificates)):
        yield Web(http, https, folder)


def test_http_answers_with_the_name_asked_for_and_both_ends(site: Web) -> None:
    connection = HTTPConnection(HOST, site.http, timeout=5)
    connection.request("GET", "/", headers={"Host": "api.example.com:8080"})
    said = parsed(connection.getresponse().read())
    assert said["host"] == "api.example.com"
    assert said["server"] == f"{HOST}:{site.http}"
    assert said["client"].startswith(f"{HOST}:")
    assert "sni" not in said


def test_https_proves_its_name_and_tells_the_sni(site: Web) -> None:
    said = site.over_tls("other.example.com")
    assert (said["host"], said["sni"]) == ("other.example.com", "other.example.com")


def test_a_name_outside_the_certificate_is_not_trusted(site: Web) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        site.over_tls("evil.example.org")


def test_ipv6_clients_are_served_too(site: Web) -> None:
    connection = HTTPConnection("::1", site.http, timeout=5)
    connection.request("GET", "/")
    assert parsed(connection.getresponse().read())["server"] == f"[::1]:{site.http}"


def test_a_connection_serves_many_requests(site: Web) -> None:
    connection = HTTPConnection(HOST, site.http, timeout=5)
    clients = set()
    for _ in range(3):
        connection.request("GET", "/")
        clients.add(parsed(connection.getresponse().read())["client"])
    assert len(clients) == 1


def test_a_download_has_its_size_and_keeps_its_rate(site: Web) -> None:
    connection = HTTPConnection(HOST, site.http, timeout=10)
    started = time.monotonic()
    connection.request("GET", "/download?bytes=50001&rate=100000")
    assert len(connection.getresponse().read()) == 50_001
    assert 0.4 < time.monotonic() - started < 5


def test_a_client_that_dawdles_over_its_handshake_blocks_nobody(site: Web) -> None:
    with socket.create_connection((HOST, site.https), timeout=5):
        assert site.over_tls("api.example.com")["host"] == "api.example.com"


def test_a_replaced_certificate_is_used_from_the_next_connection_on(site: Web) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        site.over_tls("late.example.com")
    certs.ensure(site.folder, ["api.example.com", "other.example.com", HOST, "late.example.com"])
    assert site.over_tls("late.example.com")["sni"] == "late.example.com"


def test_a_bad_request_for_a_download_is_said_to_be_one(site: Web) -> None:
    connection = HTTPConnection(HOST, site.http, timeout=5)
    connection.request("GET", "/download?bytes=many")
    assert connection.getresponse().status == 400
