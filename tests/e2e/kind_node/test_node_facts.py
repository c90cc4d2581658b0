"""What the shim finds of a node in the kernel, and that it does not start on one that is unsuitable."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from acns import settings
from acns.shim import node_facts

from ..resolver.resolver_world import Namespace
from .kind_node import DATA

pytestmark = pytest.mark.root

ENGINE = """
table inet kindnet-network-policies {
  set podips-v4 { type ipv4_addr; elements = { 10.244.1.3 } }
  chain postrouting { type filter hook postrouting priority 0; }
}
"""


@pytest.fixture
def node() -> Iterator[Namespace]:
    made = Namespace()
    yield made
    made.end()


def test_links_addresses_routes_and_tables_are_found(node: Namespace) -> None:
    node.run("ip", "link", "add", "veth0", "type", "veth", "peer", "name", "veth1")
    node.run("ip", "address", "add", "169.254.20.10/32", "dev", "veth0")
    node.run("ip", "address", "add", "10.244.1.1/24", "dev", "veth1")
    node.run("ip", "link", "set", "veth0", "up")
    node.run("ip", "link", "set", "veth1", "up")
    node.run("ip", "route", "add", "10.9.0.0/16", "via", "10.244.1.7")
    node.run("nft", "-f", "-", text=(DATA / "kube-proxy-nftables.txt").read_text() + ENGINE)
    facts = node.inside(node_facts.gather)
    links = {link.name: link for link in facts.links}
    assert links["veth0"].addresses == {IPv4Address("169.254.20.10")}
    assert links["veth1"].networks == {IPv4Network("10.244.1.0/24")}
    assert "KUBE-FIREWALL" in facts.tables["filter"]
    assert "nat-prerouting" in facts.tables["kube-proxy"]
    assert facts.kindnet_pods
    node.run("nft", "flush", "set", "inet", "kindnet-network-policies", "podips-v4")
    assert not node.inside(node_facts.gather).kindnet_pods


def test_the_shim_does_not_start_on_a_node_of_ciliums_and_makes_no_rule(
    node: Namespace, tmp_path: Path
) -> None:
    node.run("ip", "link", "add", "cilium_host", "type", "veth", "peer", "name", "cilium_net")
    node.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    (tmp_path / "manifests").mkdir()
    values = {
        "node": "n",
        "manifests": str(tmp_path / "manifests"),
        "state_dir": str(tmp_path / "state"),
        "fqdndata_socket": str(tmp_path / "fqdndata.sock"),
        "http_socket": str(tmp_path / "http.sock"),
    }
    (tmp_path / "shim.toml").write_text(settings.render(values))
    command = [sys.executable, "-m", "acns.shim", "--settings", str(tmp_path / "shim.toml")]
    done = subprocess.run([*node.command, *command], capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert "Cilium enforces policy on this node already (cilium_host, cilium_net)" in done.stderr
    assert node.run("nft", "list", "ruleset") == ""
