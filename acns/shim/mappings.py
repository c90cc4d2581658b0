"""What becomes of a mapping that a resolver reports: judged, learned, committed, answered.

The message comes from a process that reads hostile bytes, so every field is checked again here. What a name
may never open (loopback, link-local, multicast, pods, nodes, ClusterIPs) is left out, whoever says it. Real
peers also report each query, without addresses, and failed answers: these are answered and change nothing.

A TTL counts from the answer, not from its being told: a word that our own resolver could not bring in time,
or that lay in this process's queue while it hung, opens nothing for longer than the answer allows.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.api.answered import Answered
from acns.dns.name import Name
from acns.errors import AcnsError, cut
from acns.fqdn.addresses import is_learnable_address
from acns.policy.model import NodePolicy
from acns.shim.flowlog import FlowLog
from acns.shim.learned import Learned
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

NOERROR = 0
ON_TIME_S = 1.0
"""A word that comes within this is told as the answer comes."""
MAX_TTL_S = 7 * 86_400  # RFC 8767 section 4: a longer TTL is capped


@dataclass(frozen=True, slots=True)
class Taken:
    """The answer to a mapping. `kept_s`: how long its addresses stay, whatever else is learned."""

    code: pb.ResponseCode.ValueType
    kept_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Report:
    """What a peer reports, checked. `addresses`: those that may be learned, raw; `whole`: these are all."""

    name: Name
    endpoint: str
    addresses: tuple[bytes, ...]
    whole: bool
    ttl_s: float


class _Refusal(Exception):
    """The report is not taken; the code for the peer, the reason for the journal."""

    def __init__(self, code: pb.ResponseCode.ValueType, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Mappings:
    """Answers `UpdateMappingRequest`. `policy`: what the kernel enforces; None before the first."""

    def __init__(
        self,
        learned: Learned,
        flows: FlowLog,
        journal: Journal,
        min_ttl_s: int,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.learned = learned
        self.flows = flows
        self.journal = journal
        self.min_ttl_s = min_ttl_s
        self.wall_clock = wall_clock
        self.policy: NodePolicy | None = None
        self._endpoints: dict[bytes, str] = {}

    def use(self, policy: NodePolicy) -> None:
        """From now on mappings are judged by `policy`."""
        self.policy = policy
        self._endpoints = {one.endpoint.address.packed: one.endpoint.key for one in policy.endpoints}
        self.learned.endpoints = self._endpoints.keys()

    async def update(self, request: pb.FQDNMapping, answered: Answered | None = None) -> Taken:
        """NO_ERROR only when every address that counts is in the kernel."""
        try:
            report = self._checked(request, answered)
        except _Refusal as refusal:
            self.journal.record(Event.MAPPING_REFUSED, name=cut(request.fqdn), reason=str(refusal))
            return Taken(refusal.code)
        if report is None:
            return Taken(pb.RESPONSE_CODE_NO_ERROR)
        return await self._commit(report, request.fqdn)

    def _checked(self, request: pb.FQDNMapping, answered: Answered | None) -> _Report | None:
        """None where there is nothing to learn, whoever asked for whatever. Raises _Refusal."""
        if request.response_code != NOERROR or not request.record_ip:
            return None
        if len(request.record_ip) > codec.MOST_ADDRESSES:
            raise _Refusal(pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT, "more addresses than an answer can hold")
        try:
            name = codec.name_from_wire(request.fqdn)
            source = codec.pod_address_from_wire(request.source_ip, "source_ip")
            reported = [codec.address_from_wire(value, "record_ip") for value in request.record_ip]
        except codec.BadMessage as error:
            raise _Refusal(pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT, str(error)) from error
        endpoint = self._endpoints.get(source)
        if endpoint is None:
            raise _Refusal(pb.RESPONSE_CODE_ERROR_ENDPOINT_NOT_FOUND, "endpoint not found")
        addresses = tuple(filter(self._is_learnable, codec.ipv4_only(reported)))
        whole = len(addresses) == len(reported)
        ttl_s = self._ttl_s(request, answered)
        return _Report(name, endpoint, addresses, whole, ttl_s) if ttl_s >= 0 else None

    def _ttl_s(self, request: pb.FQDNMapping, answered: Answered | None) -> float:
        """What is left of it now. A TTL of 0 that comes on time counts: its pod is about to connect."""
        ttl_s = min(max(answered.ttl_s if answered else request.ttl, self.min_ttl_s), MAX_TTL_S)
        age_s = max(0.0, self.wall_clock() - answered.at) if answered else 0.0
        return ttl_s - age_s if age_s > ON_TIME_S else ttl_s

    async def _commit(self, report: _Report, fqdn: str) -> Taken:
        try:
            async with self.learned.kernel.lock:
                change = self.learned.learn(report.name, report.addresses, report.ttl_s, report.endpoint)
        except AcnsError as error:
            log.failure("mapping not committed", error, name=fqdn)
            return Taken(pb.RESPONSE_CODE_SERVER_FAILURE)
        self.flows.learned(report.name, report.addresses, report.ttl_s)
        self.journal.record(
            Event.MAPPING_COMMITTED,
            name=fqdn,
            endpoint=report.endpoint,
            addresses=[str(IPv4Address(address)) for address in report.addresses],
            ttl=round(report.ttl_s, 3),
            sets=[selector.key for selector in change.put],
        )
        # What is left out now may be learnable later: of that the resolver has to tell again.
        kept_s = self.learned.promise(report.name, report.addresses) if report.whole else 0.0
        return Taken(pb.RESPONSE_CODE_NO_ERROR, kept_s)

    def _is_learnable(self, address: bytes) -> bool:
        """Whether names may open it: neither special, nor a pod's, a node's, a Service's."""
        if self.policy is None or not is_learnable_address(address):
            return False
        inside = IPv4Address(address)
        return (
            inside not in self.policy.cluster_addresses
            and inside not in self.policy.node_addresses
            and inside not in self.policy.service_addresses
        )
