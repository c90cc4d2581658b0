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
from typing import Any

from lab.spec.plan import CLUSTER_DOMAIN
from lab.spec.topology import DNSProgram, Pod, PodDNS, Topology
from lab.world.services import cluster_dns


def resolv_conf(topology: Topology, pod: Pod) -> str:
    """By the rules of Kubernetes' dnsPolicy and dnsConfig, of which the pod's `dns` is both.

    Without a cluster DNS, and for the DNS pod itself unless it says else, the Internet's (`Default`).
    """
    policy, dns = dns_policy(pod), pod.dns or PodDNS()
    service = cluster_dns(topology)
    servers: list[IPv4Address] = []
    searches: list[str] = []
    options: dict[str, int | None] = {}
    if policy == "ClusterFirst" and service is not None:
        servers, options = [service.cluster_ip], {"ndots": 5}
        searches = [f"{pod.namespace}.svc.{CLUSTER_DOMAIN}", f"svc.{CLUSTER_DOMAIN}", CLUSTER_DOMAIN]
    elif policy != "None":
        servers, options = [topology.internet.dns], {"ndots": 0}
    searches = list(dict.fromkeys([*searches, *dns.searches]))
    return "".join(
        [
            f"search {' '.join(searches)}\n" if searches else "",
            *(f"nameserver {server}\n" for server in dict.fromkeys([*servers, *dns.nameservers])),
            f"options {' '.join(_option(*one) for one in {**options, **dns.options}.items())}\n",
        ]
    )


def dns_policy(pod: Pod) -> str:
    """Kubernetes' word for where the pod's DNS settings come from."""
    if pod.dns is not None:
        return pod.dns.policy
    return "Default" if isinstance(pod.program, DNSProgram) else "ClusterFirst"


def dns_config(pod: Pod) -> dict[str, Any]:
    """`spec.dnsConfig` of the pod's manifest; empty where it has none."""
    dns = pod.dns or PodDNS()
    options = [
        {"name": name} if value is None else {"name": name, "value": str(value)}
        for name, value in dns.options.items()
    ]
    config = {
        "nameservers": [str(server) for server in dns.nameservers],
        "searches": list(dns.searches),
        "options": options,
    }
    return {key: value for key, value in config.items() if value}


def _option(name: str, value: int | None) -> str:
    return name if value is None else f"{name}:{value}"


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
