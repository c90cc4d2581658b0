"""The faults with which a lab begins: made once everything is up and settled, so that they find what it was.

A lab that is mended is well for a moment: first all faults end, then those of its topology begin again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from lab.errors import Bug, LabNotFound, ProcessFailed
from lab.runtime.faults import model

if TYPE_CHECKING:
    from lab.runtime.lab import Lab


def inflict(lab: Lab, progress: Callable[[str], None]) -> None:
    """Make the faults that the topology names; nothing where it names none."""
    if not lab.topology.faults:
        return
    from lab.runtime.faults import inflict as inflicting  # which needs a whole lab

    lab.wait_settled()
    for text in lab.topology.faults:
        fault = model.read(text)
        if isinstance(fault, model.Mending):
            raise Bug(f"'{text}' among the faults of a topology")
        inflicting.inflict(lab, inflicting.resolved(lab, fault))
        progress(f"{text}: until `invoke lab.fault clear`")


def mend(lab: Lab) -> None:
    """End the faults of a lab that was begun with some; what they held down is up again, if it can be."""
    if lab.topology.faults:
        from lab.runtime.faults import inflict as inflicting

        inflicting.mend(lab, model.Mending("everything"))
        # What does not come is the change's to repair, and to say.
        for node in lab.nodes:
            for agent in (node.shim, node.resolver):
                with contextlib.suppress(LabNotFound, ProcessFailed):
                    agent.wait_ready()
