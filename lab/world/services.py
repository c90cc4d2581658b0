"""Which pods stand behind which Service: what Kubernetes' endpoint controller works out.

One answer for the translation table, the EndpointSlices and the DNS, so that they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lab.spec.plan import Addressing, PodPlan
from lab.spec.topology import Pod, Service, ServicePort, Topology


@dataclass(frozen=True, slots=True)
class Backends:
    """A Service with the pods that its selector matches, in the topology's order."""

    service: Service
    pods: tuple[PodPlan, ...]

    @property
    def key(self) -> str:
        return f"{self.service.namespace}/{self.service.name}"


def backends(topology: Topology, addressing: Addressing) -> list[Backends]:
    """Every Service with its backends; a Service selects pods of its own namespace only."""
    planned = list(zip(topology.pods, addressing.pods, strict=True))
    return [
        Backends(service, tuple(plan for pod, plan in planned if _selects(service, pod)))
        for service in topology.services
    ]


def target_port(port: ServicePort) -> int:
    """The port on the pod: where policy is judged."""
    return port.target_port or port.port


def cluster_dns(topology: Topology) -> Service | None:
    """The Service of the cluster's DNS: `kube-dns` in `kube-system`, as in every Kubernetes cluster."""
    return next((s for s in topology.services if (s.namespace, s.name) == ("kube-system", "kube-dns")), None)


def namespaces(topology: Topology) -> Iterator[str]:
    """The namespaces in use, `default` and `kube-system` first."""
    used = (*(pod.namespace for pod in topology.pods), *(service.namespace for service in topology.services))
    yield from dict.fromkeys(("default", "kube-system", *used))


def _selects(service: Service, pod: Pod) -> bool:
    if not service.selector or pod.namespace != service.namespace:
        return False
    return service.selector.items() <= pod.labels.items()
