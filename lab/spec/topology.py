"""The topology file: what a lab is made of.

One YAML file describes nodes, pods, Services, the Internet behind them, the policies that apply and what
is expected to come of it. These models are the schema; `lab.spec.load` reads a file into them and reports
every error at once with file:line:col. Names become file, process and namespace names, so they are held
to DNS labels.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lab.spec.rdata import OtherType

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
HOSTNAME = r"^([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)+[a-z]{2,63}$"

VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"
OPTION = r"^[a-z][a-z0-9-]{0,31}$"
SEARCH = r"^[A-Za-z0-9_]([-.A-Za-z0-9_]*[A-Za-z0-9_])?\.?$"
RECORD = r"^[ -~]+$"

DNSLabel = Annotated[str, Field(pattern=DNS_LABEL)]
Hostname = Annotated[str, Field(pattern=HOSTNAME, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]
Labels = dict[str, str]
Word = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=VARIABLE)]

Script = Annotated[str, Field(max_length=65_536, pattern=r"^[^\x00]*$")]
RecordText = Annotated[str, Field(max_length=4096, pattern=RECORD)]
OptionName = Annotated[str, Field(pattern=OPTION)]
Search = Annotated[str, Field(pattern=SEARCH, max_length=254)]

Agent = Literal["shim", "resolver"]
AGENTS: tuple[Agent, ...] = ("shim", "resolver")


class Section(BaseModel):
    """Base of all parts: unknown fields are errors, values do not change. Editors show a field's text."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class ExternalProgram(Section):
    """A program that runs, as root and in the node's namespace, in the place of an agent.

    Placeholders are `lab.spec.external`'s. It is ready when `ready_port` of 127.0.0.1 accepts a TCP
    connection (default: the port at which an agent of its kind serves).
    """

    command: Annotated[tuple[Word, ...], Field(min_length=1)]
    """The program and its arguments; a path counts from the topology's folder."""
    environment: dict[Variable, Word] = {}
    """Variables that it gets beside the lab's own."""
    ready_port: Port | None = None
    """It is ready when this TCP port of 127.0.0.1 accepts."""
    ready_within_s: Annotated[int, Field(ge=1, le=240)] = 30
    """How long it may take to be ready."""


class ExternalAgents(Section):
    """Which of a node's agents are not ours."""

    shim: ExternalProgram | None = None
    """In the place of the Cilium-shim."""
    resolver: ExternalProgram | None = None
    """In the place of the security resolver."""

    def programs(self) -> Iterator[tuple[Agent, ExternalProgram]]:
        for agent in AGENTS:
            program: ExternalProgram | None = getattr(self, agent)
            if program is not None:
                yield agent, program


class Node(Section):
    """A node: a namespace with its own agent pair. `shim` and `resolver` override agent settings by name, but
    for places on the disk, which are the lab's; `external` puts programs of others' in the place of one or
    both."""

    name: DNSLabel
    """What its host name and its processes (`node1/shim`) are called."""
    shim: dict[str, Any] = {}
    """Settings of its shim, by name."""
    resolver: dict[str, Any] = {}
    """Settings of its resolver, by name."""
    external: ExternalAgents = ExternalAgents()


class WebProgram(Section):
    """The lab's web server: HTTP (and HTTPS) that answers with the name it was asked for."""

    kind: Literal["web"]
    """It serves IPv4 and IPv6."""
    http_port: Port = 80
    """Where HTTP is served."""
    https_port: Port = 443
    """Where HTTPS is served, by the lab's own authority, which pods trust."""


DNSKind = Literal["dnsmasq", "unbound", "scripted"]


class DNSProgram(Section):
    """The cluster's DNS: the Services by name, all other names as the Internet's DNS has them."""

    kind: DNSKind
    """`dnsmasq` forwards each query; `unbound` keeps answers for their TTL; `scripted` is the lab's own, and
    does also what names say of delays, rcodes, truncation and turns."""
    port: Port = 53
    """Where it listens, over UDP and TCP."""


