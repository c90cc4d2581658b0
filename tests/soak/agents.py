"""The node's agents seen from outside: when they are well again, what they know, and what they cost."""

from __future__ import annotations

import http.client
import json
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from acns.datapath.selectors import id_of_numbers
from lab.report import ruleset
from lab.runtime.faults.model import AgentFault, Fault, LinkFault, UpstreamFault
from lab.runtime.handles import ProcessHandle
from lab.runtime.lab import Lab

from .model import Disturbance, Weather, matches
from .tally import Tally

_LOOK_S = 0.5
_SLACK_S = 0.3
"""A fault that is over may be felt so much longer."""
_RULE = re.compile(
    r"mod 1(?: offset (\d+))? \. numgen inc mod 1(?: offset (\d+))? \. ip daddr @learned"
    r'.* comment "\w+ \S+ fqdn:(?:name|pattern):(\S+) '
)


class StormOver(Exception):
    """Its time is up."""


class Storm:
    """Turns the storm's faults into the model's disturbances. Agents are over a fault when they are seen
    well after it was mended.

    An agent is not hit again before: on a slow machine one that is killed while it starts would be away all
    the time, and nothing be tried. The order of the faults stays, and what there is no time for is left out.
    """

    def __init__(self, weather: Weather, tally: Tally, until: float) -> None:
        self.until = until
        self._weather, self._tally = weather, tally
        self._open: list[tuple[Fault, Disturbance]] = []
        self._healing: list[tuple[float, Disturbance]] = []
        self._upgrades: list[tuple[AgentFault, float]] = []
        """And when they began: few, and never forgotten."""

    def observe(self, fault: Fault, what: Literal["begins", "fails", "is over"]) -> None:
        """From the storm's own threads. Raises StormOver."""
        if what == "begins":
            self._wait_for_its_turn(fault)
        now = time.monotonic()
        if what == "fails":
            self._failed(fault, now)
            return
        if what == "begins":
            disturbance, kind = _disturbance(fault, now)
            self._tally.faults[kind] += 1
            self._tally.edits.append((now, str(fault)))
            if isinstance(fault, AgentFault) and fault.action == "upgrade":
                self._upgrades.append((fault, now))
            if disturbance is not None:
                self._open.append((fault, self._weather.begins(disturbance)))
            return
        for one in [one for one in self._open if one[0] is fault]:
            self._open.remove(one)
            if isinstance(fault, AgentFault):
                self._healing.append((now, one[1]))
            else:
                one[1].ended = now + _SLACK_S

    def _wait_for_its_turn(self, fault: Fault) -> None:
        while time.monotonic() < self.until:
            ill = [one.trouble for _, one in [*self._open, *self._healing]]
            if not isinstance(fault, AgentFault) or fault.agent not in ill:
                return
            time.sleep(0.05)
        raise StormOver

    def _failed(self, fault: Fault, now: float) -> None:
        """It could not be made. Of an upgrade there must be a reason: the agent was hit meanwhile."""
        self._tally.faults[f"{_disturbance(fault, now)[1]}, not possible"] += 1
        own = [one for found, one in self._open if found is fault]
        for began in [began for found, began in self._upgrades if found is fault]:
            hit = [one for one in self._weather.around(began, now, fault.agent) if one not in own]
            if not hit:
                self._tally.violated("failed upgrades", "-", str(fault), now)

    def seen_well(self, agent: str, looked_at: float) -> None:
        """The agent, asked at that time, said that it is well."""
        for one in [one for one in self._healing if one[1].trouble == agent and one[0] < looked_at]:
            self._healing.remove(one)
            one[1].ended = time.monotonic() + _SLACK_S


def _disturbance(fault: Fault, now: float) -> tuple[Disturbance | None, str]:
    """What the fault excuses, if anything, and its kind. A resolver's upgrade is nothing to be noticed."""
    match fault:
        case AgentFault("upgrade", "resolver"):
            return None, "upgrade resolver"
        case AgentFault(action, agent):
            return Disturbance(agent, "", str(fault), now), f"{action} {agent}"
        case UpstreamFault(mode, place):
            return Disturbance("upstream", place, str(fault), now), f"upstream {mode}"
        case LinkFault(mode, place):
            return Disturbance("link", place, str(fault), now), f"link {mode}"


