"""The lab's certificates on disk."""

import os
import stat
from pathlib import Path

from lab.spec.load import find_topology, load_topology
from lab.world import certs


def test_keys_are_nobody_elses_to_read(tmp_path: Path) -> None:
    os.umask(os.umask(0))  # whatever the caller's umask is
    files = certs.ensure(tmp_path, ["api.example.com"])
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["ca-key.pem"] == modes[files.server.name] == 0o600
    assert "PRIVATE KEY" not in files.ca.read_text()


def test_certificates_that_cover_what_is_asked_are_left_as_they_are(tmp_path: Path) -> None:
    certs.ensure(tmp_path, ["a.example.com", "198.51.100.1", "2001:db8::1"])
    before = {path.name: (path.read_bytes(), path.stat().st_ino) for path in tmp_path.iterdir()}
    certs.ensure(tmp_path, ["a.example.com"])
    assert {path.name: (path.read_bytes(), path.stat().st_ino) for path in tmp_path.iterdir()} == before


def test_a_new_name_gets_a_new_certificate_from_the_same_authority(tmp_path: Path) -> None:
    files = certs.ensure(tmp_path, ["a.example.com"])
    authority, server = files.ca.read_bytes(), files.server.read_bytes()
    certs.ensure(tmp_path, ["a.example.com", "b.example.com"])
    assert files.ca.read_bytes() == authority
    assert files.server.read_bytes() != server


def test_every_name_that_quickstart_expects_over_https_is_certified() -> None:
    topology = load_topology(find_topology("quickstart"))
    names = set(certs.certified_names(topology))
    wanted = {text.split()[2].rpartition(":")[0] for text in topology.expect if text.endswith(":443")}
    assert {name.strip("[]") for name in wanted} - {"203.0.113.53"} <= names
