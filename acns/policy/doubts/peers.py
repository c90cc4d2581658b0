"""Peers compared by their words, where there are no pods and Services that would tell who they are."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network

from acns.policy.cnp_values import WITHOUT_MEMBERS
from acns.policy.implications import Implied
from acns.policy.networks import common, without
from acns.policy.objects import (
    CIDRBlocks,
    CIDRGroupPeer,
    Entity,
    PeerSpec,
    Rule,
    SelectedEndpoints,
    SelectedFQDN,
)

ANYBODY = Entity("all")
_WORLD = ("world", "world-ipv4")
_OF_THE_CLUSTER = ("cluster", "host", "remote-node")


def peers_by_words(rule: Rule) -> tuple[PeerSpec, ...]:
    """Traffic without a peer means any peer."""
    return (ANYBODY,) if rule.peers is None else rule.peers


def speak_of_the_same(one: Rule, other: Rule) -> bool:
    """Whether something of one means all that something of the other does; of networks, whether they meet."""
    mine, theirs = dict.fromkeys(peers_by_words(one)), dict.fromkeys(peers_by_words(other))
    if common(_networks(mine), _networks(theirs)):
        return True
    return any(
        includes(first, second) or includes(second, first)
        for first in mine
        for second in theirs
        if not (isinstance(first, CIDRBlocks) and isinstance(second, CIDRBlocks))
    )


def includes(wide: PeerSpec, narrow: PeerSpec) -> bool:
    """Whether `wide` means all that `narrow` means, whoever that is; but for networks in networks."""
    if wide == narrow:
        return True
    match wide, narrow:
        case (Entity("all"), _):
            return _means_somebody(narrow)
        case (Entity("cluster"), SelectedEndpoints()):
            return True
        case (Entity("cluster"), Entity(name)):
            return name in _OF_THE_CLUSTER
        case (Entity(name), CIDRBlocks() | CIDRGroupPeer()):
            return name in _WORLD and _means_somebody(narrow)
        case (SelectedEndpoints(one), SelectedEndpoints(other)):
            return Implied.by(one).includes(Implied.by(other))
    return False


def _means_somebody(peer: PeerSpec) -> bool:
    """As far as its words tell; who is behind a name is known when it has been looked up."""
    match peer:
        case Entity(name):
            return name not in WITHOUT_MEMBERS
        case CIDRBlocks():
            return bool(_left(peer))
    return not isinstance(peer, SelectedFQDN)


def _networks(peers: Iterable[PeerSpec]) -> tuple[IPv4Network, ...]:
    return tuple(network for peer in peers if isinstance(peer, CIDRBlocks) for network in _left(peer))


def _left(peer: CIDRBlocks) -> tuple[IPv4Network, ...]:
    return without(peer.networks, peer.excepted)
