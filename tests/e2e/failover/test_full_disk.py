"""A shim whose disk has no room left starts, serves as before, and takes away what it is told."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lab.runtime.handles import NodeHandle

from ..pair.probes import Answer, happens
from ..pair.wire import NOERROR, REFUSED
from .outage import PATIENCE_S, Place

pytestmark = pytest.mark.root

NAME = "evil.example.org"
POLICY = f"""apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {{name: for-a-while, namespace: default}}
spec:
  endpointSelector: {{matchLabels: {{app: batch}}}}
  egress:
  - toEndpoints:
    - matchLabels: {{"k8s:io.kubernetes.pod.namespace": kube-system, "k8s:k8s-app": kube-dns}}
    toPorts: [{{ports: [{{port: "53", protocol: ANY}}], rules: {{dns: [{{matchName: {NAME}}}]}}}}]
  - toFQDNs: [{{matchName: {NAME}}}]
"""


@contextmanager
def without_room(node: NodeHandle) -> Iterator[None]:
    """The shim's state folder is a file system of its own, and full: its ledger's last line has been torn.
    To be entered while no shim runs."""
    state = node.shim.log_file.parent / "shim-state"
    run(node, f"cp -a {state} {state}.kept && mount -t tmpfs -o size=512k,mode=700 none {state}")
    try:
        run(node, f"cp -a {state}.kept/. {state}/; printf torn >>{state}/ledger.log")
        run(node, f"cat /dev/zero >{state}/filler 2>/dev/null")
        yield
    finally:
        node.shim.hold()
        run(node, f"umount {state}; rm -r {state}.kept")


def run(node: NodeHandle, script: str) -> None:
    node.popen(["sh", "-c", script]).wait(PATIENCE_S)


def answered(place: Place, code: int) -> bool:
    """Whether the pod's queries for NAME have this answer before long."""
    return happens(lambda: place.sides.ask(NAME).rcode == code, PATIENCE_S)


def test_it_serves_and_a_policy_that_is_withdrawn_is_enforced(place: Place) -> None:
    known, (name, address) = place.learn(), place.take()
    withdrawn = Path(place.node.manifests) / "for-a-while.yaml"
    withdrawn.write_text(POLICY)
    assert answered(place, NOERROR)
    place.node.shim.hold()
    try:
        with without_room(place.node):
            place.node.shim.start()
            place.wait_well()
            assert place.sides.ask(name) == Answer(NOERROR, (address,))
            assert place.open(address, known=known) == {known, address}
            withdrawn.unlink()
            assert answered(place, REFUSED)
    finally:
        withdrawn.unlink(missing_ok=True)
        place.node.shim.start()
    place.wait_well()
