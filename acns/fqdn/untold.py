"""How far a pod may go beyond what the agent was told of a TTL.

Answers for a name come all the time, each with a later end than the last; to tell the agent of every one
would cost a call each. So an answer may leave untold while its end is not much later than the one that was
told, and the agent, which knows that from its promise, lets promised addresses go so much later. Both numbers
are of the TTL in hand: that of the answer for the one, that which was told for the other. An answer's TTL may
be longer than the told one by what may be untold, so the agent's share is the larger: t <= told + t/4 means
t/4 <= told/3.
"""

from __future__ import annotations

_MOST_S = 60.0


def allowed_s(ttl_s: float) -> float:
    """By how much an answer of this TTL may end later than what was told."""
    return min(ttl_s / 4, _MOST_S)


def kept_s(ttl_s: float) -> float:
    """How long an address stays past the TTL that was told, where it was promised."""
    return min(ttl_s / 3, _MOST_S)
