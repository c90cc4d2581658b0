"""Short ways to ask what is wrong or doubtful between objects."""

from __future__ import annotations

from acns.errors import Problem
from acns.policy.cluster import Cluster
from acns.policy.objects import Object
from acns.policy.resolve import problems

from .policy_world import TO_KUBE_DNS, cluster, objects

FQDN = "- toFQDNs: [{matchName: a.io}]\n"
TO_WEB = "- toEndpoints: [{matchLabels: {app: web}}]"


def found(*texts: str, more: tuple[Object, ...] = ()) -> list[Problem]:
    return problems(cluster(*texts, more=more))


def codes(*texts: str, more: tuple[Object, ...] = ()) -> list[str]:
    return [problem.code for problem in found(*texts, more=more)]


def plain(port: int) -> str:
    return f'{TO_KUBE_DNS}  toPorts: [{{ports: [{{port: "{port}", protocol: UDP}}]}}]'


def without_pods(*texts: str) -> list[Problem]:
    return problems(Cluster.of(objects("\n---\n".join(texts))))
