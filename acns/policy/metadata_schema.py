"""`metadata` of policies: of all that stands there only the names count."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

from acns.policy.structure import Strict, refuse

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


_Passed = Annotated[Any, Field(description="Decides nothing.")]


class PolicyMetadata(Strict):
    """The names; labels, annotations and what the API server adds decide nothing, but a word that is none of
    them may be a name misspelt, and the policy another namespace's."""

    name: ObjectName
    """Unique among the policies of this kind in the namespace."""
    namespace: NamespaceName | None = None
    """Where absent: default."""
    annotations: _Passed = None
    creationTimestamp: _Passed = None
    deletionGracePeriodSeconds: _Passed = None
    deletionTimestamp: _Passed = None
    finalizers: _Passed = None
    generateName: _Passed = None
    generation: _Passed = None
    labels: _Passed = None
    managedFields: _Passed = None
    ownerReferences: _Passed = None
    resourceVersion: _Passed = None
    selfLink: _Passed = None
    uid: _Passed = None