class Agents:
    """Asked again and again; each call may take a second."""

    def __init__(self, lab: Lab, storm: Storm) -> None:
        self._node = lab.node("node1")
        self._storm = storm
        self._lab = lab
        self.well_since: float | None = None
        """Since when both are ready and have met, and no mapping waits to be told, nor one of a resolver that
        has handed over and is not through with its queries."""
        self.current_at = 0.0
        """When they were last asked and seen to go by the manifests of that time."""

    def look(self) -> None:
        started = time.monotonic()
        resolver, shim = self._readyz(self._node.resolver), self._readyz(self._node.shim)
        if resolver:
            self._storm.seen_well("resolver", started)
        if shim:
            self._storm.seen_well("shim", started)
        if not resolver or not shim or not resolver["agent_connected"]:
            self.well_since = None
            return
        if self._is_current(shim):
            self.current_at = started
        if resolver["mappings_waiting"] or self._mapping_logs() > 1:
            self.well_since = None
        elif self.well_since is None:
            self.well_since = time.monotonic()

    def _is_current(self, shim: dict[str, Any]) -> bool:
        try:
            files = self._node.manifests.glob("[!.]*.yaml")
            on_disk = {path.name: str(path.stat().st_mtime_ns) for path in files}
        except FileNotFoundError:  # removed just now
            return False
        behind = shim["policy_streams_behind"] or shim["problems_pending"] or not shim["policy_streams"]
        return bool(on_disk == shim["manifests"] and not behind)

    @staticmethod
    def _readyz(process: ProcessHandle) -> dict[str, Any] | None:
        """What a process that is ready says of itself."""
        try:
            response = process.http_get("/readyz", _LOOK_S)
            return dict(response.json()) if response.status == 200 else None
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return None

    # --- what is known ------------------------------------------------------------------------------------

    def kernel(self) -> list[tuple[str, frozenset[str]]]:
        """The selectors that rules name, as text, and the addresses that they open."""
        listing = self._node.ruleset()
        opened = ruleset.learned(ruleset.read(listing))
        texts = {id_of_numbers(int(one[1] or 0), int(one[2] or 0)): one[3] for one in _RULE.finditer(listing)}
        return [(text.rstrip("."), frozenset(opened.get(id_, ()))) for id_, text in texts.items()]

    def cache(self) -> set[tuple[str, str]] | None:
        """Name (empty: adopted from the kernel) and address, as the shim has them; None: it does not say."""
        try:
            entries = self._node.shim.http_get("/cache").json()["addresses"]
        except (OSError, http.client.HTTPException, json.JSONDecodeError, KeyError):
            return None
        return {(one["name"].rstrip("."), one["address"]) for one in entries}

    # --- what they cost -----------------------------------------------------------------------------------

    def costs(self) -> dict[str, int]:
        """Memory and descriptors of each, files that may pile up, and processes of this run."""
        found: dict[str, int] = {}
        for agent in (self._node.shim, self._node.resolver):
            if (pid := agent.pid) is not None:
                short = agent.name.partition("/")[2]
                found[f"{short} memory MiB"] = _memory_mib(pid)
                found[f"{short} descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
        found["mapping logs"] = self._mapping_logs()
        found["unix sockets"] = sum(path.is_socket() for path in self._lab.folder.path.rglob("*"))
        found["unix sockets"] += sum(path.is_socket() for path in self._sockets().iterdir())
        return found

    def _mapping_logs(self) -> int:
        """Each resolver process has one."""
        state = self._node.resolver.log_file.parent / "resolver-state"
        return len(list(state.glob("mappings-*.log")))

    def _sockets(self) -> Path:
        assert self._node.shim.http_socket is not None
        return self._node.shim.http_socket.parent


def opened(sets: list[tuple[str, frozenset[str]]], name: str, address: str) -> bool:
    """Whether the set of a selector that matches the name has the address."""
    return any(address in addresses and matches(selector, name) for selector, addresses in sets)


def processes(mark: str) -> dict[int, str]:
    """Living processes with that variable in their environment, other than this one."""
    return {pid: comm for pid, comm in _processes(mark.encode()) if pid != os.getpid()}


def ours(found: dict[int, str]) -> list[str]:
    """Without dnsmasq's, which has one for each TCP connection."""
    return sorted(comm for comm in found.values() if comm != "dnsmasq")


def _processes(mark: bytes) -> Iterator[tuple[int, str]]:
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                yield int(entry.name), (entry / "comm").read_text().strip()
        except OSError:  # it ended
            continue


def namespaces() -> set[str]:
    """The network namespaces that this process is in or holds a descriptor of."""
    found = set()
    for link in (Path("/proc/self/ns/net"), *Path("/proc/self/fd").iterdir()):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("net:"):
            found.add(target)
    return found


def _memory_mib(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") >> 20
