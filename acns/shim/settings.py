"""Settings of the Cilium-shim."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from acns import settings_rules
from acns.api import address
from acns.telemetry import sockets


@dataclass(frozen=True, slots=True, kw_only=True)
class ShimSettings:
    """One flat TOML file; every field but `node` and `state_dir` has a default."""

    node: str
    """Name of this node, as in the manifests' `spec.nodeName`."""

    state_dir: str
    """Folder for what must outlive the process: numbers, ids, the last good manifests; mode 0700."""

    source: Literal["files", "kubernetes"] = "files"
    """Where objects come from: the folder `manifests`, or an API server."""

    manifests: str = ""
    """Folder of Kubernetes manifests (*.yaml, *.yml, *.json) to watch; needed where `source` is files."""

    kubeconfig: str = ""
    """File that says where the API server is and who we are; empty: the ServiceAccount of our pod."""

    kube_context: str = ""
    """Which context of it; empty: its current one."""

    report_as: str = ""
    """`namespace/name` of the pod that this shim is: the first ready one of its kind tells the cluster of
    policies, in their status and by events. Empty: nothing is written to the API server."""

    watch_silence_s: float = 120.0
    """Seconds without a word after which a watch is taken for dead (API servers send a bookmark a minute)."""

    fqdndata_socket: str = "/run/acns/fqdndata.sock"
    """Unix socket of the FQDNData service, mode 0600: whoever reaches it can open the firewall."""

    tcp_listen: str = ""
    """Loopback `host:port` to serve FQDNData on TCP too, as Cilium does (127.0.0.1:10095). Off: no TLS."""

    http_socket: str = "/run/acns/shim-http.sock"
    """Unix socket path, or host:port, of /healthz, /readyz and /metrics; empty turns them off."""

    profile: Literal["acns", "cilium"] = "acns"
    """What policies may say: what ACNS accepts, or all of Cilium's language that can be enforced here."""

    enforcement: Literal["default", "always", "never"] = "default"
    """Directions of pods that are enforced: those that policies select, all, none (Cilium: enable-policy)."""

    unknown_pods: Literal["open", "closed"] = "open"
    """Pods that the shim has not heard of yet: as Kubernetes made them, or closed until it has. Closed, a
    pod's first packets may have to be sent again."""

    deny_response: Literal["none", "icmp"] = "none"
    """What answers a denied packet: nothing, or ICMP admin-prohibited (Cilium: policy-deny-response)."""

    unsuitable_node: Literal["refuse", "warn"] = "refuse"
    """What becomes of a node where policy cannot be enforced: another engine does it, pods are bridged,
    DNS is node-local. `warn` is for who knows better: what the shim then enforces is not all."""

    proxy_port: int = 10053
    """Port on 127.0.0.1 where the resolver takes redirected DNS."""

    max_queries_per_second_per_pod: int = 20_000
    """DNS messages (datagrams, new TCP connections) of one pod let through to the resolver; the rest is
    dropped in the kernel, counted. The resolver's own limit, which answers, should be below it."""

    transparent: bool = False
    """Let the resolver ask DNS servers from a pod's own address; its setting of this name is on then too."""

    fqdn_gc_interval_s: float = 60.0
    """Seconds between collections of expired addresses (Cilium: one minute)."""

    agent_down_grace_s: float = 3600.0
    """Seconds a learned address stays in the kernel, past its TTL, when nobody is left to collect it."""

    idle_grace_s: float = 0.0
    """Seconds an expired address outlives its last connection (tofqdns-idle-connection-grace-period)."""

    min_ttl_s: int = 0
    """TTLs below this are raised to it (Cilium: tofqdns-min-ttl)."""

    max_addresses_per_name: int = 1000
    """Addresses kept per name (Cilium: tofqdns-endpoint-max-ip-per-hostname)."""

    max_names: int = 50_000
    """Names with addresses kept on this node; past it endpoints that hold more than their share lose some."""

    max_addresses: int = 100_000
    """Addresses of all names, alike."""

    settle_ms: int = 150
    """A manifest is read when it has been untouched for this long: nobody writes a file in one instant."""

    journal_file: str = ""
    """File for the decision journal, JSON lines; empty is off."""

    flow_log_file: str = ""
    """File for the flow log, JSON lines; empty is off."""

    flow_log: Literal["drops", "all"] = "drops"
    """What the flow log has: packets that were denied, or new connections too."""

    log_file: str = ""
    """File for the JSON log; empty is stderr."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged: this and worse."""

    def __post_init__(self) -> None:
        settings_rules.check_texts(self)
        settings_rules.check_given(self, "node", "state_dir", "fqdndata_socket")
        settings_rules.check_numbers(self)
        settings_rules.check_pages(self)
        with settings_rules.of("fqdndata_socket"):
            sockets.check_link(self.fqdndata_socket)
        with settings_rules.of("tcp_listen"):
            if self.tcp_listen:
                address.check_tcp(self.tcp_listen)
        if self.source == "files":
            settings_rules.check_given(self, "manifests")
        if self.report_as and not all(self.report_as.partition("/")):
            raise ValueError("report_as must be namespace/name of a pod")
        if not 0 < self.watch_silence_s < math.inf:
            raise ValueError("watch_silence_s must be more than 0")
        if not 1 <= self.proxy_port <= 65_535:
            raise ValueError("proxy_port must be 1 to 65535")
        for name in (
            *("max_queries_per_second_per_pod", "max_addresses_per_name"),
            *("max_names", "max_addresses"),
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("agent_down_grace_s", "idle_grace_s", "min_ttl_s", "settle_ms"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number from 0 on")
        if not 0 < self.fqdn_gc_interval_s < math.inf:
            raise ValueError("fqdn_gc_interval_s must be more than 0")
