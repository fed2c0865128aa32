"""The shortest history that breaks the same promise: faults, actors and events are left out as long as it does."""

from __future__ import annotations

import re

from tests.sim.episode import Outcome, play


def shrunk(seed: int, rate: float) -> Outcome:
    """Return the history of a seed without all that its violation does not need; as it is when it breaks nothing."""
    best = play(seed, rate)
    if not best.violations:
        return best
    kinds, without = _kinds(best), frozenset[str]()
    size = len(best.asked)
    while size:
        before = without
        left = [name for name in dict.fromkeys(best.asked) if name not in without]
        for start in range(0, len(left), size):
            more = without.union(left[start : start + size])
            tried = play(seed, rate, more)
            if _kinds(tried) & kinds:
                best, without = tried, more
        if size > 1 or without == before:  # one at a time, until nothing more can go
            size //= 2
    return best


def _kinds(outcome: Outcome) -> set[str]:
    """What was broken, without names and numbers."""
    return {re.sub(r"[0-9a-f]{8}|\d+", "#", one) for one in outcome.violations}
