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

DNS_LABEL = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
HOSTNAME = r"^([a-z0-9_]([-a-z0-9_]{0,61}[a-z0-9_])?\.)+[a-z]{2,63}$"

VARIABLE = r"^[A-Za-z_][A-Za-z0-9_]*$"

DNSLabel = Annotated[str, Field(pattern=DNS_LABEL)]
Hostname = Annotated[str, Field(pattern=HOSTNAME, max_length=253)]
Port = Annotated[int, Field(ge=1, le=65535)]
Labels = dict[str, str]
Word = Annotated[str, Field(max_length=4096, pattern=r"^[^\x00]*$")]
Variable = Annotated[str, Field(pattern=VARIABLE)]

Agent = Literal["shim", "resolver"]
AGENTS: tuple[Agent, ...] = ("shim", "resolver")


class Section(BaseModel):
    """Base of all parts: unknown fields are errors, values do not change. Editors show a field's text."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class ExternalProgram(Section):
    """A program that runs, as root and in the node's namespace, in the place of an agent.

    Placeholders are `lab.spec.external`'s. It is ready when `ready_port` of 127.0.0.1 accepts a TCP
    connection (default: the port at which an agent of its kind serves).
    """

    command: Annotated[tuple[Word, ...], Field(min_length=1)]
    environment: dict[Variable, Word] = {}
    ready_port: Port | None = None
    ready_within_s: Annotated[int, Field(ge=1, le=240)] = 30


class ExternalAgents(Section):
    """Which of a node's agents are not ours."""

    shim: ExternalProgram | None = None
    resolver: ExternalProgram | None = None

    def programs(self) -> Iterator[tuple[Agent, ExternalProgram]]:
        for agent in AGENTS:
            program: ExternalProgram | None = getattr(self, agent)
            if program is not None:
                yield agent, program


class Node(Section):
    """A node: a namespace with its own agent pair. `shim` and `resolver` override agent settings by name;
    `external` puts programs of others' in the place of one or both."""

    name: DNSLabel
    shim: dict[str, Any] = {}
    resolver: dict[str, Any] = {}
    external: ExternalAgents = ExternalAgents()


class WebProgram(Section):
    """The lab's web server: HTTP (and HTTPS) that answers with the name it was asked for."""

    kind: Literal["web"]
    http_port: Port = 80
    https_port: Port = 443


class DNSProgram(Section):
    """dnsmasq as the cluster's DNS: the Services by name, all other names forwarded to the Internet's DNS."""

    kind: Literal["dnsmasq"]
    port: Port = 53


Program = Annotated[WebProgram | DNSProgram, Field(discriminator="kind")]


class Pod(Section):
    """A pod: a namespace behind a veth, on `node`. Without `program` it idles and waits for `lab.exec`."""

    name: DNSLabel
    node: DNSLabel
    namespace: DNSLabel = "default"
    labels: Labels = {}
    service_account: DNSLabel = "default"
    address: IPv4Address | None = None
    program: Program | None = None


class ServicePort(Section):
    name: DNSLabel
    port: Port
    protocol: Literal["TCP", "UDP"] = "TCP"
    target_port: Port | None = None


class Service(Section):
    """A ClusterIP Service in front of the pods that `selector` names; translated as kube-proxy does it."""

    name: DNSLabel
    namespace: DNSLabel = "default"
    cluster_ip: IPv4Address
    selector: Labels
    ports: tuple[ServicePort, ...]


class InternetName(Section):
    """One DNS name of the Internet. `rotate` hands out the addresses of `a` one per answer, in turn."""

    a: tuple[IPv4Address, ...] = ()
    aaaa: tuple[IPv6Address, ...] = ()
    cname: Hostname | None = None
    ttl_s: Annotated[int, Field(ge=0, le=86_400)] = 60
    rotate: bool = False


class Internet(Section):
    """Everything outside the cluster: one router namespace that owns every address named here and serves
    HTTP, HTTPS and (at `dns`) DNS on them."""

    dns: IPv4Address = IPv4Address("203.0.113.53")
    names: dict[Hostname, InternetName] = {}


class Manifest(Section):
    """Kubernetes manifests that every node's shim gets: a file beside the topology, or inline YAML text."""

    file: str | None = None
    inline: str | None = None


class Topology(Section):
    """A whole lab. `expect` holds statements such as `frontend connects api.example.com:443`."""

    name: DNSLabel
    description: str = ""
    nodes: tuple[Node, ...]
    pods: tuple[Pod, ...] = ()
    services: tuple[Service, ...] = ()
    internet: Internet = Internet()
    policies: tuple[Manifest, ...] = ()
    expect: tuple[str, ...] = ()
