"""Policies that change, and what each state of them allows: the tests' own account of it.

A `State` is the policies of a lab and the labels of its pods; `Editor` makes the next one, of every kind of
edit in turn, from a seed. `State.allows` says who may reach whom by the plainest reading of the documents,
one loop per direction: nothing of it is shared with what it judges.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

import yaml

Direction = Literal["egress", "ingress"]
PeerKind = Literal["name", "pattern", "cidr", "pods"]
PolicyKind = Literal["CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "NetworkPolicy"]
PermitProtocol = Literal["TCP", "UDP", "ANY"]
Label = tuple[str, str]

CNP: PolicyKind = "CiliumNetworkPolicy"
CCNP: PolicyKind = "CiliumClusterwideNetworkPolicy"
NP: PolicyKind = "NetworkPolicy"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a flow may go: an address on the Internet, with its name where it has one, or a pod."""

    address: IPv4Address
    name: str = ""
    pod: str = ""


@dataclass(frozen=True, slots=True)
class Flow:
    """A client pod, a destination, a port, a protocol."""

    client: str
    place: Place
    port: int
    protocol: Literal["TCP", "UDP"]


@dataclass(frozen=True, slots=True)
class Permit:
    """One rule: a peer (a name, a pattern `PREFIX*.ZONE`, a CIDR, a label as `key=value`) and its ports."""

    kind: PeerKind
    peer: str
    first: int
    last: int
    protocol: PermitProtocol = "ANY"
    deny: bool = False

    def covers(self, flow: Flow, state: State, *, incoming: bool) -> bool:
        if not self.first <= flow.port <= self.last or self.protocol not in ("ANY", flow.protocol):
            return False
        if self.kind == "pods":
            key, value = self.peer.split("=")
            other = flow.client if incoming else flow.place.pod
            return (key, value) in state.labels_of(other)
        if flow.place.pod in state.labels:
            return False
        match self.kind:
            case "name":
                return flow.place.name == self.peer
            case "pattern":
                head, tail = self.peer.split("*")
                label, _, zone = flow.place.name.partition(".")
                return label.startswith(head) and f".{zone}" == tail
        return flow.place.address in IPv4Network(self.peer)


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy of one direction."""

    name: str
    subject: Label
    direction: Direction
    permits: tuple[Permit, ...]
    kind: PolicyKind = CNP

    @property
    def file(self) -> str:
        return f"{self.name}.yaml"

    def text(self) -> str:
        """The manifest."""
        if self.kind == NP:
            return _dumped(self, "networking.k8s.io/v1", self._network_policy())
        spec: dict[str, Any] = {"endpointSelector": _labels(*self.subject)}
        for permit in self.permits:
            section = self.direction + ("Deny" if permit.deny else "")
            spec.setdefault(section, []).append(self._rule(permit))
        return _dumped(self, "cilium.io/v2", spec)

    def _rule(self, permit: Permit) -> dict[str, Any]:
        port = {"port": str(permit.first), "endPort": permit.last, "protocol": permit.protocol}
        if permit.first == permit.last:
            del port["endPort"]
        rule: dict[str, Any] = {"toPorts": [{"ports": [port]}]}
        side = "to" if self.direction == "egress" else "from"
        match permit.kind:
            case "name":
                rule["toFQDNs"] = [{"matchName": permit.peer}]
            case "pattern":
                rule["toFQDNs"] = [{"matchPattern": permit.peer}]
            case "cidr":
                rule[f"{side}CIDR"] = [permit.peer]
            case "pods":
                rule[f"{side}Endpoints"] = [_labels(*permit.peer.split("="))]
        return rule

    def _network_policy(self) -> dict[str, Any]:
        side = "to" if self.direction == "egress" else "from"
        rules = []
        for permit in self.permits:
            protocols = ("TCP", "UDP") if permit.protocol == "ANY" else (permit.protocol,)
            ports = [{"port": permit.first, "endPort": permit.last, "protocol": one} for one in protocols]
            if permit.kind == "pods":
                peer: dict[str, Any] = {"podSelector": _labels(*permit.peer.split("="))}
            else:
                peer = {"ipBlock": {"cidr": permit.peer}}
            rules.append({side: [peer], "ports": ports})
        return {
            "podSelector": _labels(*self.subject),
            "policyTypes": [self.direction.capitalize()],
            self.direction: rules,
        }


@dataclass(frozen=True, slots=True)
class State:
    """The policies by name, and the labels of the pods that exist."""

    policies: Mapping[str, Policy]
    labels: Mapping[str, frozenset[Label]]

    def labels_of(self, pod: str) -> frozenset[Label]:
        """Nobody's labels are none."""
        return self.labels.get(pod, frozenset())

    def allows(self, flow: Flow) -> bool:
        out = self._allows(flow, flow.client, "egress")
        return out and self._allows(flow, flow.place.pod, "ingress")

    def _allows(self, flow: Flow, subject: str, direction: Direction) -> bool:
        selecting = [
            one
            for one in self.policies.values()
            if one.direction == direction and one.subject in self.labels_of(subject)
        ]
        if not selecting:
            return True
        covering = [
            permit
            for one in selecting
            for permit in one.permits
            if permit.covers(flow, self, incoming=direction == "ingress")
        ]
        return bool(covering) and not any(permit.deny for permit in covering)

    def with_policies(self, *policies: Policy, without: tuple[str, ...] = ()) -> State:
        kept = {name: one for name, one in self.policies.items() if name not in without}
        return replace(self, policies={**kept, **{one.name: one for one in policies}})

    def with_label(self, pod: str, key: str, value: str) -> State:
        labels = {label for label in self.labels[pod] if label[0] != key} | {(key, value)}
        return replace(self, labels={**self.labels, pod: frozenset(labels)})

    def with_pod(self, pod: str, labels: frozenset[Label]) -> State:
        return replace(self, labels={**self.labels, pod: labels})

    def without_pod(self, pod: str) -> State:
        return replace(self, labels={name: one for name, one in self.labels.items() if name != pod})


