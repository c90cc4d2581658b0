"""A topology as Kubernetes objects: namespaces, pods with their programs, Services, the cluster's DNS.

The cluster's own CoreDNS takes the place of the topology's DNS pod; behind it is the lab's Internet. Pods get
the addresses that the cluster gives: statements that name a planned one are told the real one.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any, Final

import yaml

from acns import located, scalars
from acns.policy import ignores
from lab.errors import InputError
from lab.spec.expect import Expectation, PolicyExpectation, Statement
from lab.spec.plan import Addressing
from lab.spec.topology import (
    CommandProgram,
    DNSProgram,
    Pod,
    PodDNS,
    Service,
    ServicePort,
    ShellProgram,
    Topology,
    WebProgram,
)
from lab.world.services import cluster_dns, namespaces, target_port

Manifest = dict[str, Any]
PODS_IMAGE: Final = "acns-lab-pods:dev"
AGENTS_IMAGE: Final = "acns-lab:dev"
AGENTS: Final = "acns-system"
FILES: Final = "/etc/acns-lab"
CONFIG: Final = "acns-lab-files"
LABEL: Final = "acns-lab/lab"
_SEEN: Final[Mapping[str, dict[str, Any]]] = {
    "shim": {
        "flow_log_file": "/var/lib/acns/flows.jsonl",
        "flow_log": "all",
        "journal_file": "/var/lib/acns/shim-journal.jsonl",
    },
    "resolver": {"journal_file": "/run/acns/resolver-journal.jsonl"},
}
"""What `lab.observe` and `lab.events` read: files on the nodes, where the agents may write. A topology may
say otherwise."""
MOST_PODS: Final = 100
_OWN: Final = ("default", "kube-system")


def unsupported(topology: Topology) -> list[str]:
    """What of it only the network namespaces of one machine can do."""
    found = []
    for node in topology.nodes:
        if node.external.shim or node.external.resolver:
            found.append(f"node {node.name}: external agents")
        if node.resolver.get("transparent"):
            found.append(f"node {node.name}: its DNS asked as the pod that asks (CoreDNS is the DNS here)")
        if (many := sum(pod.node == node.name for pod in topology.pods)) > MOST_PODS:
            found.append(f"node {node.name}: {many} pods; a kubelet takes {MOST_PODS} beside its own")
    if len({(str(node.shim), str(node.resolver)) for node in topology.nodes}) > 1:
        found.append("settings of agents that differ from node to node")
    for pod in pods(topology):
        if isinstance(pod.program, DNSProgram):
            found.append(f"pod {pod.name}: a DNS server of its own")
    found += [f"link {link.of}: worse links" for link in topology.links]
    found += [f"fault at the start: {fault}" for fault in topology.faults]
    found += [
        f"Internet server {one.name}: kind {one.kind}"
        for one in topology.internet.servers
        if one.kind != "scripted"
    ]
    return found


def refuse_unsupported(topology: Topology) -> None:
    """Raises InputError with all of it."""
    if found := unsupported(topology):
        raise InputError(
            "a lab on kind cannot do what this topology asks for:\n" + "\n".join(f"  {one}" for one in found),
            hint="bring it up without --backend kind",
        )


def overrides(topology: Topology, agent: str) -> list[str]:
    """Settings of that agent as arguments; all nodes have the same."""
    return [
        part
        for name, value in _settings(topology, agent).items()
        for part in ("--set", f"{name}={_plain(value)}")
    ]


def file_of(topology: Topology, agent: str, setting: str) -> str:
    """Where on the nodes that agent writes this; "" where it does not."""
    return str(_settings(topology, agent).get(setting, ""))


def state_folder(topology: Topology) -> str:
    """Where on the nodes the shim keeps its state."""
    return file_of(topology, "shim", "state_dir") or "/var/lib/acns/shim"


def _settings(topology: Topology, agent: str) -> Mapping[str, Any]:
    own: Mapping[str, Any] = getattr(topology.nodes[0], agent)
    return {**_SEEN[agent], **own}


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def manifests_text(
    topology: Topology, placed: Mapping[str, str], authority: str, certificate: str, image: str
) -> str:
    """Everything but policies. `authority` and `certificate`: PEM, for clients and for servers. `image`: the
    id of the pods' image; with another one they are other pods."""
    return yaml.dump_all(
        list(_objects(topology, placed, authority, certificate, image)),
        Dumper=scalars.Dumper,
        sort_keys=False,
    )


