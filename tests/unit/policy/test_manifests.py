"""Manifests as people and API servers write them: what becomes an object, what is refused."""

from __future__ import annotations

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from acns.policy.manifests import API_VERSIONS, Parsed, parse
from acns.policy.objects import CIDRGroup, EndpointSlice, Namespace, Node, Pod, Policy, Service
from acns.policy.profiles import Profile

DATA = Path(__file__).parents[2] / "data"


def read(text: str, profile: Profile = Profile.CILIUM) -> Parsed:
    return parse(text, "m.yaml", profile)


def from_kind(name: str, profile: Profile = Profile.CILIUM) -> Parsed:
    return parse((DATA / name).read_text(), name, profile)


def only(text: str) -> object:
    parsed = read(text)
    assert parsed.problems == ()
    (found,) = parsed.objects
    return found


# --- recorded from a real cluster ----------------------------------------------------------------------


def test_the_objects_of_a_real_cluster_are_read_without_a_problem() -> None:
    parsed = from_kind("kind-objects.json", Profile.ACNS)
    assert parsed.problems == ()
    kinds = [type(each).__name__ for each in parsed.objects]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        "Namespace": 3,
        "Node": 2,
        "Service": 4,
        "EndpointSlice": 9,
        "Pod": 11,
    }


def test_the_policies_of_a_real_cluster_are_read_or_refused_with_the_reason() -> None:
    parsed = from_kind("kind-policies.json")
    assert sorted(each.ref[2] for each in parsed.objects) == [
        "cidr-and-entities", "cluster-dns", "dns-limited", "fqdn-exact", "fqdn-pattern", "ingress-only",
        "two-specs",
    ]  # fmt: skip
    assert sorted(name for _, _, name in parsed.refused) == ["node-policy", "not-checked"]
    text = "\n".join(map(str, parsed.problems))
    for reason in ("nodeSelector", "bogus"):
        assert reason in text


def test_profile_acns_refuses_the_match_all_rules_among_them() -> None:
    parsed = from_kind("kind-policies.json", Profile.ACNS)
    assert [each.ref[2] for each in parsed.objects] == ["dns-limited", "cidr-and-entities", "ingress-only"]


# --- objects -------------------------------------------------------------------------------------------


def test_a_pod_is_read_down_to_its_named_ports() -> None:
    pod = only("""
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: shop, labels: {app: x}, annotations: {any: thing}}
spec:
  nodeName: n1
  serviceAccountName: sa
  containers:
  - {name: c, image: i, ports: [{name: http, containerPort: 80}, {containerPort: 81}]}
status: {podIP: 10.244.0.9, podIPs: [{ip: 10.244.0.9}], phase: Running}
""")
    assert isinstance(pod, Pod)
    assert (pod.key, pod.node_name, pod.service_account) == ("shop/p", "n1", "sa")
    assert (pod.pod_ip, pod.is_endpoint, pod.labels) == (IPv4Address("10.244.0.9"), True, {"app": "x"})
    assert [(port.name, port.protocol, port.port) for port in pod.named_ports] == [("http", "TCP", 80)]


def test_a_pod_without_status_has_no_address() -> None:
    pod = only("apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {}")
    assert isinstance(pod, Pod)
    assert not pod.is_endpoint


def test_profile_cilium_takes_the_ipv4_address_of_a_dual_stack_pod() -> None:
    pod = only("""
apiVersion: v1
kind: Pod
metadata: {name: p}
spec: {}
status: {podIP: "fd00::9", podIPs: [{ip: "fd00::9"}, {ip: 10.244.0.9}], phase: Running}
""")
    assert isinstance(pod, Pod)
    assert pod.pod_ip == IPv4Address("10.244.0.9")


@pytest.mark.parametrize("field", ["clusterIP: None", "clusterIP: ''", "type: ExternalName"])
def test_a_service_without_a_cluster_ip_has_none(field: str) -> None:
    service = only(f"apiVersion: v1\nkind: Service\nmetadata: {{name: s}}\nspec: {{{field}}}")
    assert isinstance(service, Service)
    assert service.cluster_ips == ()


