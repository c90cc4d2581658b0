"""/etc/resolv.conf and /etc/hosts of a pod, as the kubelet writes them.

ndots:5 with the search list has consequences that people meet as "DNS problems", and a lab must show them.
Measured for a name with fewer than five dots, here `api.example.com`, when an FQDN policy has the
search-list name REFUSED:

* glibc 2.36 (getaddrinfo, curl, Debian's busybox): asks `api.example.com.default.svc.cluster.local`, is
  refused, asks it once more, skips the rest of the search list and asks `api.example.com` as it stands. It
  resolves, with no delay: a refusal costs two queries more of each type, not time. With NXDOMAIN in place
  of REFUSED it walks the whole list first (three names), then asks the bare name.
* musl 1.2.3: a refusal is not an answer to it. It repeats the first search-list name until its time-out (5 s)
  and fails with "Try again"; NXDOMAIN, a trailing dot, or a policy that lets the search-list names pass help.
* dig takes no search list at all.
"""

from __future__ import annotations

from ipaddress import IPv4Address

from lab.spec.rules import CLUSTER_DOMAIN
from lab.spec.topology import DNSProgram, Pod, Topology
from lab.world.services import cluster_dns


def resolv_conf(topology: Topology, pod: Pod) -> str:
    """The cluster's DNS with its search list (dnsPolicy ClusterFirst).

    Without such a Service, and for the DNS pod itself (dnsPolicy Default, as CoreDNS has), the Internet's.
    """
    service = cluster_dns(topology)
    if service is None or isinstance(pod.program, DNSProgram):
        return f"nameserver {topology.internet.dns}\noptions ndots:0\n"
    search = f"{pod.namespace}.svc.{CLUSTER_DOMAIN} svc.{CLUSTER_DOMAIN} {CLUSTER_DOMAIN}"
    return f"search {search}\nnameserver {service.cluster_ip}\noptions ndots:5\n"


def hosts(pod: Pod, address: IPv4Address) -> str:
    """The hosts file: the pod's own name and nothing of the machine's."""
    return (
        "# Kubernetes-managed hosts file.\n"
        "127.0.0.1\tlocalhost\n"
        "::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::\tip6-localnet\n"
        "fe00::\tip6-mcastprefix\n"
        "fe00::1\tip6-allnodes\n"
        "fe00::2\tip6-allrouters\n"
        f"{address}\t{pod.name}\n"
    )
