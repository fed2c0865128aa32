"""A mistake in a name suggests the right one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean …?"`` for the nearest known name, or nothing.

    >>> did_you_mean("rolout", ["rollout", "rollback"])
    '; did you mean rollout?'
    """
    matches = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {matches[0]}?" if matches else ""
