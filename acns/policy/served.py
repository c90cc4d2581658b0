"""Objects that no file holds: what an API server has, named as `kubectl` names it.

Readers of manifests ask a document where a part of it stands. Here that is the object and the field:
`CiliumNetworkPolicy default/frontend spec.egress[0].toFQDNs[0]`, without line and column.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from acns.located import Document, Path, Position
from acns.policy.structure import field_text


@dataclass(frozen=True, slots=True)
class ServedDocument(Document):
    """`path` is the object's name."""

    def position(self, where: Path = ()) -> Position:
        """That of `where`, whether or not it is there: a field that is missing has its place, too."""
        return Position(0, 0, f"{self.path} {field_text(where)}" if where else self.path)


def document(value: dict[str, Any]) -> ServedDocument:
    """An object with its `kind` as a document."""
    metadata = value.get("metadata")
    names = metadata if isinstance(metadata, dict) else {}
    return ServedDocument(
        title(str(value.get("kind", "")), names.get("namespace"), names.get("name")), value, {}
    )


def title(kind: str, namespace: Any, name: Any) -> str:
    """`Pod shop/web`, `Node worker`."""
    return f"{kind} {namespace}/{name}" if namespace else f"{kind} {name}"
