"""The DNS of a cluster that has no CoreDNS: dnsmasq, as labs of namespaces have it.

The Services of the topology by name, everything else from the lab's Internet, nothing kept. A kubelet tells
pods to ask the address that kubeadm plans, the tenth of the Services': so `kube-system/kube-dns` has it.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

import yaml

from acns import scalars
from lab.backends.kind import objects
from lab.backends.kind.objects import PODS_IMAGE
from lab.spec.plan import SERVICES
from lab.spec.topology import Topology
from lab.world import cluster_dns
from lab.world.services import cluster_dns as dns_service

NAME: Final = "acns-lab-dns"
NAMESPACE: Final = "kube-system"
LABELS: Final = {"k8s-app": "kube-dns"}
_FOLDER: Final = "/etc/dns"
_TENTH: Final = SERVICES[10]


def text(topology: Topology, image: str) -> str:
    """What is applied; another configuration, or another image by its id, makes another pod of it."""
    config = cluster_dns.config_text(topology)
    version = hashlib.sha256(f"{image}\n{config}".encode()).hexdigest()[:16]
    made = [_object("v1", "ConfigMap", NAME) | {"data": {"dnsmasq.conf": config}}]
    deployment = _object("apps/v1", "Deployment", NAME)
    labels = {**LABELS, "app.kubernetes.io/name": NAME}
    deployment["spec"] = {
        "replicas": 1,
        "selector": {"matchLabels": labels},
        "template": {
            "metadata": {
                "labels": labels,
                "annotations": {f"{objects.LABEL}-config": version},
            },
            "spec": _pod(),
        },
    }
    return yaml.dump_all([*made, deployment, _service(topology)], Dumper=scalars.Dumper, sort_keys=False)


def _service(topology: Topology) -> dict[str, Any]:
    planned = dns_service(topology)
    ports = [
        {"name": name, "port": 53, "protocol": protocol, "targetPort": 53}
        for name, protocol in (("dns", "UDP"), ("dns-tcp", "TCP"))
    ]
    address = str(planned.cluster_ip if planned else _TENTH)
    return _object("v1", "Service", "kube-dns") | {
        "spec": {"clusterIP": address, "selector": LABELS, "ports": ports}
    }


def _pod() -> dict[str, Any]:
    container = {
        "name": "dns",
        "image": PODS_IMAGE,
        "imagePullPolicy": "Never",
        "command": ["dnsmasq", f"--conf-file={_FOLDER}/dnsmasq.conf"],
        "readinessProbe": {"tcpSocket": {"port": 53}, "periodSeconds": 1},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        "volumeMounts": [{"name": "config", "mountPath": _FOLDER, "readOnly": True}],
    }
    return {
        "automountServiceAccountToken": False,
        "dnsPolicy": "Default",
        "priorityClassName": "system-cluster-critical",
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "securityContext": objects.unprivileged(),
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": NAME}}],
    }


def _object(version: str, kind: str, name: str) -> dict[str, Any]:
    metadata = {"name": name, "namespace": NAMESPACE, "labels": {**LABELS, f"{objects.LABEL}-dns": "own"}}
    return {"apiVersion": version, "kind": kind, "metadata": metadata}
