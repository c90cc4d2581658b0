"""What is measured is what it is said to be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from acns.policy.cluster import Cluster
from acns.policy.model import EndpointPolicy, NodePolicy
from acns.policy.resolve import Resolver, problems
from lab.bench import inputs
from lab.bench.cluster import NODE, BenchCluster, Scale
from lab.bench.inputs import Files

SCALE = Scale(endpoints=20, policies=40, selectors=80, addresses=800)


def resolved(texts: Files) -> NodePolicy:
    return Resolver(NODE).resolve(Cluster.of(inputs.flat(inputs.read_all(texts))))


def by_address(node: NodePolicy) -> Mapping[str, EndpointPolicy]:
    return {str(one.endpoint.address): one for one in node.endpoints}


MEASURED = str(BenchCluster(SCALE).pod_address(inputs.MEASURED_POD))


def test_the_node_has_the_numbers_that_the_scale_says() -> None:
    node = resolved(inputs.files(SCALE))
    assert len(node.endpoints) == SCALE.endpoints
    assert len(node.fqdn_selectors() - {inputs.MEASURED}) == SCALE.selectors
    addresses = [address for _, found in inputs.answers(SCALE) for address in found]
    assert len(set(addresses)) == len(addresses) == SCALE.addresses + 1


def test_nothing_is_wrong_with_the_cluster() -> None:
    assert problems(Cluster.of(inputs.flat(inputs.read_all(inputs.files(SCALE))))) == []


def test_every_address_that_is_learned_belongs_to_a_selector_of_the_node() -> None:
    selectors = inputs.selectors(inputs.flat(inputs.read_all(inputs.files(SCALE))))
    used = Counter(
        next(selector for selector in selectors if selector.matches(name))
        for name, _ in inputs.answers(SCALE)
    )
    assert used.keys() == selectors


def test_only_the_measured_pod_and_its_replicas_may_reach_the_measured_name() -> None:
    cluster = BenchCluster(SCALE)
    allowed = {
        address
        for address, policy in by_address(resolved(inputs.files(SCALE))).items()
        if any(allow.peer.key == f"fqdn:{inputs.MEASURED.key}" for allow in policy.egress.allows)
    }
    replicas = range(inputs.MEASURED_POD, SCALE.endpoints, cluster.workloads)
    assert allowed == {str(cluster.pod_address(index)) for index in replicas}


def test_more_policies_elsewhere_leave_the_measured_pod_as_it_is() -> None:
    before = by_address(resolved(inputs.files(SCALE)))
    after = by_address(resolved(inputs.files_with_more_elsewhere(SCALE, 4)))
    assert after[MEASURED] == before[MEASURED]

    def atoms(policies: Mapping[str, EndpointPolicy]) -> int:
        return sum(len(one.egress.allows) for one in policies.values())

    assert atoms(after) > 2 * atoms(before)


def test_the_seed_decides_everything() -> None:
    assert inputs.files(SCALE) == inputs.files(SCALE)
    assert inputs.files(SCALE) != inputs.files(Scale(20, 40, 80, 800, seed=2))
