"""The last policy on disk, so that a resolver that starts while the shim is away can serve by it.

It is the snapshot as it came, with the moment of that (`told`), in a checksummed file of mode 0600 that is
replaced as a whole; one that cannot be trusted is set aside and not used. Where the disk takes no newer one,
the older goes: it may allow what has been withdrawn since, and to the next resolver it would be the last.
That one waits for the shim then. Two resolvers may write it: one that was told later than ours stays.
"""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from acns import statefile
from acns.api import fqdndata_pb2 as pb
from acns.errors import AcnsError
from acns.resolver import told
from acns.telemetry import log as logs

log = logs.named(__name__)

FORMAT: Final = "acns-policy-snapshot"
VERSION: Final = 1


_Stamp = tuple[int, int, int]
"""Tells a file from the one that takes its place."""


class PolicyFile:
    """At `path`; its folder is there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = b""
        self._saved_as: _Stamp | None = None
        self._log_failed, self._log_stays = logs.Seldom(60.0), logs.Seldom(60.0)

    def save(self, state: pb.PolicyState) -> bool:
        """Keep this snapshot, but for one there that another resolver was told later: whether either is kept.
        A disk that does not take it is reported; the policy is in force anyway."""
        content = state.SerializeToString(deterministic=True)
        is_ours = self._saved_as is not None and self._saved_as == self._stamp()
        if is_ours and content == self._saved:
            return True
        if not is_ours and told.is_later(self.load(), state):
            return True
        try:
            statefile.save(self._path, FORMAT, VERSION, base64.b64encode(content).decode())
        except AcnsError as error:
            return self._not_saved(state, error)
        self._saved, self._saved_as = content, self._stamp()
        return self._saved_as is not None

    def _not_saved(self, state: pb.PolicyState, error: AcnsError) -> bool:
        """Whether what is there says the same. If not it goes: on a full disk that is possible."""
        there = self.load()
        if there is not None and _said(there) == _said(state):
            return True
        if self._log_failed():
            log.failure("policy snapshot not kept on disk", error)
        try:
            self._path.unlink(missing_ok=True)
        except OSError as failed:
            if there is not None and self._log_stays():
                log.failure(
                    "an older policy stays on disk", statefile.unusable(self._path, "removed", failed)
                )
            return False
        if there is not None:
            log.warning("older policy removed from disk: a resolver that starts now needs the agent")
        return False

    def load(self) -> pb.PolicyState | None:
        """The snapshot that was kept last; None: there is none, or none that can be trusted."""
        try:
            content = statefile.load(self._path, FORMAT, VERSION)
            return None if content is None else pb.PolicyState.FromString(base64.b64decode(content))
        except (AcnsError, DecodeError, ValueError, TypeError) as error:
            log.failure("policy snapshot on disk not used", error)
            return None

    def _stamp(self) -> _Stamp | None:
        """None: no file is there. Another resolver may have set it aside, or somebody emptied the folder."""
        try:
            found = self._path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


def _said(state: pb.PolicyState) -> bytes:
    """All but the snapshot's id and moment, which are others each time."""
    content = pb.PolicyState()
    content.CopyFrom(state)
    content.DiscardUnknownFields()  # type: ignore[attr-defined]  # not in the stubs
    content.ClearField("request_id")
    return content.SerializeToString(deterministic=True)