def test_a_slice_with_null_lists_is_empty() -> None:
    found = only("""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1, labels: {kubernetes.io/service-name: s}}
addressType: IPv4
endpoints: null
ports: null
""")
    assert isinstance(found, EndpointSlice)
    assert (found.service, found.endpoints, found.ports) == ("s", (), ())


def test_an_ipv6_slice_has_no_backends() -> None:
    found = only("""
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: s-1}
addressType: IPv6
endpoints: [{addresses: ["fd00::1"]}]
ports: [{port: 53}]
""")
    assert isinstance(found, EndpointSlice)
    assert found.endpoints == ()


def test_a_nodes_addresses_are_its_ipv4_ones() -> None:
    node = only("""
apiVersion: v1
kind: Node
metadata: {name: "n"}
status:
  addresses:
  - {type: InternalIP, address: 172.18.0.2}
  - {type: Hostname, address: "n"}
  - {type: InternalIP, address: "fd::1"}
""")
    assert isinstance(node, Node)
    assert node.addresses == (IPv4Address("172.18.0.2"),)
    assert node.pod_cidrs == ()


@pytest.mark.parametrize(
    "fields",
    [
        "podCIDR: 10.244.1.0/24",
        "podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]",
        "podCIDRs: ['fd00::/64', 10.244.1.0/24]",
        "podCIDR: 'fd00::/64', podCIDRs: ['fd00::/64', 10.244.1.0/24], unknown: 1",
    ],
)
def test_a_nodes_pod_networks_are_its_ipv4_ones(fields: str) -> None:
    node = only(f"apiVersion: v1\nkind: Node\nmetadata: {{name: node}}\nspec: {{{fields}}}")
    assert isinstance(node, Node)
    assert node.pod_cidrs == (IPv4Network("10.244.1.0/24"),)


def test_a_service_has_its_labels() -> None:
    found = only("apiVersion: v1\nkind: Service\nmetadata: {name: s, labels: {app: web}}\nspec: {}")
    assert isinstance(found, Service)
    assert found.labels == {"app": "web"}


@pytest.mark.parametrize("version", ["v2", "v2alpha1"])
def test_a_cidr_group_holds_its_ipv4_networks(version: str) -> None:
    parsed = read(f"""
apiVersion: cilium.io/{version}
kind: CiliumCIDRGroup
metadata: {{name: offices, labels: {{site: north}}}}
spec: {{externalCIDRs: [10.1.2.3/8, "2001:db8::/32", 192.0.2.0/24]}}
""")
    assert parsed.objects == (
        CIDRGroup("offices", (IPv4Network("10.0.0.0/8"), IPv4Network("192.0.2.0/24")), {"site": "north"}),
    )
    assert [problem.code for problem in parsed.problems] == ["ipv6-ignored"]


def test_where_an_object_was_written_does_not_make_it_another_one() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"
    assert only(text) == only("\n\n" + text)


# --- files ---------------------------------------------------------------------------------------------


def test_items_of_a_typed_list_need_no_kind() -> None:
    found = only("apiVersion: v1\nkind: NamespaceList\nitems:\n- metadata: {name: a}")
    assert found == Namespace("a")


def test_one_wrong_document_does_not_cost_the_others() -> None:
    parsed = read("""
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Namespace
metadata: {}
---
apiVersion: v1
kind: Namespace
metadata: {name: b}
""")
    assert [each.ref[2] for each in parsed.objects] == ["a", "b"]
    assert [(problem.line, problem.message) for problem in parsed.problems] == [(8, "'name' is missing")]


