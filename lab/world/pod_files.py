"""/etc/resolv.conf and /etc/hosts of a pod, as the kubelet writes them."""

from __future__ import annotations

from ipaddress import IPv4Address

from lab.spec.topology import Pod, Topology


def resolv_conf(topology: Topology, pod: Pod) -> str:
    """nameserver = kube-dns' ClusterIP, the search list, ndots:5; for a DNS pod itself the Internet's DNS."""
    raise NotImplementedError


def hosts(pod: Pod, address: IPv4Address) -> str:
    raise NotImplementedError