# --- edits ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Edit:
    """One change: what it is called, and the state after it. `touched`: policies written anew unchanged."""

    what: str
    state: State
    touched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Material:
    """What edits are made of. `kept`: ways to write the policies that always allow the same, in turn."""

    subjects: tuple[Label, ...]
    egress_peers: tuple[tuple[PeerKind, str], ...]
    ingress_subjects: tuple[Label, ...]
    ingress_peers: tuple[tuple[PeerKind, str], ...]
    denied_peers: tuple[tuple[PeerKind, str], ...]
    port: int
    """The port that these edits are about."""
    teams: tuple[str, ...]
    colors: tuple[str, ...]
    clients: tuple[str, ...]
    servers: tuple[str, ...]
    comers: Mapping[str, frozenset[Label]]
    """Pods that come and go, with their labels."""
    kept: tuple[tuple[Policy, ...], ...]


@dataclass(slots=True)
class Editor:
    """Makes edits, each kind in its turn, all choices from `rng`."""

    material: Material
    rng: random.Random
    _count: int = 0
    _form: int = 0
    _waiting: list[Callable[[State], Edit | None]] = field(default_factory=list)

    def next(self, state: State) -> Edit:
        """The next edit. A kind that needs a policy where there is none has its turn later."""
        if not self._waiting:
            self._waiting = self._round()
        kind = self._waiting.pop()
        if edit := kind(state):
            return edit
        self._waiting.insert(0, kind)
        return self._add(state, direction=self.rng.choice(("egress", "ingress")))

    def _round(self) -> list[Callable[[State], Edit | None]]:
        kinds: list[Callable[[State], Edit | None]] = [
            partial(self._add, direction="egress"),
            partial(self._add, direction="ingress"),
            self._more,
            self._less,
            self._deny,
            self._rename,
            self._other_kind,
            self._relabel_client,
            self._relabel_server,
            self._pod_comes_or_goes,
            self._write_otherwise,
            self._touch,
            self._remove,
        ]
        self.rng.shuffle(kinds)
        return kinds

    def _add(self, state: State, *, direction: Direction) -> Edit:
        self._count += 1
        subjects = self.material.subjects if direction == "egress" else self.material.ingress_subjects
        permits = tuple(self._permit(direction) for _ in range(self.rng.randint(1, 3)))
        policy = Policy(f"extra-{self._count}", self.rng.choice(subjects), direction, permits)
        return Edit(f"add {policy.name} ({direction})", state.with_policies(policy))

    def _more(self, state: State) -> Edit | None:
        return self._changed(state, "more in", lambda one: (*one.permits, self._permit(one.direction)))

    def _less(self, state: State) -> Edit | None:
        def shorter(one: Policy) -> tuple[Permit, ...]:
            permits = list(one.permits)
            if len(permits) > 1:
                permits.pop(self.rng.randrange(len(permits)))
            return tuple(permits)

        return self._changed(state, "less in", shorter)

    def _deny(self, state: State) -> Edit | None:
        def denying(one: Policy) -> tuple[Permit, ...]:
            kept = tuple(permit for permit in one.permits if not permit.deny)
            if len(kept) < len(one.permits):
                return kept
            peers = self.material.denied_peers if one.direction == "egress" else self.material.ingress_peers
            kind, peer = self.rng.choice(peers)
            port = self.material.port
            return (*kept, Permit(kind, peer, port, port, deny=True))

        return self._changed(state, "deny in", denying)

    def _changed(
        self, state: State, what: str, permits: Callable[[Policy], tuple[Permit, ...]]
    ) -> Edit | None:
        policy = self._extra(state)
        if policy is None:
            return None
        changed = replace(policy, permits=permits(policy), kind=CNP)
        return Edit(f"{what} {policy.name}", state.with_policies(changed))

    def _rename(self, state: State) -> Edit | None:
        policy = self._extra(state)
        if policy is None:
            return None
        self._count += 1
        renamed = replace(policy, name=f"extra-{self._count}")
        return Edit(
            f"rename {policy.name} to {renamed.name}", state.with_policies(renamed, without=(policy.name,))
        )

    def _other_kind(self, state: State) -> Edit | None:
        policy = self._extra(state)
        if policy is None:
            return None
        plain = all(permit.kind in ("cidr", "pods") and not permit.deny for permit in policy.permits)
        kinds = [kind for kind in (CNP, CCNP, NP) if kind != policy.kind and (kind != NP or plain)]
        other = replace(policy, kind=self.rng.choice(kinds))
        return Edit(f"make {policy.name} a {other.kind}", state.with_policies(other))

    def _relabel_client(self, state: State) -> Edit:
        pod = self.rng.choice(self.material.clients)
        return self._relabelled(state, pod, "team", self.material.teams)

    def _relabel_server(self, state: State) -> Edit | None:
        present = [pod for pod in self.material.servers if pod in state.labels]
        return self._relabelled(state, self.rng.choice(present), "color", self.material.colors)

    def _relabelled(self, state: State, pod: str, key: str, values: tuple[str, ...]) -> Edit:
        now = dict(state.labels[pod])[key]
        value = self.rng.choice([one for one in values if one != now])
        return Edit(f"label {pod} {key}={value}", state.with_label(pod, key, value))

    def _pod_comes_or_goes(self, state: State) -> Edit:
        pod = self.rng.choice(sorted(self.material.comers))
        if pod in state.labels:
            return Edit(f"pod {pod} goes", state.without_pod(pod))
        return Edit(f"pod {pod} comes", state.with_pod(pod, self.material.comers[pod]))

    def _write_otherwise(self, state: State) -> Edit:
        before = tuple(one.name for one in self.material.kept[self._form])
        self._form = (self._form + 1) % len(self.material.kept)
        after = self.material.kept[self._form]
        kept = tuple(name for name in before if name not in {one.name for one in after})
        return Edit(f"say the same otherwise ({self._form})", state.with_policies(*after, without=kept))

    def _touch(self, state: State) -> Edit:
        name = self.rng.choice(sorted(state.policies))
        return Edit(f"touch {name}", state, (name,))

    def _remove(self, state: State) -> Edit | None:
        policy = self._extra(state)
        if policy is None:
            return None
        return Edit(f"remove {policy.name}", state.with_policies(without=(policy.name,)))

    def _extra(self, state: State) -> Policy | None:
        extras = sorted(name for name in state.policies if name.startswith("extra-"))
        return state.policies[self.rng.choice(extras)] if extras else None

    def _permit(self, direction: Direction) -> Permit:
        peers = self.material.egress_peers if direction == "egress" else self.material.ingress_peers
        kind, peer = self.rng.choice(peers)
        protocols: tuple[PermitProtocol, ...] = ("TCP", "UDP", "ANY", "ANY")
        port = self.material.port
        return Permit(kind, peer, port, port + self.rng.choice((0, 8)), self.rng.choice(protocols))


def changed_files(before: State, edit: Edit) -> Iterator[tuple[str, str | None]]:
    """File name → its new text, None where it is to go. In this order nothing that stays is ever missing."""
    for name, policy in edit.state.policies.items():
        if before.policies.get(name) != policy:
            yield policy.file, policy.text()
    for name in edit.touched:
        policy = edit.state.policies[name]
        yield policy.file, f"# written again\n{policy.text()}"
    for name, policy in before.policies.items():
        if name not in edit.state.policies:
            yield policy.file, None


def _labels(key: str, value: str) -> dict[str, Any]:
    return {"matchLabels": {key: value}}


def _dumped(policy: Policy, version: str, spec: dict[str, Any]) -> str:
    metadata = {"name": policy.name}
    if policy.kind != CCNP:
        metadata["namespace"] = "default"
    return yaml.safe_dump(
        {"apiVersion": version, "kind": policy.kind, "metadata": metadata, "spec": spec}, sort_keys=False
    )
