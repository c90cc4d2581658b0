"""libnftables: whole transactions as text, and what the kernel holds."""

from __future__ import annotations

import contextlib

import nftables

from acns.datapath import commands, constants
from acns.datapath.inventory import read_counters, read_inventory
from acns.datapath.model import Inventory
from acns.datapath.netlink import Refused
from acns.datapath.nfnetlink import NetfilterSocket, Overtaken
from acns.datapath.transaction import COMMIT
from acns.errors import Bug, EnvironmentFault

_TABLE = f"{constants.FAMILY} {constants.TABLE}"
_NOT_OURS = (
    "Operation not permitted",
    "Cannot allocate memory",
    "Operation not supported",
    "No buffer space",
)


class Nft:
    """One libnftables context, bound to the namespace of the thread that makes it; not thread-safe."""

    def __init__(self) -> None:
        try:
            self._context = nftables.Nftables()
        except OSError as error:
            raise EnvironmentFault(
                f"libnftables: {error}", hint="install libnftables1 (package nftables)"
            ) from error
        self._socket = NetfilterSocket()

    def apply(self, text: str, generation: int | None = None) -> None:
        """Commit a transaction ("" is none). Raises EnvironmentFault or Bug with nft's words and caret.

        With a `generation` only while the namespace's rulesets still have that one; else raises Overtaken.
        What goes through libnftables, which cannot say so to the kernel, looks just before.
        """
        for commit in text.split(f"{COMMIT}\n"):
            if commit:
                self._commit(commit, generation)
                generation = None if generation is None else generation + 1

    def inventory(self) -> Inventory:
        """What our table holds; `exists` is False if there is none."""
        return read_inventory(self._socket)

    def counters(self) -> dict[str, tuple[int, int]]:
        """Counter → packets, bytes: one per rule id and closed chain, and the fixed ones (`spoofed`, …)."""
        return read_counters(self._socket)

    def generation(self) -> int:
        """The generation of this namespace's rulesets: grows by one with each commit, anybody's.

        Whoever counts its own commits knows from it, in microseconds, whether others have committed: a
        transaction is one, and one more for each of its `COMMIT` lines; a write of elements is one.
        """
        return self._socket.generation()

    def list(self) -> str:
        """The table as nft prints it; "" if there is none."""
        return self._run(f"list table {_TABLE}") if self.inventory().exists else ""

    def remove(self) -> None:
        """Delete the table if it is there."""
        self._run(f"add table {_TABLE}\ndelete table {_TABLE}")

    def close(self) -> None:
        """Close the socket; the context goes with the object."""
        self._socket.close()

    def _commit(self, text: str, generation: int | None) -> None:
        messages = commands.messages(text)
        if messages is not None:
            with contextlib.suppress(Refused):  # nothing was committed; nft says where it is wrong
                self._socket.batch(messages, "committing a ruleset", generation=generation)
                return
        if generation is not None and self._socket.generation() != generation:
            raise Overtaken("committing a ruleset: somebody else has committed meanwhile")
        self._run(text)

    def _run(self, text: str) -> str:
        code, output, error = self._context.cmd(text)
        if code:
            raise _explained(error.strip(), text)
        return str(output)


def _explained(error: str, text: str) -> Exception:
    lacks_numgen = "numgen" in error and "No such file or directory" in error
    if lacks_numgen or any(reason in error for reason in _NOT_OURS):
        return EnvironmentFault(
            f"the kernel refused the ruleset: {error}",
            hint="needs CAP_NET_ADMIN in this namespace and nftables with tproxy, fib, ct, log, numgen",
        )
    return Bug(
        f"nft refused the ruleset:\n{error}", hint=f"{len(text.splitlines())} lines; please report them"
    )