def _objects(
    topology: Topology, placed: Mapping[str, str], authority: str, certificate: str, image: str
) -> Iterator[Manifest]:
    used = list(namespaces(topology))
    for name in used:
        if name not in _OWN:
            yield _object("v1", "Namespace", name, None, topology)
    for namespace in sorted({pod.namespace for pod in pods(topology)}):
        data = {"ca.pem": authority, "server.pem": certificate}
        yield _object("v1", "ConfigMap", CONFIG, namespace, topology) | {"data": data}
        accounts = {pod.service_account for pod in pods(topology) if pod.namespace == namespace}
        for account in sorted(accounts - {"default"}):
            yield _object("v1", "ServiceAccount", account, namespace, topology)
    dns = cluster_dns(topology)
    for service in topology.services:
        if service is not dns:
            yield _service(service, topology)
    for pod in pods(topology):
        yield _pod(pod, placed[pod.node], topology, image)


def pods(topology: Topology) -> list[Pod]:
    """Those that the lab makes: all but the cluster's DNS."""
    return [pod for pod in topology.pods if not is_cluster_dns(topology, pod)]


def is_cluster_dns(topology: Topology, pod: Pod) -> bool:
    """Whether it is behind the Service `kube-dns`, which CoreDNS serves here."""
    dns = cluster_dns(topology)
    return bool(dns and pod.namespace == dns.namespace and dns.selector.items() <= pod.labels.items())


def _object(version: str, kind: str, name: str, namespace: str | None, topology: Topology) -> Manifest:
    metadata: Manifest = {"name": name, "labels": {LABEL: topology.name}}
    if namespace:
        metadata["namespace"] = namespace
    return {"apiVersion": version, "kind": kind, "metadata": metadata}


def _service(service: Service, topology: Topology) -> Manifest:
    made = _object("v1", "Service", service.name, service.namespace, topology)
    spec = {
        "clusterIP": str(service.cluster_ip),
        "selector": service.selector,
        "ports": [_service_port(port) for port in service.ports],
    }
    return made | {"spec": spec}


def _service_port(port: ServicePort) -> Manifest:
    return {"name": port.name, "port": port.port, "protocol": port.protocol, "targetPort": target_port(port)}


def _pod(pod: Pod, node: str, topology: Topology, image: str) -> Manifest:
    made = _object("v1", "Pod", pod.name, pod.namespace, topology)
    made["metadata"]["labels"] = {**pod.labels, **made["metadata"]["labels"]}
    variables = {"CURL_CA_BUNDLE": f"{FILES}/ca.pem", "SSL_CERT_FILE": f"{FILES}/ca.pem", "LAB_IMAGE": image}
    container = {
        "name": "main",
        "image": PODS_IMAGE,
        "imagePullPolicy": "Never",
        "command": _command(pod),
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "files", "mountPath": FILES, "readOnly": True}],
    }
    if port := _ready_port(pod):
        container["readinessProbe"] = {"tcpSocket": {"port": port}, "periodSeconds": 1}
    made["spec"] = {
        "nodeName": node,
        "serviceAccountName": pod.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": unprivileged(),
        "containers": [container],
        "volumes": [{"name": "files", "configMap": {"name": CONFIG}}],
        **_dns(pod.dns),
    }
    return made


def unprivileged() -> Manifest:
    """Of a pod that listens on well-known ports all the same."""
    return {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
        "sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}],
    }


def _command(pod: Pod) -> list[str]:
    match pod.program:
        case WebProgram(http_port=http, https_port=https):
            ports = ["--http-port", str(http), "--https-port", str(https)]
            return ["python3", "-m", "lab.world.web", *ports, "--certificate", f"{FILES}/server.pem"]
        case CommandProgram(command=command):
            return list(command)
        case ShellProgram(script=script):
            return ["/bin/sh", "-c", script]
        case _:
            return ["sleep", "infinity"]


def _ready_port(pod: Pod) -> int | None:
    match pod.program:
        case WebProgram(http_port=port):
            return port
        case CommandProgram(ready_port=ready) | ShellProgram(ready_port=ready):
            return ready
        case _:
            return None


def _dns(dns: PodDNS | None) -> Manifest:
    if dns is None:
        return {"dnsPolicy": "ClusterFirst"}
    options = [
        {"name": name, **({} if value is None else {"value": str(value)})}
        for name, value in dns.options.items()
    ]
    config = {
        "nameservers": [str(one) for one in dns.nameservers],
        "searches": list(dns.searches),
        "options": options,
    }
    return {"dnsPolicy": dns.policy, "dnsConfig": {name: value for name, value in config.items() if value}}