class CommandProgram(Section):
    """Any program of this machine, as root, in the pod; `lab.up` runs it with `--external` only."""

    kind: Literal["command"]
    """Anything that runs in the foreground; it is started again when it ends."""
    command: Annotated[tuple[Word, ...], Field(min_length=1)]
    """The program and its arguments; a path counts from the topology's folder."""
    ready_port: Port | None = None
    """It is ready when this TCP port of 127.0.0.1 accepts (default: as soon as it runs)."""


class ShellProgram(Section):
    """A script for /bin/sh, as root, in the pod; `lab.up` runs it with `--external` only."""

    kind: Literal["shell"]
    """Anything that runs in the foreground; it is started again when it ends."""
    script: Script
    """What /bin/sh gets by -c."""
    ready_port: Port | None = None
    """It is ready when this TCP port of 127.0.0.1 accepts (default: as soon as it runs)."""


Program = Annotated[WebProgram | DNSProgram | CommandProgram | ShellProgram, Field(discriminator="kind")]


class PodDNS(Section):
    """The pod's resolv.conf, by the rules of Kubernetes' dnsPolicy and dnsConfig."""

    policy: Literal["ClusterFirst", "Default", "None"] = "ClusterFirst"
    """ClusterFirst: the cluster's DNS, its search list, ndots:5. Default: the node's DNS. None: only what
    stands here."""
    nameservers: Annotated[tuple[IPv4Address, ...], Field(max_length=3)] = ()
    """Asked after those of the policy."""
    searches: Annotated[tuple[Search, ...], Field(max_length=32)] = ()
    """Behind those of the policy."""
    options: dict[OptionName, int | None] = {}
    """Such as `ndots: 1`; without a value: `use-vc: null`. They replace the policy's."""


class Pod(Section):
    """A pod: a namespace behind a veth, on `node`. Without `program` it idles and waits for `lab.exec`."""

    name: DNSLabel
    """Its host name too; unique in its namespace."""
    node: DNSLabel
    """The node on which it runs."""
    namespace: DNSLabel = "default"
    """The Kubernetes namespace; namespaces are made as they are used."""
    labels: Labels = {}
    """What policies and Services select it by."""
    service_account: DNSLabel = "default"
    """Cilium's policies can select by it."""
    address: IPv4Address | None = None
    """One of the node's pod network; without it the next free one."""
    program: Program | None = None
    """What runs in it."""
    dns: PodDNS | None = None
    """Without it as in a cluster: ClusterFirst, and Default for the DNS server itself."""


class Link(Section):
    """A worse link, both ways, from a pod to its node or from a node to the others."""

    of: Annotated[str, Field(max_length=127)]
    """A pod, by `name` or `namespace/name`, or a node."""
    loss: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of packets lost at random."""
    rate_kbit: Annotated[int, Field(ge=8, le=34_000_000)] | None = None
    """No more than so many kilobits a second, each way."""
    delay_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    """So much later, each way; where the kernel has netem only, which `lab.doctor` says."""


class ServicePort(Section):
    """A port of a Service."""

    name: DNSLabel
    """Unique in the Service."""
    port: Port
    """The port on the ClusterIP."""
    protocol: Literal["TCP", "UDP"] = "TCP"
    """TCP is meant where nothing is said."""
    target_port: Port | None = None
    """The port on the pods, where policy is judged; the same without it."""


class Service(Section):
    """A ClusterIP Service in front of the pods that `selector` names; translated as kube-proxy does it."""

    name: DNSLabel
    """`kube-dns` in `kube-system` is the cluster's DNS."""
    namespace: DNSLabel = "default"
    """It selects pods of its own namespace only."""
    cluster_ip: IPv4Address
    """One of 10.96.0.0/16."""
    selector: Labels
    """Labels that its pods have."""
    ports: tuple[ServicePort, ...]
    """What is translated; other ports are nobody's."""


Rcode = Literal["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"]


