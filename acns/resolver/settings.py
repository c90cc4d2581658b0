"""Settings of the security resolver."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Literal

from acns import settings_rules
from acns.api import address
from acns.telemetry import sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolverSettings:
    """One flat TOML file; every field has a default."""

    fqdndata: str = "unix:/run/acns/fqdndata.sock"
    """The shim's FQDNData service: `unix:PATH`, or `host:port` on the loopback (Cilium: 127.0.0.1:10095)."""

    state_dir: str = "/run/acns/resolver"
    """Folder, mode 0700, for what must outlive the process: the last policy, and mappings that the shim has
    not confirmed. Empty keeps nothing."""

    takeover: bool = True
    """While the shim is away or hangs, commit new addresses of allowed names in its stead. Off, their answers
    leave all the same and the addresses open when the shim is back, as with the real service."""

    shim_ledger: str = "/run/acns/shim/ledger.log"
    """The shim's `ledger.log`, in its state_dir: for the takeover, which selectors rules name."""

    http_socket: str = "/run/acns/resolver-http.sock"
    """Unix socket path, or host:port, of /healthz, /readyz and /metrics; empty turns them off."""

    handover_socket: str = "/run/acns/resolver-handover.sock"
    """Unix socket path where a next process (`--takeover`) is given everything; empty turns it off."""

    outlive_handover: bool = False
    """Stay, with nothing to do, when a next process has everything: where a process that ends is started
    again, as in a pod, which would take everything back."""

    listen_port: int = 10053
    """UDP and TCP port on 127.0.0.1 to which the kernel redirects; the shim's `proxy_port` is the same."""

    denied: Literal["refused", "nxdomain"] = "refused"
    """Answer to a name that no rule allows. musl ends its search list at REFUSED, not at NXDOMAIN."""

    aaaa: Literal["nodata", "passthrough"] = "nodata"
    """IPv6 addresses of an allowed name: taken out of the answer (no pod can use them), or left in."""

    upstream_timeout_ms: int = 10_000
    """How long a DNS server may think, in ms, from the query to the answer (Cilium: 10 s)."""

    transparent: bool = False
    """Ask DNS servers from the pod's own address and port, as Cilium's transparent mode does; the shim's
    setting of this name has to be on too. Only for `transparent_servers`."""

    transparent_servers: str = ""
    """CIDRs, with commas between them, of servers that are no Service's address, whatever kind of address a
    Service may have; others are asked from the node's address. `transparent` needs some."""

    upstream_silent: Literal["none", "servfail"] = "none"
    """What the pod gets when the server stays silent: nothing, as the real one does, or SERVFAIL."""

    commit_timeout_ms: int = 100
    """How long an answer waits for the shim's commit, in ms (Cilium: tofqdns-proxy-response-max-delay)."""

    max_in_flight: int = 8_192
    """Queries being worked on at once; past it SERVFAIL. Bounds memory: some 10 KiB each at worst, since
    those over 2 KiB, and such answers while they wait for their commit, may have 8 MiB together and 1 MiB of
    one endpoint. With `transparent` each may take a descriptor, and where these are short the node's address
    is used."""

    max_in_flight_per_endpoint: int = 2_048
    """The same for one endpoint, so that a flood from one pod leaves room for the others."""

    max_in_flight_per_server: int = 6_144
    """The same for one DNS server, so that one that has died leaves room for queries to the others."""

    max_in_flight_per_endpoint_and_server: int = 1_536
    """The same for what one endpoint asks one DNS server."""

    max_queries_per_second_per_pod: int = 15_000
    """Messages a second from one pod address, denied and malformed ones too; the kernel drops what is past
    the shim's setting of this name, which should be above. The real service warns at 1,000."""

    max_new_names_per_second_per_pod: int = 5
    """Names of one pod a second whose addresses have to be committed: each costs both agents together more
    than 1 ms. Past it a name that the pod has not asked for before is over its budget; one that it has, in
    whatever case and with whatever options, goes on, as long as it is among the last ten thousand or so of
    all pods that were asked for, or of those that brought addresses."""

    max_new_names_at_once_per_pod: int = 1_000
    """So many of them a pod may be ahead of that: a program that starts may look up hundreds."""

    over_budget: Literal["servfail", "tc"] = "servfail"
    """What a query past a budget gets over UDP: SERVFAIL, or TC, with which the client comes by TCP."""

    max_tcp_connections: int = 2_048
    """TCP connections of pods at once; past it new ones are closed. Each may take two descriptors."""

    max_tcp_connections_per_pod: int = 128
    """The same for one pod address."""

    max_tcp_pipeline: int = 64
    """Queries in flight on one TCP connection; past it the connection is not read (RFC 7766 6.2.1.1)."""

    tcp_idle_timeout_ms: int = 10_000
    """A TCP connection without a complete query, or whose peer does not read, is closed after this, in ms."""

    reply_sockets: int = 1_024
    """Transparent sockets kept open to answer from, one per DNS server; least recently used first out."""

    replay_limit: int = 10_000
    """Mappings kept while the shim is away; past it the oldest go, counted. One with more than ten addresses
    counts by them: with a hundred it is ten."""

    log_file: str = ""
    """File for the JSON log; empty is stderr."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: this and worse."""

    journal_file: str = ""
    """File for the decision journal, one JSON object a line; empty is off."""

    def __post_init__(self) -> None:
        settings_rules.check_texts(self)
        settings_rules.check_numbers(self)
        settings_rules.check_pages(self)
        with settings_rules.of("handover_socket"):
            sockets.check_path(self.handover_socket)
        if not 1 <= self.listen_port <= 65_535:
            raise ValueError("listen_port must be 1 to 65535")
        with settings_rules.of("fqdndata"):
            address.check_peer(self.fqdndata)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and not isinstance(value, bool) and value < 1:
                raise ValueError(f"{field.name} must be at least 1, not {value}")
        if self.transparent and not transparent_servers(self.transparent_servers):
            raise ValueError("transparent needs transparent_servers, such as '172.18.0.0/16, 192.0.2.53'")
        if self.max_in_flight > 400_000:
            raise ValueError("max_in_flight must be at most 400000: there are 16 sockets with 65536 IDs each")


def transparent_servers(text: str) -> tuple[IPv4Network, ...]:
    """The networks of the setting. Raises ValueError."""
    try:
        return tuple(IPv4Network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise ValueError(f"transparent_servers: {error}") from error