def corefile(internet_dns: IPv4Address) -> str:
    """CoreDNS as kubeadm sets it up, with the lab's Internet behind it, and nothing kept."""
    return f""".:53 {{
    errors
    health {{
        lameduck 5s
    }}
    ready
    kubernetes cluster.local in-addr.arpa ip6.arpa {{
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 30
    }}
    forward . {internet_dns}
    loop
    reload
}}
"""


def coredns_text(internet_dns: IPv4Address) -> str:
    """The ConfigMap of the cluster's DNS."""
    metadata = {"name": "coredns", "namespace": "kube-system"}
    data = {"Corefile": corefile(internet_dns)}
    return yaml.dump(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}, Dumper=scalars.Dumper
    )


def internet_script(topology: Topology, addressing: Addressing) -> str:
    """What the container of the Internet runs: its addresses, the DNS and the web server."""
    lines = [f"ip address add {address}/32 dev lo" for address in addressing.internet]
    for server in topology.internet.servers:
        records = f"/lab/dns-{server.name}.json" if server.names is not None else "/lab/names.json"
        lines.append(f"{_dns_server(records, server.address, server.name)} &")
    web = ["python3", "-m", "lab.world.web", "--certificate", "/lab/server.pem"]
    lines.append(f"{shlex.join(web)} &")
    lines.append(f"exec {_dns_server('/lab/names.json', topology.internet.dns, 'dns')}")
    return "\n".join(["set -e", *lines])


def _dns_server(records: str, address: IPv4Address, name: str) -> str:
    arguments = ["--records", records, "--listen", str(address), "--query-log", f"/tmp/{name}-queries.jsonl"]
    return shlex.join(["python3", "-m", "lab.world.dns", *arguments])


def served_policy(text: str, file: str) -> str:
    """A file of policies for an API server, which keeps no comments: those that silence warnings become
    annotations of their object. Any other text stays as it is, whatever is wrong with it."""
    comments = ignores.read(text, file)
    if not comments.documents:
        return text
    try:
        documents = located.load(text, file)
    except InputError:
        return text
    for document in documents:
        codes = {code for found in comments.at(document.position().line).values() for code in found}
        if codes and not _annotate(document.value, ", ".join(sorted(codes))):
            return text
    return yaml.dump_all([document.value for document in documents], Dumper=scalars.Dumper, sort_keys=False)


def _annotate(value: object, codes: str) -> bool:
    """Whether it could be done: what has no place for annotations is no object."""
    metadata = value.setdefault("metadata", {}) if isinstance(value, dict) else None
    annotations = metadata.get("annotations") if isinstance(metadata, dict) else []
    if not isinstance(metadata, dict) or not isinstance(annotations, dict | None):
        return False
    metadata["annotations"] = {**(annotations or {}), ignores.ANNOTATION: codes}
    return True


# --- statements ---------------------------------------------------------------------------------------------


def untried(statement: Statement, topology: Topology) -> str:
    """Why a statement is not tried on kind; empty where it is."""
    if isinstance(statement, PolicyExpectation):
        return ""
    pods_of_dns = [pod for pod in topology.pods if is_cluster_dns(topology, pod)]
    if statement.pod in {name for pod in pods_of_dns for name in (pod.name, f"{pod.namespace}/{pod.name}")}:
        return "the cluster's DNS is CoreDNS here, and not the topology's pod"
    if statement.is_traced and not file_of(topology, "resolver", "journal_file"):
        return "the resolver keeps no journal, which would show whose queries it takes"
    if statement.by_musl:
        return "the pods' image has no program with musl"
    if statement.verb == "connects" and _needs_ipv6(statement, topology):
        return "the cluster has IPv4 only"
    return ""


def _needs_ipv6(statement: Expectation, topology: Topology) -> bool:
    if ":" in statement.name:
        return True
    records = dict(topology.internet.all_names()).get(statement.name.rstrip("."))
    return bool(records and records.aaaa and not records.a)


def translated(statement: Expectation, addresses: Mapping[str, str]) -> Expectation:
    """With the addresses that pods really have. `addresses`: planned → real."""
    return replace(statement, name=addresses.get(statement.name, statement.name))
