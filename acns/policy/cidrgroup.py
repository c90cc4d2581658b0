"""CiliumCIDRGroup (cilium.io/v2, v2alpha1): from manifest to value."""

from __future__ import annotations

from acns.errors import Problem
from acns.located import Document, Path
from acns.policy.cidrs import CIDRText, ipv4
from acns.policy.codes import Code
from acns.policy.kubernetes import Metadata, place
from acns.policy.objects import CIDRGroup
from acns.policy.structure import Report, Strict, check


class _Spec(Strict):
    externalCIDRs: list[CIDRText]


class _CIDRGroup(Strict):
    apiVersion: str | None = None
    kind: str | None = None
    metadata: Metadata
    spec: _Spec


def read_cidr_group(document: Document, where: Path) -> tuple[CIDRGroup | None, list[Problem]]:
    """Its IPv4 networks; those of IPv6 are passed over with one warning."""
    model, problems = check(_CIDRGroup, document, where)
    if model is None:
        return None, problems
    report = Report(document)
    texts = model.spec.externalCIDRs
    networks = ipv4(texts)
    if ignored := len(texts) - len(networks):
        at = (*where, "spec", "externalCIDRs")
        message = f"{ignored} of these CIDRs {'is' if ignored == 1 else 'are'} ignored: IPv4 only"
        report.warn(Code.IPV6_IGNORED, at, message)
    meta = model.metadata
    return CIDRGroup(meta.name, networks, meta.labels or {}, place(document, where)), report.problems
