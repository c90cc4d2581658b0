"""What all rules about topologies say in the same words: names that are not there, or twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from acns.errors import Problem
from acns.located import Document, did_you_mean
from acns.located import Path as Where
from lab.spec.topology import Topology


def written(document: Document, section: str) -> set[str]:
    """The names in a section as the file has them, also of entries that are wrong elsewhere."""
    entries = document.value.get(section)
    entries = entries if isinstance(entries, list) else []
    return {
        entry["name"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("name"), str)
    }


def written_names(document: Document, where: Where = ("internet", "names")) -> set[str]:
    """The names of the Internet as the file has them, also those that are wrong elsewhere."""
    found: Any = document.value
    for step in where:
        if isinstance(found, dict):
            found = found.get(step)
        else:
            found = found[step] if isinstance(found, list) and isinstance(step, int) else None
    return set(found) if isinstance(found, dict) else set()


def every_written_name(document: Document) -> set[str]:
    """The names that any server of the Internet has."""
    internet = document.value.get("internet")
    servers = internet.get("servers") if isinstance(internet, dict) else None
    count = len(servers) if isinstance(servers, list) else 0
    own = (written_names(document, ("internet", "servers", index, "names")) for index in range(count))
    return written_names(document).union(*own)


def unknown(document: Document, where: Where, what: str, name: str, known: Iterable[str]) -> Problem:
    return document.problem(where, f"there is no {what} '{name}'", hint=did_you_mean(name, known))


def twice(document: Document, what: str, places: Iterable[tuple[Where, str]]) -> Iterator[Problem]:
    seen: Counter[str] = Counter()
    first: dict[str, Where] = {}
    for where, key in places:
        seen[key] += 1
        if seen[key] == 1:
            first[key] = where
        else:
            before, now = document.position(first[key]), document.position(where)
            place = f"line {before.line}" if before.path == now.path else f"{before.path}:{before.line}"
            yield document.problem(where, f"{what} '{key}' is given twice; first in {place}")


def known_pod(
    topology: Topology, document: Document, where: Where, name: str, known: set[str]
) -> Iterator[Problem]:
    found = [pod for pod in topology.pods if name in (pod.name, f"{pod.namespace}/{pod.name}")]
    if len(found) > 1:
        full = " or ".join(f"'{pod.namespace}/{pod.name}'" for pod in found)
        yield document.problem(where, f"there are {len(found)} pods called '{name}'", hint=f"write {full}")
    elif not found and name.rpartition("/")[2] not in known:
        yield unknown(document, where, "pod", name, known)
