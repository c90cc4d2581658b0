"""Policy → nftables, as values: what one node's table must hold so that the kernel enforces a NodePolicy.

`compile_ruleset` says what there should be, `transaction` how to get there from what there is. What both
keep true:

* Nothing is flushed. A changed policy brings new chains beside the old ones, moves the dispatch to them and
  removes the old ones, in one commit: no packet sees anything between.
* Learned addresses are never touched by a transaction, except that a set which it makes starts full.
* The same policy compiles to the same names and texts, on every node and after every restart; so an unchanged
  policy is an empty transaction, and unchanged rules keep their counters.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address

from acns.datapath import base, chains, constants, names, rules, sets
from acns.datapath.chains import Atom, Redirect
from acns.datapath.model import ChainSpec, Description, Inventory, MapSpec, Ruleset, SetSpec
from acns.datapath.sets import fqdn_set_name
from acns.datapath.transaction import transaction
from acns.dns.pattern import FQDNSelector
from acns.policy.model import Allow, DNSServers, EndpointPolicy, NodePolicy, Origin, Peer
from acns.policy.numbers import NumberRegistry

__all__ = ["Inventory", "Ruleset", "compile_ruleset", "describe", "fqdn_set_name", "transaction"]

_DISPATCH = "ifname . ipv4_addr : verdict"
_LINKS = {base.DNS_MAP: "d", base.EGRESS_MAP: "e", base.REPLIES_MAP: "i"}


def compile_ruleset(
    node: NodePolicy,
    interfaces: Mapping[IPv4Address, str],
    grants: NumberRegistry,
    learned: Mapping[FQDNSelector, Mapping[IPv4Address, float]],
    *,
    proxy_port: int = constants.PROXY_PORT,
) -> Ruleset:
    """The table for this policy.

    `interfaces`: the node-side interface of each local endpoint that has one (an enforced endpoint without is
    shut by its address). `grants` is asked for a number per atom, under the id of its rule, then told which
    are live; live connections carry these numbers, so it must outlive the caller (or be filled from
    `Inventory.grants`). `learned`: the element timeouts, in seconds from now, that a set gets if this
    transaction creates it.
    """
    compiler = _Compiler(node, interfaces, grants)
    compiler.add_peers(learned)
    for policy in node.endpoints:
        compiler.add_endpoint(policy)
    compiler.add_fixed(proxy_port)
    grants.keep_only(compiler.grant_keys)
    return compiler.finish()


def describe(ruleset: Ruleset) -> Mapping[str, Description]:
    """Every id of the table (sets, chains, rules, counters) → what it stands for: the shim's ids file."""
    return ruleset.descriptions


