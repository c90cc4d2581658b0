"""Both agents of a node without sockets, kernel or clock: their own code, called in the order of a query.

Policy goes through the shim's resolver and its snapshot, over the wire form of the policy stream, into the
resolver's table; queries and answers through the judgements of the resolver's loop; what an answer teaches
through the shim's mappings and its cache into the learned set (`sets`). Nothing here decides anything.
"""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, TypeVar

import pydantic

from acns.api import codec
from acns.api.codec import Mapping
from acns.api.ledger_file import Terms
from acns.datapath.selectors import selector_id
from acns.errors import Bug
from acns.fqdn import gate
from acns.fqdn.cache import NameCache
from acns.policy.cluster import Cluster
from acns.policy.learnings import Learning, Learnings
from acns.policy.model import Enforcement, NodePolicy
from acns.policy.overview import Local, Overview
from acns.resolver.batch import sockaddr_of
from acns.resolver.budget import InFlight
from acns.resolver.flight import ID_BYTES
from acns.resolver.judged import Answer, Case, Judgements
from acns.resolver.settings import ResolverSettings
from acns.shim.flowlog import FlowLog
from acns.shim.learned import Learned
from acns.shim.ledger import Ledger
from acns.shim.mappings import Mappings
from acns.shim.settings import ShimSettings
from acns.shim.snapshot import Snapshots
from acns.telemetry.journal import Journal
from lab.repro.running.sets import LearnedSet
from lab.repro.scenario.model import Scenario
from lab.repro.scenario.topology import DNS_PORT

Result = TypeVar("Result")
PROTOCOLS: Final = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}


@dataclass(slots=True)
class Clock:
    """Seconds since the scenario's beginning."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


class Agents:
    """Of a node. `live`: the addresses of open connections, as its conntrack would have them."""

    def __init__(self, scenario: Scenario, node: str, clock: Clock, ledger: Ledger) -> None:
        self.node = node
        own = {"node": node, "manifests": "none", "state_dir": "none"}
        self.shim = pydantic.TypeAdapter(ShimSettings).validate_python({**own, **scenario.shim})
        self.resolver = pydantic.TypeAdapter(ResolverSettings).validate_python(scenario.resolver)
        self.live: set[bytes] = set()
        self.clock = clock
        self.set = LearnedSet(clock, lambda: self.live)
        cache = NameCache(
            max_addresses_per_name=self.shim.max_addresses_per_name, idle_grace_s=self.shim.idle_grace_s
        )
        margin_s = self.shim.fqdn_gc_interval_s + self.shim.agent_down_grace_s
        self.learned = Learned(cache, self.set.as_kernel(), margin_s, clock)
        journal = Journal("", "shim")
        flows = FlowLog("", "drops", node, ledger)
        self.mappings = Mappings(self.learned, flows, journal, self.shim.min_ttl_s)
        settings = gate.GateSettings(
            denied=gate.DeniedCode(self.resolver.denied), aaaa=gate.AAAAMode(self.resolver.aaaa)
        )
        budget = InFlight.of(self.resolver)
        self._judgements = {name: Judgements(number, settings, budget) for name, number in PROTOCOLS.items()}
        self._snapshots = Snapshots(ledger)
        self.overview = Overview(Cluster())

    @property
    def policy(self) -> NodePolicy:
        return self.overview.node(self.node)

    def use(self, cluster: Cluster) -> None:
        """From now on these objects count."""
        self.overview = Overview(cluster, Enforcement(self.shim.enforcement))
        policy = self.policy
        selectors = policy.fqdn_selectors()
        change = self.learned.cache.set_selectors(selectors)
        self.learned.in_kernel = selectors
        self.learned.write(change)
        self.set.keep_only({selector_id(one) for one in selectors})
        self._snapshots.prepare(policy)
        self.mappings.use(policy)
        table = codec.policy_table(self._snapshots.state())
        for judgements in self._judgements.values():
            judgements.use(table)

    def local(self, address: IPv4Address) -> Local:
        found = self.overview.at(address)
        assert found is not None, "every pod of a scenario has an address"
        return found

    def case(self, source: IPv4Address, server: IPv4Address, transport: str, packet: bytes) -> Case:
        """What becomes of a query."""
        asked = (server.packed, DNS_PORT)
        key = source.packed + sockaddr_of(*asked) + packet[ID_BYTES:]
        return self._judgements[transport].case(key, source.packed, asked, packet)

    def answer(self, case: Case, transport: str, packet: bytes) -> Answer:
        """What becomes of an answer to it."""
        return self._judgements[transport].answer(case.question, packet[ID_BYTES:])

    def commit(self, case: Case, answer: Answer) -> bool:
        """What the resolver does before an answer leaves: whether the shim has taken its addresses."""
        if answer.learned is None:
            return True
        query = case.question.query
        assert query is not None, "only queries are forwarded"
        mapping = Mapping(
            name=query.name,
            addresses=answer.learned.addresses,
            ttl_s=answer.learned.ttl_s,
            source_identity=case.asker.source_identity,
            source=case.asker.source,
        )
        taken = at_once(self.mappings.update(codec.mapping_to_wire(mapping)))
        return codec.code_name(taken.code) == "NO_ERROR"

    def collect(self) -> None:
        """One collection of what has expired."""
        at_once(self.learned.collect())

    def learnings(self) -> Learnings:
        """What the set has at this moment, and why."""
        elements = self.set.elements()
        present = {one: elements.get(selector_id(one), {}) for one in self.learned.in_kernel}
        return Learnings(
            tuple(
                Learning(
                    one.name,
                    IPv4Address(one.address),
                    selectors,
                    one.expires_at,
                    one.learned_at,
                    one.asked_by,
                )
                for one in self.learned.cache.known(self.clock.now)
                if (selectors := tuple(s for s in one.selectors if one.address in present.get(s, ())))
            )
        )


@contextmanager
def made(scenario: Scenario, clock: Clock) -> Iterator[dict[str, Agents]]:
    """Each node's, which know nothing yet; the numbers they give out are forgotten with them."""
    with tempfile.TemporaryDirectory(prefix="acns-repro-") as folder, ExitStack() as closing:
        found = {}
        for number, node in enumerate(scenario.nodes):
            ledger = Ledger(Path(folder) / f"ledger-{number}.log", Terms(0, 0.0))
            closing.callback(ledger.close)
            found[node] = Agents(scenario, node, clock, ledger)
        yield found


def at_once(work: Coroutine[Any, Any, Result]) -> Result:
    """The result of a coroutine that waits for nothing: there is nobody here to wait for."""
    try:
        work.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    work.close()
    raise Bug("an agent's code waited for something, where there is nothing to wait for")
