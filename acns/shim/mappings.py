"""What becomes of a mapping that a resolver reports: judged, learned, committed, answered.

The message comes from a process that reads hostile bytes, so every field is checked again here. What a name
may never open (loopback, link-local, multicast, pods, nodes, ClusterIPs) is left out, whoever says it. Real
peers also report each query, without addresses, and failed answers: these are answered and change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address

from acns.api import codec
from acns.api import fqdndata_pb2 as pb
from acns.errors import AcnsError
from acns.fqdn.addresses import is_learnable_address
from acns.policy.model import NodePolicy
from acns.shim.learned import Learned
from acns.telemetry import log as logs
from acns.telemetry.journal import Event, Journal

log = logs.named(__name__)

NOERROR = 0
MAX_TTL_S = 7 * 86_400  # RFC 8767 section 4: a longer TTL is capped


class Mappings:
    """Answers `UpdateMappingRequest`. `policy`: what the kernel enforces; None before the first."""

    def __init__(self, learned: Learned, journal: Journal, min_ttl_s: int) -> None:
        self.learned = learned
        self.journal = journal
        self.min_ttl_s = min_ttl_s
        self.policy: NodePolicy | None = None
        self._endpoints: dict[bytes, str] = {}

    def use(self, policy: NodePolicy) -> None:
        """From now on mappings are judged by `policy`."""
        self.policy = policy
        self._endpoints = {one.endpoint.address.packed: one.endpoint.key for one in policy.endpoints}

    async def update(self, request: pb.FQDNMapping) -> pb.ResponseCode.ValueType:
        """The response code; NO_ERROR only when every address that counts is in the kernel."""
        try:
            name = codec.name_from_wire(request.fqdn)
            source = codec.address_from_wire(request.source_ip, "source_ip")
            reported = [codec.address_from_wire(value, "record_ip") for value in request.record_ip]
        except codec.BadMessage as error:
            self.journal.record(Event.MAPPING_REFUSED, name=request.fqdn, reason=str(error))
            return pb.RESPONSE_CODE_ERROR_INVALID_ARGUMENT
        endpoint = self._endpoints.get(source)
        if endpoint is None:
            self.journal.record(Event.MAPPING_REFUSED, name=request.fqdn, reason="endpoint not found")
            return pb.RESPONSE_CODE_ERROR_ENDPOINT_NOT_FOUND
        if request.response_code != NOERROR or not reported:
            return pb.RESPONSE_CODE_NO_ERROR
        addresses = tuple(self._learnable(codec.ipv4_only(reported)))
        ttl_s = min(max(request.ttl, self.min_ttl_s), MAX_TTL_S)
        try:
            async with self.learned.kernel.lock:
                change = self.learned.learn(name, addresses, ttl_s)
        except AcnsError as error:
            log.failure("mapping not committed", error, name=request.fqdn)
            return pb.RESPONSE_CODE_SERVER_FAILURE
        self.journal.record(
            Event.MAPPING_COMMITTED,
            name=request.fqdn,
            endpoint=endpoint,
            addresses=[str(IPv4Address(address)) for address in addresses],
            ttl=ttl_s,
            sets=[selector.key for selector in change.put],
        )
        return pb.RESPONSE_CODE_NO_ERROR

    def _learnable(self, addresses: Iterable[bytes]) -> Iterable[bytes]:
        if self.policy is None:
            return
        for address in addresses:
            inside = IPv4Address(address)
            if (
                is_learnable_address(address)
                and inside not in self.policy.cluster_addresses
                and inside not in self.policy.node_addresses
                and inside not in self.policy.service_addresses
            ):
                yield address
