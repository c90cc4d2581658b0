"""`invoke lab.validate` and `lab.schema`: topology files without a lab, by anybody."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from acns.errors import InputError, Problem
from lab.policy_tools import validating
from lab.report.tables import FORMAT_VERSION
from lab.runtime.commands import remark
from lab.spec.load import find_topology
from lab.spec.schema import json_schema


def validate(names: Sequence[str], *, as_json: bool) -> int:
    """Every problem of these topologies: shipped ones by name, files, folders of files; 1 where there is one.

    Raises InputError for a file that is not there.
    """
    paths = dict.fromkeys(path for name in names for path in _files(name))
    problems = sorted({problem for path in paths for problem in problems_of(path)})
    if as_json:
        listed = [validating.value(one) for one in problems]
        print(json.dumps({"version": FORMAT_VERSION, "problems": listed}, indent=2))
    else:
        for problem in problems:
            print(problem)
        remark(f"{len(paths)} topologies: {validating.summary(problems)}")
    return 1 if problems else 0


def problems_of(path: Path) -> tuple[Problem, ...]:
    """All that is wrong with the topology in this file, else with its policies: what the shims would refuse,
    and no statement expects them to."""
    try:
        found = validating.problems_of_topology(str(path), expected=False)
    except InputError as error:
        if not error.problems:
            raise
        return error.problems
    return tuple(problem for problem in found if not problem.warning)


def schema() -> int:
    """A JSON schema for editors."""
    print(json.dumps(json_schema(), indent=2, ensure_ascii=False))
    return 0


def _files(name: str) -> Iterator[Path]:
    folder = Path(name)
    if name and folder.is_dir():
        yield from sorted(folder.glob("*.yaml"))
    else:
        yield find_topology(name)
