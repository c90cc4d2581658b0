"""The scenario: a bug as something that can be run again, without the packets it was found in.

Who asked what and when, what the server answered, who connected where, and what came of each as it was
recorded. These models are the schema; `lab.repro.scenario.load` reads a file into them with every error at
file:line:col, and writes them so that reading gives the same again. Addresses are those that a lab can have;
where the capture had others, an assumption says so.
"""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Annotated, Any, Literal

from pydantic import Field

from lab.spec.topology import DNSLabel, Labels, Section

Transport = Literal["udp", "tcp"]
Milliseconds = Annotated[float, Field(ge=0, le=86_400_000, allow_inf_nan=False)]
Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=131_070)]
Line = Annotated[str, Field(max_length=131_072, pattern=r"^[ -~]*$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][-A-Za-z0-9_.]{0,90}\.yaml$")]
Number = Annotated[int, Field(ge=1, le=1_000_000)]
Flags = Annotated[str, Field(pattern=r"^((aa|tc|rd|ra|ad|cd)( (aa|tc|rd|ra|ad|cd))*)?$")]
RcodeName = Annotated[str, Field(pattern=r"^[A-Z]{2,12}[0-9]{0,2}$")]

CONNECTED = ("established", "late", "reset", "unreachable", "silent")
SENT = ("passes", "cut")
FORWARDED, HELD = "forwarded", "held"
FIRST_NODE = "node1"
MAX_NODES = 16
MAX_WIRE = 64
"""Packets of one step."""


class Pod(Section):
    """A pod that asks or connects, or is connected to."""

    name: DNSLabel
    """What steps call it."""
    namespace: DNSLabel = "default"
    """Policies may be about it."""
    address: IPv4Address | None = None
    """One of the node's pod network; without it the next free one."""
    labels: Labels = Field(default_factory=dict)
    """What policies select it by."""
    node: DNSLabel | None = None
    """One of `nodes`; without it the first."""


class Server(Section):
    """A DNS server, which says what the steps say, and nothing else."""

    name: DNSLabel
    """What steps call it; the pod and the Service of one in the cluster are called the same."""
    address: IPv4Address
    """As pods ask it: a ClusterIP where it has labels, else an address outside the cluster."""
    namespace: DNSLabel = "kube-system"
    """Of one in the cluster."""
    labels: Labels = Field(default_factory=dict)
    """Of its pod; without any it is outside the cluster."""


class Policy(Section):
    """A file of Kubernetes manifests that is in force from the start."""

    name: FileName
    """What reasons and steps call it."""
    text: Annotated[str, Field(max_length=1 << 20)]
    """The manifests' own YAML text."""


class Answer(Section):
    """Something that a DNS server, or somebody in its place, sends: records, or the very octets."""

    after_ms: Milliseconds = 0
    """After the query has come to it."""
    rcode: RcodeName = "NOERROR"
    """Such as NXDOMAIN."""
    flags: Flags = "rd ra"
    """Of the header, but for QR."""
    records: tuple[Line, ...] = ()
    """`NAME TTL TYPE DATA` each, in this order; data of types without a form here is `\\# HEX`."""
    authority: tuple[Line, ...] = ()
    """The same for the authority section."""
    additional: tuple[Line, ...] = ()
    """The same for the additional section."""
    octets: Hex | None = None
    """In the place of all that: the message from its flags on to its end, without the ID; the question in it
    is the one that is asked."""
    wrong_id: bool = False
    """It comes under another ID than was asked."""
    sender: str | None = Field(default=None, pattern=r"^[0-9.]{7,15}:[0-9]{1,5}$")
    """ADDRESS:PORT it comes from, where that is not whom was asked."""


