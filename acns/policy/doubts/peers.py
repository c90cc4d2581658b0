"""Peers compared by their words, where there are no pods and Services that would tell who they are."""

from __future__ import annotations

from ipaddress import IPv4Network

from acns.policy.cnp_values import WITHOUT_MEMBERS
from acns.policy.implications import Implied
from acns.policy.networks import without
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


def includes(wide: PeerSpec, narrow: PeerSpec) -> bool:
    """Whether `wide` means all that `narrow` means, whoever that is; of networks, whether it means some."""
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
        case (CIDRBlocks(), CIDRBlocks()):
            return any(mine.overlaps(theirs) for mine in _left(wide) for theirs in _left(narrow))
    return False


def _means_somebody(peer: PeerSpec) -> bool:
    """As far as its words tell; who is behind a name is known when it has been looked up."""
    match peer:
        case Entity(name):
            return name not in WITHOUT_MEMBERS
        case CIDRBlocks():
            return bool(_left(peer))
    return not isinstance(peer, SelectedFQDN)


def _left(peer: CIDRBlocks) -> tuple[IPv4Network, ...]:
    return without(peer.networks, peer.excepted)
