"""`metadata` of policies: of all that stands there only the names count."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, WithJsonSchema

from acns.policy.structure import Lenient, refuse

NAME = r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?"
NAMESPACE = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"


def _name(text: str) -> str:
    if not re.fullmatch(NAME, text):
        refuse(f"'{text}' is not a name", "small letters, digits, '-' and '.', 253 characters at most")
    return text


def _namespace(text: str) -> str:
    if not re.fullmatch(NAMESPACE, text):
        refuse(f"'{text}' is not a namespace", "small letters, digits and '-', 63 characters at most")
    return text


ObjectName = Annotated[str, AfterValidator(_name), WithJsonSchema({"type": "string", "pattern": f"^{NAME}$"})]
NamespaceName = Annotated[
    str, AfterValidator(_namespace), WithJsonSchema({"type": "string", "pattern": f"^{NAMESPACE}$"})
]


class PolicyMetadata(Lenient):
    """The names; labels, annotations and what the API server adds decide nothing."""

    name: ObjectName
    """Unique among the policies of this kind in the namespace."""
    namespace: NamespaceName | None = None
    """Where absent: default."""