@pytest.mark.parametrize(
    ("kind", "version", "spec", "namespace"),
    [
        (
            "CiliumClusterwideNetworkPolicy",
            "cilium.io/v2",
            "{endpointSelector: {}, egress: [{toGroups: []}]}",
            "",
        ),
        (
            "CiliumNetworkPolicy",
            "cilium.io/v2",
            "{endpointSelector: {}, egress: [{toGroups: []}]}",
            "default",
        ),
        ("NetworkPolicy", "networking.k8s.io/v1", "{podSelectors: {}}", "default"),
        ("CiliumCIDRGroup", "cilium.io/v2", "{externalCIDRs: [x]}", ""),
    ],
)
def test_what_is_refused_is_named(kind: str, version: str, spec: str, namespace: str) -> None:
    parsed = read(f"apiVersion: {version}\nkind: {kind}\nmetadata: {{name: p}}\nspec: {spec}\n")
    assert parsed.refused == ((kind, namespace, "p"),)
    assert not parsed.ok


def test_an_empty_file_holds_nothing_and_is_no_error() -> None:
    assert read("# nothing yet\n---\n") == Parsed((), ())


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["kind", "apiVersion", "metadata", "name", "spec", "specs", "egress", "endpointSelector", "toPorts",
         "ports", "port", "rules", "dns", "toFQDNs", "matchName", "toCIDR", "items", "status", "podIP",
         "ingress", "egressDeny", "fromEndpoints", "matchLabels", "toCIDRSet", "cidr", "except", "icmps",
         "fields", "type", "toServices", "k8sService", "from", "podSelector", "ipBlock", "policyTypes",
         "enableDefaultDeny", "externalCIDRs", "toEntities", "labels", "podCIDR"]
    ), inner, max_size=4),
    max_leaves=12,
), st.sampled_from([*API_VERSIONS, "List"]))  # fmt: skip
def test_no_content_makes_parsing_raise(value: object, kind: str) -> None:
    body = dict(value) if isinstance(value, dict) else {"spec": value, "items": value}
    version = API_VERSIONS.get(kind, ("v1",))[0]
    document = {"metadata": {"name": "x"}, **body, "kind": kind, "apiVersion": version}
    parsed = read(json.dumps(document))
    assert parsed.objects or parsed.problems or kind == "List"


# --- policies ------------------------------------------------------------------------------------------

ACCEPTED_BUT_MEANINGLESS = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: p
  uid: 6efdb83f
  labels: {a: b}
  annotations: {kubectl.kubernetes.io/last-applied-configuration: "{}"}
  managedFields: [{manager: kubectl}]
spec:
  description: words
  labels: [{key: a, value: b, source: c}]
  log: {value: x}
  endpointSelector: {}
  ingress: null
  egressDeny: []
  egress:
  - toEntities: [world]
    toServices: null
status: {conditions: []}
"""


def test_a_policys_metadata_description_and_null_fields_decide_nothing() -> None:
    policy = only(ACCEPTED_BUT_MEANINGLESS)
    assert isinstance(policy, Policy)
    assert policy.namespace == "default"
    assert policy.key == "default/p"


def test_one_error_rejects_the_whole_policy() -> None:
    parsed = read(ACCEPTED_BUT_MEANINGLESS.replace("[world]", "[world, moon]"))
    assert parsed.objects == ()


def test_warnings_do_not_reject_it_and_stay_with_it() -> None:
    parsed = read(ACCEPTED_BUT_MEANINGLESS.replace("toEntities: [world]", 'toCIDR: ["::/0"]'))
    assert parsed.ok
    (policy,) = parsed.objects
    assert isinstance(policy, Policy)
    assert policy.problems == parsed.problems != ()


def test_problems_are_sorted_by_their_places_and_none_comes_twice() -> None:
    one = ACCEPTED_BUT_MEANINGLESS.replace("toEntities: [world]", "toCIDR: [x, y, '::/0']")
    parsed = read(f"{one}---{one}")
    assert len(parsed.problems) == 6
    assert list(parsed.problems) == sorted(set(parsed.problems))
