"""What a real cluster's objects and policies come to on one of its nodes."""

from __future__ import annotations

from pathlib import Path

from acns.policy.cluster import Cluster
from acns.policy.manifests import parse
from acns.policy.objects import Object
from acns.policy.profiles import Profile
from acns.policy.resolve import resolve

DATA = Path(__file__).parents[2] / "data"


def objects(name: str) -> tuple[Object, ...]:
    return parse((DATA / name).read_text(), name, Profile.CILIUM).objects


def test_a_real_cluster_resolves_to_what_its_policies_say() -> None:
    cluster = Cluster.of([*objects("kind-objects.json"), *objects("kind-policies.json")])
    node = resolve(cluster, "demo-worker")
    assert [(each.endpoint.key, each.egress.enforced, each.ingress.enforced) for each in node.endpoints] == [
        ("shop/client", True, False),
        ("shop/no-image", True, False),
        ("shop/web-worker", True, True),
    ]
    client = node.endpoints[0]
    redirected = {str(server.address) for dns in client.dns for server in dns.servers.exact}
    assert redirected == {"10.244.0.3", "10.96.0.10"}
    assert {selector.text for selector in node.fqdn_selectors()} == {
        "ext.test.",
        "*.web.test.",
        "**.deep.test.",
    }
