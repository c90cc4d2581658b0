"""Profiles: whose limits apply."""
from __future__ import annotations
from enum import StrEnum


class Profile(StrEnum):
    """`acns` accepts what ACNS accepts; `cilium` all of Cilium's language that this data path can enforce."""

    ACNS = "acns"
    CILIUM = "cilium"
