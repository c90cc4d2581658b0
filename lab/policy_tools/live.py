"""A running lab asked why: the model, from what its agents have, beside what its kernels really do.

Both are about the same instant only by and large: an address may expire, a manifest be edited between the
two. So where they differ, both are looked at once more, and only what differs again is a difference.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from ipaddress import IPv4Address

from acns.dns import name as names
from acns.dns.name import Name
from acns.errors import InputError
from acns.policy import destination
from acns.policy.connections import Part
from acns.policy.destination import AtAddress, Target
from acns.policy.explain import Knowledge, explain, explain_query
from acns.policy.learnings import Learnings
from acns.policy.lookups import Answer, Server
from acns.policy.model import DirectionPolicy, Origin
from acns.policy.overview import Local, Overview
from acns.policy.routes import Outcome
from acns.policy.wording import plain
from lab.kernel import netns
from lab.policy_tools import resolving, views
from lab.policy_tools.node_state import Meaning, NodeState
from lab.policy_tools.seen import NOT_TRIED, Answered, QuerySeen, RuleSeen, Seen
from lab.policy_tools.witness import ANSWER_DROPPED, Ask, KernelRule, Testimony, Witness
from lab.runtime.lab import Lab
from lab.world import dnsquery, probe

_TRIES_PER_BACKEND = 4
_QUERY_TIMEOUT_S = 3.0


class Live:
    """A running lab. Close it: it holds the witness."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.witness = Witness(lab)
        self.resolutions = resolving.for_pods(lab.topology.internet)
        self._states = {node.name: NodeState(lab, node) for node in lab.nodes}

    def close(self) -> None:
        self.witness.close()

    def explain(self, pod: str, asked: str) -> Answered:
        """As `policy.explain POD DEST` shows it."""
        return self._looked_at(lambda: self._explained(pod, asked))

    def explain_query(self, pod: str, name: Name, server: Server | None) -> Answered:
        """As `policy.explain POD --dns NAME` shows it: with a real query."""
        return self._looked_at(lambda: self._queried(pod, name, server))

    def compare(self, parts: Sequence[Part], *, with_answers: bool = False) -> tuple[Seen, ...]:
        """What the kernels do with each part's packet."""
        tries = {_ask_of(part): _tries(part) for part in parts}
        asks = [ask for ask, count in tries.items() for _ in range(count)]
        given: dict[Ask, list[Testimony]] = {}
        for ask, testimony in zip(asks, self.witness.testify(asks, with_answers=with_answers), strict=True):
            given.setdefault(ask, []).append(testimony)
        meanings = {node: state.meanings() for node, state in self._states.items()}
        counters = {node: state.counters() for node, state in self._states.items()}
        return tuple(
            _seen(part, _testimony(part, given[_ask_of(part)]), meanings, counters) for part in parts
        )

    def overview(self, pod: str) -> Overview:
        """The cluster as the pod's node has it, and as the others have it. Raises EnvironmentFault where that
        node has read nothing yet."""
        known = [plan for plan in self.lab.addressing.pods if pod in (plan.key, plan.name)]
        node = known[0].node if known else self.lab.nodes[0].name
        found = views.overviews(views.in_force(self._states))
        if node not in found:
            self._states[node].texts()
        return found[node]

    def remarks(self) -> Iterator[str]:
        """What is to be known of the nodes' manifests beside an answer."""
        return views.differing(views.in_force(self._states))

    def knowledge(self, source: Local, overview: Overview, server: Server | None = None) -> Knowledge:
        """What the pod's node has learned, whom the pod asks, and what that one will say."""
        return Knowledge(self.learned(overview), server or self.dns_server(source.key), self.resolutions)

    def learned(self, overview: Overview) -> dict[str, Learnings]:
        """By node."""
        return {
            node: state.learnings(overview.on(node).node(node).fqdn_selectors())
            for node, state in self._states.items()
        }

    def dns_server(self, pod: str) -> Server:
        """The first of the pod's resolv.conf."""
        return Server(IPv4Address(probe.nameserver(self.lab.folder.pod(pod) / "resolv.conf")))

    def query(self, pod: str, name: Name, server: Server) -> str:
        """A real query from inside the pod: the rcode with what came, or `no answer`."""
        namespace = self.lab.pod(pod).netns_fd()
        try:
            reply = netns.in_namespace(namespace, lambda: _ask(name, server))
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return f"no answer: {error.strerror}"
        finally:
            os.close(namespace)
        return reply.summary

    def _looked_at(self, look: Callable[[], Answered]) -> Answered:
        found = look()
        return found if found.agrees else look()

    def _explained(self, pod: str, asked: str) -> Answered:
        overview = self.overview(pod)
        source = overview.local(overview.pod(pod))
        wanted = destination.parse(asked, overview, source.resident)
        self._refuse_broadcasts(wanted.target)
        model = explain(overview, source, wanted, self.knowledge(source, overview))
        if model.supposed:
            return Answered(model, tuple(NOT_TRIED for _ in model.parts))
        return Answered(model, self.compare(model.parts, with_answers=True))

    def _refuse_broadcasts(self, target: Target) -> None:
        """Raises InputError for what leaves no pod for another network."""
        for node in self.lab.addressing.nodes:
            if isinstance(target, AtAddress) and target.address == node.pod_cidr.broadcast_address:
                raise InputError(f"{target.address} is all of {node.pod_cidr}: no policy is about it")

    def _queried(self, pod: str, name: Name, server: Server | None) -> Answered:
        overview = self.overview(pod)
        source = overview.local(overview.pod(pod))
        knowledge = self.knowledge(source, overview, server)
        assert knowledge.server is not None
        answer = self.query(source.key, name, knowledge.server)
        model = explain_query(overview, source, name, self.knowledge(source, overview, knowledge.server))
        assert model.lookup is not None
        return Answered(model, query=QuerySeen(answer, fits(answer, model.lookup.answer)))


