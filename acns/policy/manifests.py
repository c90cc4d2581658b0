"""Manifests: text to objects."""
from __future__ import annotations
from dataclasses import dataclass
from acns.errors import Problem
from acns.policy.objects import Object, Ref
from acns.policy.profiles import Profile


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a text holds: its good objects, everything wrong or doubtful in it, and what was refused (as far as
    it could be named)."""

    objects: tuple[Object, ...]
    problems: tuple[Problem, ...]
    refused: tuple[Ref, ...] = ()

    @property
    def ok(self) -> bool:
        """No errors; warnings do not count."""
        return all(problem.warning for problem in self.problems)


def parse(text: str, path: str, profile: Profile) -> Parsed:
    """All objects of a YAML or JSON text. Never raises for content."""
    raise NotImplementedError