class Step(Section):
    """One thing that happens: one of `ask`, `query`, `connect`, `send`, `apply`, `remove`, `fault`, or `wire`
    alone."""

    at_ms: Milliseconds = 0
    """When, from the beginning of the recording."""
    pod: DNSLabel | None = None
    """Who does it; without it the only pod."""
    ask: Line | None = None
    """NAME TYPE: a plain query, as most clients send it. The name's case is kept."""
    query: Hex | None = None
    """The octets of a query that is not plain, without its ID; they need not be DNS."""
    server: DNSLabel | None = None
    """Whom it asks; without it the only server."""
    over: Transport | None = None
    """By what it asks (without it UDP) or connects (without it TCP)."""
    edns: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """The size that a plain query's OPT record says."""
    socket: DNSLabel | None = None
    """Queries with the same word share a socket (over TCP a connection)."""
    answers: Annotated[tuple[Answer, ...], Field(max_length=64)] = ()
    """What the server said when the query came to it; nothing: it kept silent, or was not asked."""
    wire: Annotated[tuple[Hex, ...], Field(max_length=MAX_WIRE)] = ()
    """The very packets that the pod's link carried, from the IPv4 header on: of a query, or of what no other
    step says. `--wire` sends them."""
    connect: str | None = Field(default=None, pattern=r"^[0-9.]{7,15}:[0-9]{1,5}$")
    """ADDRESS:PORT."""
    open_ms: Milliseconds | None = None
    """How long a connection stays open; without it until the last `send` over it, or not at all."""
    send: Number | None = None
    """Something over the connection of that step."""
    apply: FileName | None = None
    """A file of manifests that comes, or changes; its text is `text`."""
    text: Annotated[str, Field(max_length=1 << 20)] | None = None
    """Of `apply`."""
    remove: FileName | None = None
    """A file of manifests that goes."""
    fault: Line | None = None
    """What becomes of an agent: `kill resolver`, `stop shim --node node2`, … (`lab.fault`); without a node of
    the first's."""
    after: Number | None = None
    """Not before that step is done: who connects to an address has first been told it."""
    outcome: Line = ""
    """What came of it, as recorded."""

    @property
    def transport(self) -> Transport:
        """UDP or TCP."""
        return self.over or ("tcp" if self.connect is not None else "udp")

    @property
    def kind(self) -> str:
        """`ask`, `connect`, `send`, `apply`, `remove`, `fault` or `wire`."""
        if self.ask is not None or self.query is not None:
            return "ask"
        found = next((kind for kind in KINDS if getattr(self, kind) is not None), "")
        return found or ("wire" if self.wire else "")


KINDS = ("ask", "query", "connect", "send", "apply", "remove", "fault")


class Scenario(Section):
    """A whole one."""

    scenario: DNSLabel
    """Its name."""
    version: Literal[1] = 1
    """Of this format."""
    about: str = ""
    """What it shows, for people."""
    assumptions: tuple[str, ...] = ()
    """What the recording does not say and was inferred."""
    shim: dict[str, Any] = Field(default_factory=dict)
    """Settings of each node's shim, by name."""
    resolver: dict[str, Any] = Field(default_factory=dict)
    """Settings of each node's resolver, by name."""
    nodes: Annotated[tuple[DNSLabel, ...], Field(min_length=1, max_length=MAX_NODES)] = (FIRST_NODE,)
    """In the order of their pod networks; the first has the DNS servers."""
    pods: Annotated[tuple[Pod, ...], Field(min_length=1, max_length=200)]
    """Each on a node."""
    servers: Annotated[tuple[Server, ...], Field(max_length=50)] = ()
    """Whom they ask."""
    policies: Annotated[tuple[Policy, ...], Field(max_length=500)] = ()
    """In force from the start."""
    steps: Annotated[tuple[Step, ...], Field(max_length=100_000)] = ()
    """In the order in which they began."""

    def pod_of(self, step: Step) -> Pod:
        return next(pod for pod in self.pods if step.pod in (None, pod.name))

    def node_of(self, pod: Pod) -> str:
        return pod.node or self.nodes[0]

    @property
    def needs_wire(self) -> bool:
        """Whether only recorded packets show all of it."""
        return any(step.wire for step in self.steps)  # a query too: in fragments say

    def server_of(self, step: Step) -> Server:
        return next(server for server in self.servers if step.server in (None, server.name))


def endpoint(text: str) -> tuple[IPv4Address, int]:
    """Of ADDRESS:PORT. Raises ValueError."""
    address, _, port = text.rpartition(":")
    number = int(port)
    if not 0 < number <= 65_535:
        raise ValueError(f"{port} is no port")
    return IPv4Address(address), number


__all__ = [
    "CONNECTED",
    "FIRST_NODE",
    "FORWARDED",
    "HELD",
    "KINDS",
    "MAX_NODES",
    "MAX_WIRE",
    "SENT",
    "Answer",
    "Pod",
    "Policy",
    "Scenario",
    "Server",
    "Step",
    "Transport",
    "endpoint",
]