def fits(answer: str, expected: Answer) -> bool:
    """Whether what a query got is what the model says."""
    match expected:
        case Answer.REFUSED:
            return answer.startswith("REFUSED")
        case Answer.BLOCKED:
            return answer.startswith("no answer")
    return not answer.startswith(("REFUSED", "no answer"))


def _ask(name: Name, server: Server) -> dnsquery.Reply:
    text = names.to_text(name)
    return dnsquery.ask(str(server.address), text, "A", _QUERY_TIMEOUT_S, port=server.port)


def _ask_of(part: Part) -> Ask:
    """The packet that tells about a part."""
    return Ask(part.route.sender.key, part.route.asked, part.packet)


def _tries(part: Part) -> int:
    """How many of them; through a Service so many that each backend gets one, very probably."""
    front = part.route.front
    if front is None or part.outcome is Outcome.REDIRECTED:
        return 1
    return max(1, _TRIES_PER_BACKEND * len(front.backends))


def _testimony(part: Part, given: Sequence[Testimony]) -> Testimony | None:
    """The one about this backend; None when the Service never chose it."""
    if len(given) == 1:
        return given[0]
    return next((one for one in given if one.reached in (part.route.reached, None)), None)


def _seen(
    part: Part,
    testimony: Testimony | None,
    meanings: Mapping[str, Mapping[str, Meaning]],
    counters: Mapping[str, Mapping[str, tuple[int, int]]],
) -> Seen:
    if testimony is None:
        return NOT_TRIED
    own = {str(origin) for origin in _origins(part)}
    rules = tuple(_rule_seen(rule, own, meanings[rule.node], counters[rule.node]) for rule in testimony.rules)
    # An address that is no Service's, in the network of Services, is dropped where they are translated.
    of_services = testimony.outcome is Outcome.DENIED and bool(rules) and rules[-1].of_services
    agrees = (
        (testimony.outcome is part.outcome or of_services)
        and not testimony.answer.startswith(ANSWER_DROPPED)
        and not any(rule.is_nobodys for rule in rules)
    )
    return Seen(testimony.outcome, agrees, rules, testimony.answer, compared=not _is_by_kernel(part))


def _is_by_kernel(part: Part) -> bool:
    """Whether the model lets it through for what this kernel's set holds, with nobody to ask beside it."""
    said = [one for side in part.sides if side.allowed for one in side.rules]
    return any(learned.of_kernel for one in said for learned in one.learned)


def _origins(part: Part) -> Iterator[Origin]:
    """The places of all rules that either end has."""
    sender, receiver = part.route.sender, part.route.receiver
    yield from (one.origin for one in sender.policy.dns)
    sides = [sender.policy.egress, receiver.policy.ingress if receiver else DirectionPolicy()]
    yield from (match.origin for side in sides for match in (*side.allows, *side.denies))


def _rule_seen(
    rule: KernelRule, own: Set[str], meanings: Mapping[str, Meaning], counters: Mapping[str, tuple[int, int]]
) -> RuleSeen:
    """Pods share the rules that say the same: of all places, those that are about these two."""
    packets = counters[rule.id][0] if rule.id in counters else None
    meaning = meanings.get(rule.id)
    if meaning is None:
        return RuleSeen(rule.node, rule.id, rule.comment, packets=packets, of_services=rule.of_services)
    if meaning.kind == "chain":
        return RuleSeen(rule.node, rule.id, "no rule allowed it", packets=packets)
    origins = tuple(one for one in meaning.origins if one in own)
    return RuleSeen(rule.node, rule.id, plain(meaning.text), origins, packets, is_nobodys=not origins)