class _Compiler:
    """One compilation: the parts of the table as they come together."""

    def __init__(
        self, node: NodePolicy, interfaces: Mapping[IPv4Address, str], grants: NumberRegistry
    ) -> None:
        self.node = node
        self.interfaces = interfaces
        self.grants = grants
        self.grant_keys: set[str] = set()
        self.sets: dict[str, SetSpec] = {}
        self.chains: dict[str, ChainSpec] = {}
        self.maps: dict[str, dict[str, str]] = {base.DNS_MAP: {}, base.EGRESS_MAP: {}, base.REPLIES_MAP: {}}
        self.counters: set[str] = set(base.COUNTERS)
        self.kinds: dict[str, tuple[str, str]] = {}
        self.origins: defaultdict[str, set[Origin]] = defaultdict(set)
        self.served: defaultdict[str, set[str]] = defaultdict(set)
        self.peer_sets: dict[Peer, SetSpec] = {}
        self.exact_sets: dict[DNSServers, SetSpec] = {}

    def add_peers(self, learned: sets.Learned) -> None:
        """The sets of all peers: first, since their names depend on all of them."""
        allows = [allow for policy in self.node.endpoints for allow in policy.allows]
        servers = [dns.servers for policy in self.node.endpoints for dns in policy.dns if dns.redirects]
        self.peer_sets = sets.peer_sets((allow.peer for allow in allows), learned)
        self.exact_sets = sets.exact_server_sets(servers)
        for peer, spec in self.peer_sets.items():
            self._add_set(spec, peer.key)
        for one, spec in self.exact_sets.items():
            self._add_set(spec, one.key)

    def add_endpoint(self, policy: EndpointPolicy) -> None:
        """The chains of one endpoint and the way to them."""
        interface = self.interfaces.get(policy.endpoint.address)
        if not policy.egress_enforced or interface is None:
            return
        key = f"{names.interface(interface)} . {policy.endpoint.address}"
        atoms = self._atoms(policy)
        self._dispatch(base.EGRESS_MAP, key, chains.egress_chain(atoms), policy)
        self._dispatch(base.REPLIES_MAP, key, chains.replies_chain(atoms), policy)
        redirects = self._redirects(policy)
        if redirects:
            self._dispatch(base.DNS_MAP, key, chains.redirect_chain(redirects), policy)

    def add_fixed(self, proxy_port: int) -> None:
        """Base chains and the sets they look into."""
        for chain in base.base_chains(proxy_port):
            self.chains[chain.name] = chain
        for spec in self._node_sets():
            self.sets[spec.name] = spec
        for counter, text in base.COUNTERS.items():
            self.kinds[counter] = ("counter", text)

    def finish(self) -> Ruleset:
        """Everything, with descriptions."""
        return Ruleset(
            counters=frozenset(self.counters),
            sets=self.sets,
            maps={name: MapSpec(name, _DISPATCH, elements) for name, elements in self.maps.items()},
            chains=self.chains,
            descriptions={
                id_: Description(
                    kind, text, tuple(sorted(self.origins[id_])), tuple(sorted(self.served[id_]))
                )
                for id_, (kind, text) in sorted(self.kinds.items())
            },
        )

    def _atoms(self, policy: EndpointPolicy) -> list[Atom]:
        same: defaultdict[str, list[Allow]] = defaultdict(list)
        for allow in policy.allows:
            same[self._grant_key(allow)].append(allow)
        return [self._atom(key, allows, policy.endpoint.key) for key, allows in same.items()]

    def _grant_key(self, allow: Allow) -> str:
        spec = self.peer_sets.get(allow.peer)
        peer = f"{allow.peer.key} {spec.name}" if spec else allow.peer.key
        return f"egress {peer} {chains.ports_text(allow.ports)}"

    def _atom(self, grant_key: str, allows: list[Allow], endpoint: str) -> Atom:
        rule_id = f"r_{names.digest(grant_key)}"
        self.grant_keys.add(rule_id)
        peer, ports = allows[0].peer, allows[0].ports
        spec = self.peer_sets.get(peer)
        atom = Atom(
            id=rule_id,
            peer=peer,
            set_name=spec.name if spec else "",
            ports=ports,
            grant=self.grants.number(rule_id),
            origins=tuple(sorted({allow.origin for allow in allows})),
        )
        self._describe(atom.id, "rule", atom.text, atom.origins, endpoint)
        if spec:
            self._describe(spec.name, "set", peer.key, atom.origins, endpoint)
        self.counters.add(atom.id)
        return atom

    def _redirects(self, policy: EndpointPolicy) -> list[Redirect]:
        found: dict[DNSServers, list[Origin]] = {}
        for dns in policy.dns:
            if dns.redirects:
                found.setdefault(dns.servers, []).append(dns.origin)
        return [self._redirect(servers, origins, policy.endpoint.key) for servers, origins in found.items()]

    def _redirect(self, servers: DNSServers, origins: list[Origin], endpoint: str) -> Redirect:
        exact = self.exact_sets.get(servers)
        networks = sets.cidr_set(servers.networks, servers.key) if servers.networks else None
        if networks:
            self._add_set(networks, servers.key)
        set_names = [spec.name for spec in (exact, networks) if spec]
        ports = [f"{number}/{port}" for number, port in sorted(servers.ports)]
        redirect = Redirect(
            id=f"q_{names.digest(servers.key, str(servers.outside_only), *set_names, *ports)}",
            servers=servers,
            exact_set=exact.name if exact else "",
            network_set=networks.name if networks else "",
            origins=tuple(sorted(set(origins))),
        )
        for id_ in (redirect.id, *set_names):
            kind = "rule" if id_ == redirect.id else "set"
            self._describe(id_, kind, f"dns {servers.key}", redirect.origins, endpoint)
        self.counters.add(redirect.id)
        return redirect

    def _dispatch(self, map_name: str, key: str, chain: ChainSpec, policy: EndpointPolicy) -> None:
        link = chains.endpoint_chain(_LINKS[map_name], key, chain)
        self.maps[map_name][key] = link.name
        for one in (chain, link):
            self.chains[one.name] = one
            self._describe(one.name, "chain", map_name, (), policy.endpoint.key)
        if chain.rules[-1].id == chain.name:
            self.counters.add(chain.name)

    def _add_set(self, spec: SetSpec, text: str) -> None:
        self.sets[spec.name] = spec
        self.kinds.setdefault(spec.name, ("set", text))

    def _describe(self, id_: str, kind: str, text: str, origins: Iterable[Origin], endpoint: str) -> None:
        self.kinds.setdefault(id_, (kind, text))
        self.origins[id_].update(origins)
        self.served[id_].add(endpoint)

    def _node_sets(self) -> list[SetSpec]:
        placed = {
            policy.endpoint.address: names.interface(self.interfaces[policy.endpoint.address])
            for policy in self.node.endpoints
            if policy.endpoint.address in self.interfaces
        }
        enforced = [policy.endpoint.address for policy in self.node.endpoints if policy.egress_enforced]
        return [
            sets.kept(base.POD_INTERFACES, "ifname", placed.values()),
            sets.kept(
                base.ENDPOINTS,
                "ifname . ipv4_addr",
                (f"{interface} . {address}" for address, interface in placed.items()),
            ),
            sets.kept(
                base.ENFORCED,
                "ifname . ipv4_addr",
                (f"{placed[address]} . {address}" for address in enforced if address in placed),
            ),
            sets.kept(base.UNPLACED, "ipv4_addr", (str(one) for one in enforced if one not in placed)),
            sets.kept(base.V6_BLOCKED, "ifname", (placed[one] for one in enforced if one in placed)),
            sets.kept(
                rules.CLUSTER, "ipv4_addr", map(str, self.node.cluster_addresses | self.node.node_addresses)
            ),
            sets.kept(rules.SERVICES, "ipv4_addr", map(str, self.node.service_addresses)),
            sets.kept(rules.SELF, "ipv4_addr . ipv4_addr", (f"{address} . {address}" for address in placed)),
        ]
