"""What nft says of a transaction that the kernel refuses: whose fault it is."""

from __future__ import annotations

import pytest

from acns.datapath import nft
from acns.errors import Bug, EnvironmentFault

RULE = (
    "add rule inet acns eg_1 numgen inc mod 1 offset 7 . numgen inc mod 1 offset 9 . ip daddr @learned accept"
)


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("Error: Could not process rule: Operation not permitted", EnvironmentFault),
        (f"Error: Could not process rule: No such file or directory\n{RULE}\n^^^", EnvironmentFault),
        ("Error: Could not process rule: No such file or directory\nadd rule inet acns x drop\n^^^", Bug),
        ("Error: syntax error, unexpected string", Bug),
    ],
    ids=["no right", "no numgen", "no such chain", "no nft"],
)
def test_what_this_kernel_cannot_do_is_told_from_what_we_did_wrong(
    words: str, fault: type[Exception]
) -> None:
    assert type(nft._explained(words, "")) is fault
