"""Errors of the lab, split by who must act.

What an operator wrote wrongly is `InputError` and what the machine lacks is `EnvironmentFault`, as in the
agents (`acns.errors`). Here is what only a lab can meet. Every error has a `hint` and an exit code.
"""

from __future__ import annotations

from acns.errors import AcnsError, Bug, EnvironmentFault, InputError, PeerError

__all__ = [
    "AcnsError",
    "Bug",
    "EnvironmentFault",
    "HolderGone",
    "InputError",
    "LabError",
    "LabNotFound",
    "PeerError",
    "ProcessFailed",
    "by_name",
]


class LabError(AcnsError):
    """Root of the lab's own errors; never raised itself."""

    exit_code = 4


class LabNotFound(LabError):
    """The operator named a lab that does not run, or none where several run."""

    exit_code = 2


class ProcessFailed(LabError):
    """A process of the lab did not come up; the message ends with the last lines of its log."""

    exit_code = 3


class HolderGone(LabError):
    """The holder died or does not answer: the lab is gone with it."""

    exit_code = 3


def by_name(name: str) -> type[AcnsError]:
    """The error class of that name, for errors that cross the control socket; an unknown one is our bug."""
    known = (InputError, EnvironmentFault, PeerError, Bug, LabNotFound, ProcessFailed, HolderGone)
    return next((cls for cls in known if cls.__name__ == name), Bug)
