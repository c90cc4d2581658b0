"""One query that can be told from all others: it reaches the pod's DNS server, answered or not."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import dns.message
import pytest

from lab.world import dnsquery, one_query, probe

NAME = "0123456789abcdef.invalid."


def test_it_says_whom_it_asked_from_which_port(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "resolv.conf").write_text("search a.test\nnameserver 127.0.0.1\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        monkeypatch.setattr(probe, "RESOLV_CONF", tmp_path / "resolv.conf")
        monkeypatch.setattr(dnsquery, "PORT", server.getsockname()[1])
        monkeypatch.setattr(one_query, "ANSWER_S", 0.01)
        monkeypatch.setattr("sys.argv", ["one_query", NAME])
        one_query.main()
        packet, (_, port) = server.recvfrom(512)
    assert str(dns.message.from_wire(packet).question[0].name) == NAME
    assert json.loads(capsys.readouterr().out) == {"server": "127.0.0.1", "port": port}
