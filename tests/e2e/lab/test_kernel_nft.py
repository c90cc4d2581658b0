"""nftables text from a process that holds many descriptors: libnftables by itself would end it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

REPOSITORY = Path(__file__).parents[3]
PROGRAM = """
import os
from acns.errors import Bug
from lab.kernel import netns, nft

netns.unshare(netns.CLONE_NEWNET)
kept = [os.open("/dev/null", os.O_RDONLY) for _ in range(1_100)]
here = netns.own()
nft.load(here, "add table ip there")
try:
    nft.load(here, "add chain ip nowhere x")
except Bug as error:
    print("refused", "No such file" in str(error))
print(nft.listing(here))
"""


def test_rules_are_loaded_past_the_descriptors_that_select_can_wait_for() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["refused", "True", "table", "ip", "there", "{", "}"]
