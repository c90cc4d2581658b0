"""What an explanation is about when no lab runs: a topology, or files and folders of manifests.

Everything wrong with a file is said; what is right in it counts all the same. (A shim is stricter: it stays
with the last good version of a file that has a mistake.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from acns import located, textfile
from acns.errors import InputError, Problem
from acns.located import did_you_mean
from acns.policy import manifests
from acns.policy.cluster import Cluster
from acns.policy.doubts.scene import Resolutions
from acns.policy.explain import Knowledge
from acns.policy.lookups import Server
from acns.policy.model import Enforcement
from acns.policy.objects import Object, Ref
from acns.policy.overview import Overview
from acns.policy.profiles import Profile
from acns.shim.sources import listing
from lab.policy_tools import completing, resolving
from lab.spec import inline
from lab.spec.load import find_topology, read_topology
from lab.spec.plan import Addressing
from lab.spec.topology import Topology
from lab.world.manifests import manifest_files

Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Given:
    """`what` it is, for people; all that is wrong with its files; `made_up`: pods whose addresses are;
    `names`: what is known to be outside, and `resolutions` what it resolves to."""

    what: str
    overview: Overview
    problems: tuple[Problem, ...] = ()
    made_up: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    resolutions: Resolutions = field(default_factory=dict)

    def knowledge(self, server: Server | None = None) -> Knowledge:
        """What is known where nothing runs; `server`: whom the pod asks, if not the cluster's DNS."""
        return Knowledge(None, server or self.dns_server(), self.resolutions)

    def dns_server(self) -> Server | None:
        """The cluster's DNS, which is called the same in every cluster."""
        for service in self.overview.cluster.services:
            if (service.namespace, service.name) == ("kube-system", "kube-dns") and service.cluster_ips:
                return Server(service.cluster_ips[0])
        return None


def from_topology(name_or_path: str, profile: str | None, enforcement: str | None) -> Given:
    """A topology, shipped or a file. Its first node's settings count where none are given."""
    found = texts_of_topology(name_or_path, profile, enforcement)
    internet = found.topology.internet
    given = _given(f"topology {found.topology.name}", found.texts, found.profile, found.enforcement)
    return replace(given, names=tuple(internet.names), resolutions=resolving.for_pods(internet))


@dataclass(frozen=True, slots=True)
class Written:
    """A topology's manifests, by path, and the settings of its first node's shim."""

    topology: Topology
    document: located.Document
    texts: Mapping[str, str]
    profile: Profile
    enforcement: Enforcement

    def placed(self, problem: Problem) -> Problem:
        """What is wrong with an inline policy has its place in the topology's file."""
        return inline.placed(problem, self.topology, self.document)


def texts_of_topology(name_or_path: str, profile: str | None, enforcement: str | None) -> Written:
    """What is written in a topology, shipped or a file."""
    topology, document = read_topology(find_topology(name_or_path))
    shim = topology.nodes[0].shim
    files = manifest_files(topology, Addressing.of(topology))
    return Written(
        topology,
        document,
        {_written_at(name, topology): text for name, text in files.items()},
        profile_of(profile or shim.get("profile")),
        enforcement_of(enforcement or shim.get("enforcement")),
    )


def from_manifests(paths: Sequence[str], profile: str | None, enforcement: str | None) -> Given:
    """Files, and folders of files."""
    texts, unreadable = readable(files_of(paths))
    what = f"manifests {', '.join(paths)}"
    found = _given(what, texts, profile_of(profile), enforcement_of(enforcement))
    return replace(found, problems=(*unreadable, *found.problems))


def readable(files: Iterable[Path]) -> tuple[dict[str, str], list[Problem]]:
    """Their texts, by path; what is wrong with those that cannot be read, which does not hide the others."""
    texts: dict[str, str] = {}
    unreadable: list[Problem] = []
    for path in files:
        try:
            texts[str(path)] = textfile.read(path)
        except InputError as error:
            unreadable.extend(error.problems)
    return texts, unreadable


def files_of(paths: Iterable[str]) -> list[Path]:
    """Every file that is named, or lies in a folder that is. Raises InputError for what is not there, and for
    a folder without any."""
    return list(dict.fromkeys(file for path in paths for file in _files(Path(path))))


def profile_of(text: str | None) -> Profile:
    """The profile of that name; acns without one."""
    return _choice(Profile, "profile", text or Profile.ACNS)


def enforcement_of(text: str | None) -> Enforcement:
    """The enforcement mode of that name; default without one."""
    return _choice(Enforcement, "enforcement", text or Enforcement.DEFAULT)


def cluster_of(texts: Mapping[str, str], profile: Profile) -> Cluster:
    """What these texts say; of two objects with one name the first counts."""
    return _read(texts, profile)[0]


def _given(what: str, texts: Mapping[str, str], profile: Profile, enforcement: Enforcement) -> Given:
    cluster, problems = _read(texts, profile)
    objects = cluster.objects()
    overview = Overview(Cluster.of(completing.completed(objects)), enforcement)
    return Given(what, overview, problems, tuple(completing.made_up(objects)))


def _read(texts: Mapping[str, str], profile: Profile) -> tuple[Cluster, tuple[Problem, ...]]:
    objects: dict[Ref, Object] = {}
    problems: list[Problem] = []
    for path, text in texts.items():
        parsed = manifests.parse(text, path, profile)
        problems += parsed.problems
        for each in parsed.objects:
            objects.setdefault(each.ref, each)
    return Cluster.of(objects.values()), tuple(problems)


def _written_at(name: str, topology: Topology) -> str:
    """The path of a policy's own file: the lab's copy of it has the same lines."""
    for policy in topology.policies:
        if policy.file is not None and Path(policy.file).name == name:
            return _short(policy.file)
    return name


def _short(path: str) -> str:
    near = os.path.relpath(path)
    return path if near.startswith("..") else near


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        found = [each for each in sorted(path.rglob("*")) if listing.is_manifest(each) and each.is_file()]
        if not found:
            endings = ", ".join(sorted(listing.SUFFIXES))
            raise InputError(f"there is no manifest in '{path}'", hint=f"their names end in {endings}")
        yield from found
    elif path.is_file():
        yield path
    else:
        raise InputError(f"there is no file or folder '{path}'")


def _choice(kind: type[Choice], what: str, text: str) -> Choice:
    try:
        return kind(text)
    except ValueError:
        raise InputError(f"there is no {what} '{text}'", hint=did_you_mean(text, map(str, kind))) from None
