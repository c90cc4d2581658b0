"""What a kernel was seen to do, beside what the model says: plain values, for those who print them."""

from __future__ import annotations

from dataclasses import dataclass

from acns.policy.explain import Explanation
from acns.policy.routes import Outcome


@dataclass(frozen=True, slots=True)
class RuleSeen:
    """A rule of the kernel that decided. `origins`: the places of the policy's rules that it carries out;
    `packets`: its counter; `is_nobodys`: it carries out no rule that either end has, which must not be;
    `of_services`: it is of the table that translates Services, not of the agents'."""

    node: str
    id: str
    text: str
    origins: tuple[str, ...] = ()
    packets: int | None = None
    is_nobodys: bool = False
    of_services: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What became of a part's packet. `outcome` None: it was not seen to end.

    `tried` False: no packet could be sent, which is no difference. `compared` False: the model has the
    address that opens it from this kernel, whose agent cannot be asked, so that it agrees says nothing.
    """

    outcome: Outcome | None
    agrees: bool
    rules: tuple[RuleSeen, ...] = ()
    answer: str = ""
    tried: bool = True
    compared: bool = True


NOT_TRIED = Seen(None, agrees=True, tried=False)


@dataclass(frozen=True, slots=True)
class QuerySeen:
    """What a real query got: an rcode with record types, or nothing."""

    answer: str
    agrees: bool


@dataclass(frozen=True, slots=True)
class Answered:
    """The model's answer; `seen` goes with its parts, one by one, where a kernel was asked."""

    model: Explanation
    seen: tuple[Seen, ...] = ()
    query: QuerySeen | None = None

    @property
    def agrees(self) -> bool:
        return all(one.agrees for one in self.seen) and (self.query is None or self.query.agrees)
