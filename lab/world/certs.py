"""The lab's certificate authority and the one certificate of all its web servers.

Clients in pods verify for real: curl and Python check the name they asked for against this authority. All
names of a lab stand in one certificate, which is what a shared address (a CDN) looks like anyway. The
authority stays for the life of a lab; a certificate that covers too little is replaced, and the web
servers read it again.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lab.spec.plan import Addressing
from lab.spec.rules import service_names
from lab.spec.topology import Topology, WebProgram

if TYPE_CHECKING:
    import trustme


@dataclass(frozen=True, slots=True)
class Certificates:
    """Files in the lab's state folder: `ca` is what clients trust, `server` the servers' key and chain.

    Key and chain share a file, so that a server that reads it again never gets halves of two certificates.
    """

    ca: Path
    server: Path


def certified_names(topology: Topology) -> list[str]:
    """Every name and address a web server of this topology can be asked for over HTTPS."""
    internet = topology.internet
    names = list(internet.all_names())
    addresses = [str(ip) for _, records in names for ip in (*records.a, *records.aaaa)]
    services = [str(service.cluster_ip) for service in topology.services]
    planned = zip(topology.pods, Addressing.of(topology).pods, strict=True)
    pods = [str(plan.address) for pod, plan in planned if isinstance(pod.program, WebProgram)]
    return list(
        dict.fromkeys([*(name for name, _ in names), *service_names(topology), *addresses, *services, *pods])
    )


def files(folder: Path) -> Certificates:
    """Where they are in that folder, once they are made."""
    return Certificates(folder / "ca.pem", folder / "server.pem")


def ensure(folder: Path, names: Iterable[str]) -> Certificates:
    """Certificates in `folder` that cover `names`; existing ones that do are left as they are."""
    made = files(folder)
    wanted = sorted(set(names)) or ["localhost"]
    covered = folder / "certified-names"
    if covered.exists() and set(wanted) <= set(covered.read_text().split("\n")):
        return made
    leaf = _authority(folder, made.ca).issue_cert(*wanted)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    _write(made.server, leaf.private_key_pem.bytes() + chain, 0o600)
    _write(covered, "\n".join(wanted).encode(), 0o600)
    return made


def _authority(folder: Path, ca: Path) -> trustme.CA:
    import trustme  # 60 ms, and a lab that is already up does not need it

    key = folder / "ca-key.pem"
    if ca.exists() and key.exists():
        return trustme.CA.from_pem(ca.read_bytes(), key.read_bytes())
    authority = trustme.CA()
    _write(key, authority.private_key_pem.bytes(), 0o600)
    _write(ca, authority.cert_pem.bytes(), 0o644)
    return authority


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never readable by more than `mode`, not even for a moment."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
    temporary.rename(path)
