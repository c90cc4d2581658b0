"""What a rule's peers come to on one node.

Pods and nodes come as named groups, defined in the `View`. CIDRs come without what `except` takes out; their
key spells their contents, so the same text is always the same networks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from acns.policy import groups
from acns.policy.model import FQDN, CIDRs, Everything, Host, Peer, World
from acns.policy.networks import without
from acns.policy.objects import (
    CIDRBlocks,
    CIDRGroup,
    CIDRGroupPeer,
    Entity,
    PeerSpec,
    Rule,
    SelectedEndpoints,
    SelectedFQDN,
    SelectedServices,
    Service,
)
from acns.policy.selectors import K8S, Key, Labels, Operator, Requirement, Selector
from acns.policy.view import View


def peers_of(rule: Rule, view: View) -> tuple[Peer, ...]:
    """The L3 side of a rule. Traffic without a peer means any peer, neither of them nothing."""
    if rule.peers is None:
        return () if rule.selects_nothing else (Everything(),)
    found = (peer for each in rule.peers for peer in peers(each, view))
    return tuple({peer.key: peer for peer in found}.values())


def peers(spec: PeerSpec, view: View) -> Iterator[Peer]:
    """What one entry comes to; nothing where it selects nothing."""
    match spec:
        case SelectedEndpoints(selector):
            yield view.define(f"endpoints:{selector.key}", groups.Pods(selector))
        case CIDRBlocks(networks, excepted):
            yield from _cidrs(networks, excepted)
        case CIDRGroupPeer():
            found = cidr_groups(spec, view.directory.cluster.cidr_groups)
            yield from _cidrs([network for each in found for network in each.networks], spec.excepted)
        case SelectedFQDN(selector):
            yield FQDN(selector)
        case Entity(name):
            yield from _entity(name, view)
        case SelectedServices():
            for service in services(spec, view):
                yield from _service(service, view)


def services(spec: SelectedServices, view: View) -> list[Service]:
    """The Services that an entry of `toServices` names."""
    index = view.directory.services
    if spec.selector is not None:
        return index.selected(spec.selector, spec.namespace)
    return index.named(spec.name, spec.namespace)


def cidr_groups(spec: CIDRGroupPeer, known: Iterable[CIDRGroup]) -> list[CIDRGroup]:
    """The groups that a `toCIDRSet` entry names or selects."""
    if spec.selector is None:
        return [each for each in known if each.name == spec.name]
    return [
        each
        for each in known
        if spec.selector.matches(Labels.of((K8S, name, value) for name, value in each.labels.items()))
    ]


def _cidrs(networks: Iterable[IPv4Network], excepted: tuple[IPv4Network, ...]) -> Iterator[Peer]:
    left = without(tuple(networks), excepted)
    if left:  # all of them IPv6, or taken out: nothing is selected
        yield CIDRs("cidr:" + ",".join(map(str, left)), left)


def _entity(name: str, view: View) -> Iterator[Peer]:
    match name:
        case "all":
            yield Everything()
        case "world" | "world-ipv4":
            yield World()
        case "host":
            yield Host()
        case "remote-node":
            yield view.define("entity:remote-node", groups.RemoteNodes())
        case "cluster":
            # host is part of cluster; as a peer of its own it also covers addresses Kubernetes does not know.
            yield view.define("entity:cluster", groups.Cluster())
            yield Host()
        case "kube-apiserver":
            yield view.define("entity:kube-apiserver", groups.APIServers())


def _service(service: Service, view: View) -> Iterator[Peer]:
    """As Cilium translates `toServices`: the Service's selector says which pods, and where it has none, its
    slices' addresses are CIDRs (so they mean no pod)."""
    if service.selector:
        wanted = (
            Requirement(Key(K8S, name), Operator.IN, (value,)) for name, value in service.selector.items()
        )
        selector = Selector.of(wanted).within(service.namespace)
        yield view.define(f"service:{service.key}", groups.Pods(selector))
    else:
        addresses = view.directory.services.endpoints(service.namespace, service.name)
        yield from _cidrs([IPv4Network(address) for address in addresses], ())
