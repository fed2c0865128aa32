"""The pause before the next attempt: longer each time, and random, so that callers who met do not meet again.

https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/
"""

from __future__ import annotations

import random
import time


def backoff(attempt: int, first: float, longest: float) -> None:
    """Sleep before attempt number ``attempt + 1``, between nothing and the limit of this attempt.

    Args:
        attempt: how many attempts were made before the one that failed; 0 after the first.
        first: the limit after the first attempt, in seconds; it doubles with each attempt.
        longest: the highest limit, in seconds.

    >>> backoff(0, first=0.0, longest=0.5)
    """
    time.sleep(random.uniform(0, min(first * 2**attempt, longest)))  # noqa: S311 - jitter, not a secret
