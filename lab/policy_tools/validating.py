"""Policy files judged without a cluster: each by itself, then all of them together.

Pods and Services among the files are taken into account, but need not be there: what can only be doubted
because there are none is not doubted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from acns.errors import Problem
from acns.policy import manifests, resolve
from acns.policy.cluster import Cluster
from acns.policy.codes import Code
from acns.policy.doubts.scene import NOTHING_KNOWN, Resolutions
from acns.policy.model import Enforcement
from acns.policy.objects import CIDRGroup, Object, Pod, Ref, Service
from acns.policy.profiles import Profile
from lab.policy_tools import completing, inputs, resolving
from lab.spec import expect

_NEEDS = (
    (Pod, Code.SELECTS_NOTHING),
    (Service, Code.UNKNOWN_SERVICE),
    (CIDRGroup, Code.UNKNOWN_CIDR_GROUP),
)
"""Warnings that something is not there say nothing where nothing of its kind is."""
_NODES, _KIND = re.compile(r"^nodes:", re.MULTILINE), re.compile(r"^kind:", re.MULTILINE)


def problems(
    files: Iterable[Path], profile: Profile, enforcement: Enforcement = Enforcement.DEFAULT
) -> list[Problem]:
    """Everything wrong or doubtful, by place; a file that cannot be read does not hide the others."""
    texts, unreadable = inputs.readable(files)
    topologies = [path for path, text in texts.items() if _is_topology(text)]
    for path in topologies:
        del texts[path]
    others = map(_of_topology, topologies)
    return sorted([*unreadable, *others, *problems_of(texts, profile, enforcement)])


def problems_of(
    texts: Mapping[str, str],
    profile: Profile,
    enforcement: Enforcement,
    resolutions: Resolutions = NOTHING_KNOWN,
) -> list[Problem]:
    """The same of texts, by path; `resolutions`: what names are known to resolve to."""
    found: set[Problem] = set()
    objects: dict[Ref, Object] = {}
    for path, text in texts.items():
        parsed = manifests.parse(text, path, profile)
        found.update(parsed.problems)
        for each in parsed.objects:
            first = objects.setdefault(each.ref, each)
            if first is not each:
                found.add(_twice(each, first))
    cluster = Cluster.of(completing.completed(objects.values()))
    unknown = {code for kind, code in _NEEDS if not any(isinstance(each, kind) for each in objects.values())}
    between = resolve.problems(cluster, enforcement, resolutions)
    found.update(problem for problem in between if problem.code not in unknown)
    return sorted(found)


def problems_of_topology(
    name_or_path: str, profile: str | None = None, enforcement: str | None = None, *, expected: bool = True
) -> list[Problem]:
    """The same of a topology, with its own settings where none are given. Raises InputError for one that is
    wrong itself.

    `expected`: also the errors that a statement of the topology is about.
    """
    written = inputs.texts_of_topology(name_or_path, profile, enforcement)
    chosen = resolving.chosen(written.topology.internet)
    found = problems_of(written.texts, written.profile, written.enforcement, chosen)
    statements = map(expect.parse_any, () if expected else written.topology.expect)
    about = {(one.file, one.text) for one in statements if isinstance(one, expect.PolicyExpectation)}
    return sorted(
        written.placed(problem)
        for problem in found
        if not any(Path(problem.path).name == file and text in str(problem) for file, text in about)
    )


def value(problem: Problem) -> dict[str, Any]:
    """For programs."""
    return {
        "path": problem.path,
        "line": problem.line,
        "column": problem.column,
        "severity": "warning" if problem.warning else "error",
        "code": problem.code,
        "message": problem.message,
        "hint": problem.hint,
    }


def summary(found: Iterable[Problem]) -> str:
    """How many of each kind."""
    counted = Counter("warnings" if problem.warning else "errors" for problem in found)
    return f"{counted['errors']} errors, {counted['warnings']} warnings" if counted else "nothing is wrong"


def _is_topology(text: str) -> bool:
    """By a field that topologies have, and no Kubernetes object."""
    return bool(_NODES.search(text)) and not _KIND.search(text)


def _of_topology(path: str) -> Problem:
    hint = f"policy.validate --topology {path} looks at its policies"
    return Problem(path, 1, 1, "this is a topology, not a manifest", hint)


def _twice(second: Object, first: Object) -> Problem:
    kind, namespace, name = second.ref
    where = f"{first.place.path}:{first.place.line}"
    text = f"{kind} {namespace + '/' if namespace else ''}{name} is given already, in {where}"
    return Problem(second.place.path, second.place.line, second.place.column, text, "keep one of the two")