class InternetName(Section):
    """One DNS name of the Internet. What is said from `rotate` on, only `scripted` servers can do."""

    a: tuple[IPv4Address, ...] = ()
    """IPv4 addresses; the Internet serves HTTP and HTTPS on each."""
    aaaa: tuple[IPv6Address, ...] = ()
    """IPv6 addresses, served in the same way."""
    cname: Hostname | None = None
    """Another name of the same server, which has the addresses."""
    records: dict[OtherType, tuple[RecordText, ...]] = {}
    """Records of other types, as a zone file has them: `MX: ["10 mail.example.com."]`."""
    ttl_s: Annotated[int, Field(ge=0, le=86_400)] = 60
    """TTL of all its records."""
    rotate: bool = False
    """Hand out the addresses of `a` one per answer, in turn."""
    delay_ms: Annotated[int, Field(ge=0, le=60_000)] = 0
    """Each answer comes so much later."""
    rcode: Rcode | None = None
    """The answer is this and nothing else."""
    truncate: bool = False
    """Over UDP the answer is empty with TC set, however small it is."""


class InternetServer(Section):
    """One more DNS server of the Internet, with the names of all or with names of its own."""

    name: DNSLabel
    """What its process is called: `internet/NAME`."""
    address: IPv4Address
    """Where it listens; the Internet owns it."""
    kind: DNSKind = "scripted"
    """All kinds are authoritative for the names, and for no other."""
    names: dict[Hostname, InternetName] | None = None
    """In the place of `internet.names`."""


class Internet(Section):
    """Everything outside the cluster: one router namespace that owns every address named here and serves
    HTTP, HTTPS and (at `dns` and `servers`) DNS on them."""

    dns: IPv4Address = IPv4Address("203.0.113.53")
    """The server that the cluster's DNS and the nodes ask: a scripted one."""
    servers: tuple[InternetServer, ...] = ()
    """More DNS servers, for whoever asks them."""
    names: dict[Hostname, InternetName] = {}
    """What `dns` answers, and each of `servers` without names of its own."""

    def all_names(self) -> Iterator[tuple[str, InternetName]]:
        """Names with their records, whichever server has them."""
        yield from self.names.items()
        for server in self.servers:
            yield from (server.names or {}).items()


class Manifest(Section):
    """Kubernetes manifests that every node's shim gets: a file beside the topology, or inline YAML text."""

    file: str | None = None
    """A file in this file's folder or below."""
    inline: str | None = None
    """The manifests' own YAML text."""


class Topology(Section):
    """A whole lab. `expect` holds statements such as `frontend connects api.example.com:443`."""

    name: DNSLabel
    """The lab's name too, unless `lab.up --name` says else; the file's, without .yaml."""
    description: str = ""
    """One line for people."""
    nodes: tuple[Node, ...]
    """Each with its own agent pair; at least one."""
    pods: tuple[Pod, ...] = ()
    """Addresses are given out in this order."""
    services: tuple[Service, ...] = ()
    """Translated on every node, as kube-proxy does."""
    internet: Internet = Internet()
    """What is outside of the cluster."""
    links: tuple[Link, ...] = ()
    """Links that are worse than others."""
    policies: tuple[Manifest, ...] = ()
    """Files, or inline YAML; all nodes get all of them."""
    faults: tuple[str, ...] = ()
    """What is broken once the lab is up, in the words of `lab.fault`: `stop shim`, `link lossy frontend`."""
    expect: tuple[str, ...] = ()
    """Statements that `lab.check` tries; see below."""

    def external_commands(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Programs of the topology's own, which run as root: where, and the command line."""
        for node in self.nodes:
            for agent, program in node.external.programs():
                yield f"on {node.name}, as {agent}", program.command
        for pod in self.pods:
            if isinstance(pod.program, CommandProgram):
                yield f"in pod {pod.name}", pod.program.command
            elif isinstance(pod.program, ShellProgram):
                yield f"in pod {pod.name}", ("/bin/sh", "-c", pod.program.script)
