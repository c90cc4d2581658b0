"""What it means that a request failed: the kinds of trouble, each with what to say and when to come back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum

from acns.errors import PeerError
from acns.shim.sources.kubernetes import wire
from acns.shim.sources.kubernetes.resources import Resource


class Trouble(StrEnum):
    """Kinds of failure, by what there is to do about them."""

    GONE = "history gone"  # 410: list anew
    ABSENT = "not served"  # 404 of a whole resource: wait for its CustomResourceDefinition
    FORBIDDEN = "forbidden"  # 403: a right is missing
    UNAUTHORIZED = "unauthorized"  # 401: the token is wrong or over
    BUSY = "busy"  # 429, 503, 504: come back later
    CONFLICT = "conflict"  # 409: somebody was first
    UNREACHABLE = "unreachable"  # no connection, or it broke
    SILENT = "silent"  # a connection on which nothing comes
    INVALID = "invalid"  # 422: it would be refused again
    REFUSED = "refused"  # any other answer
    MALFORMED = "malformed"  # an answer that is none


class Failed(PeerError):
    """A request, or a watch, failed. `retry_after_s`: when the server wants to be asked again."""

    def __init__(
        self, trouble: Trouble, message: str, *, hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.trouble = trouble
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, in the words of a Role."""

    verb: str
    resource: Resource
    subresource: str = ""

    def __str__(self) -> str:
        what = f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural
        return f"{self.verb} {what}"


_BY_CODE = {
    401: Trouble.UNAUTHORIZED,
    403: Trouble.FORBIDDEN,
    409: Trouble.CONFLICT,
    410: Trouble.GONE,
    422: Trouble.INVALID,
    429: Trouble.BUSY,
    503: Trouble.BUSY,
    504: Trouble.BUSY,
}
_LONGEST_S = 300.0
_SHOWN = 300


def refusal(asked: Asked, code: int, body: bytes, retry_after: str = "") -> Failed:
    """What an answer other than 2xx means."""
    status = wire.read_status(body)
    said = status.message if status else body.decode(errors="replace").strip()
    return _failed(asked, code, said[:_SHOWN], _seconds(retry_after), names_an_object=status is not None)


def error_event(asked: Asked, item: bytes) -> Failed:
    """What an ERROR in a watch means."""
    status = wire.read_status(item) or wire.Status(500, "", "an ERROR event without a Status")
    return _failed(asked, status.code, status.message[:_SHOWN], None, names_an_object=True)


def _failed(
    asked: Asked, code: int, said: str, retry_after_s: float | None, *, names_an_object: bool
) -> Failed:
    trouble = _BY_CODE.get(code, Trouble.REFUSED)
    # The 404 of an object is a Status; that of a path which nobody serves is plain text.
    if code == 404 and not names_an_object:
        trouble = Trouble.ABSENT
    message = f"{asked}: the API server answers {code}: {said}"
    return Failed(trouble, message, hint=_hint(asked, trouble), retry_after_s=retry_after_s)


def _hint(asked: Asked, trouble: Trouble) -> str:
    match trouble:
        case Trouble.FORBIDDEN:
            return f"the missing right: {asked.resource.right(asked.verb, asked.subresource)}"
        case Trouble.UNAUTHORIZED:
            return "the token or certificate is wrong or has expired"
        case Trouble.ABSENT:
            return f"apply the CustomResourceDefinition of {asked.resource.kind}; it is waited for"
    return ""


def _seconds(text: str) -> float | None:
    """Of a Retry-After header; dates do not occur here."""
    try:
        seconds = float(text)
    except ValueError:
        return None
    return min(seconds, _LONGEST_S) if math.isfinite(seconds) and seconds >= 0 else None
