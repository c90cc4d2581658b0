"""The DNS of a cluster without CoreDNS runs as its pod does: no root, no capability."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import dns.rcode
import pytest
import yaml

from lab.backends.kind import own_dns
from lab.spec.load import find_topology, load_topology

from ..resolver.resolver_world import Namespace, until

pytestmark = pytest.mark.root
NOBODY = (
    "setpriv",
    "--reuid=65532",
    "--regid=65532",
    "--clear-groups",
    "--bounding-set=-all",
    "--no-new-privs",
)


def test_it_answers_for_services_on_port_53_as_an_ordinary_user(tmp_path: Path) -> None:
    made: dict[str, Any] = {}
    for one in yaml.safe_load_all(own_dns.text(load_topology(find_topology("quickstart")), "sha256:1")):
        made[one["kind"]] = one
    pod = made["Deployment"]["spec"]["template"]["spec"]
    command = pod["containers"][0]["command"]
    assert command == ["dnsmasq", "--conf-file=/etc/dns/dnsmasq.conf"]
    config = tmp_path / "dnsmasq.conf"
    config.write_text(made["ConfigMap"]["data"]["dnsmasq.conf"])
    where = Namespace()
    for one in pod["securityContext"]["sysctls"]:
        where.run("sysctl", "-qw", f"{one['name']}={one['value']}")
    argv = [*where.command, *NOBODY, command[0], "--conf-file=-"]
    with config.open() as text:
        process = subprocess.Popen(argv, stdin=text)
    try:
        until(lambda: ":53 " in where.run("ss", "-Hlun") and process.poll() is None, "dnsmasq")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert "CapEff:\t0000000000000000" in status
        for name, expected in (("web.default.svc.cluster.local", "10.96.20.20"), ("no.cluster.local", None)):
            reply = ask(where, name)
            assert (expected is None) == (reply.rcode() == dns.rcode.NXDOMAIN)
            assert expected is None or expected in reply.to_text()
    finally:
        process.kill()
        process.wait()
        where.end()


def ask(where: Namespace, name: str) -> dns.message.Message:
    with where.udp() as one:
        one.setblocking(False)
        return dns.query.udp(dns.message.make_query(name, "A"), "127.0.0.1", sock=one, timeout=5)
