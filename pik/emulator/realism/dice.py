"""Chance by seed, and how often it struck."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Callable

GOES_ON = 0.1  # of the strikes of a burst


class Dice:
    """Decides by seed: the n-th question of a habit about a subject always has the same answer."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._asked: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def fraction(self, habit: str, subject: str) -> float:
        """Return the next number in [0, 1) of a habit about a subject.

        >>> Dice(1).fraction("x", "y") == Dice(1).fraction("x", "y")
        True
        """
        with self._lock:
            number = self._asked[habit, subject]
            self._asked[habit, subject] += 1
        return self._number(habit, subject, str(number))

    def fixed(self, habit: str, subject: str) -> float:
        """Return the number in [0, 1) that a habit has for a subject for good."""
        return self._number(habit, subject, "fixed")

    def _number(self, *parts: str) -> float:
        digest = hashlib.sha256("\0".join((str(self.seed), *parts)).encode()).digest()
        return int.from_bytes(digest[:7]) / 2**56


class Bursts:
    """Strikes at a rate, and every tenth time goes on for a while: now and then longer than a client tries again.

    A while is up to ``longest`` seconds, and mostly much less. It is never compressed: neither is a client's backoff.
    """

    def __init__(self, dice: Dice, habit: str, rate: float, now: Callable[[], float], longest: float = 3.0) -> None:
        self._dice, self._habit, self._rate, self._now, self._longest = dice, habit, rate, now, longest
        self._until: dict[str, float] = {}

    def strike(self, subject: str) -> bool:
        """Return whether the next call about a subject is struck."""
        now = self._now()
        if now < self._until.get(subject, 0.0):
            return True
        if self._dice.fraction(self._habit, subject) >= self._rate:
            return False
        if self._dice.fraction(f"{self._habit} goes on", subject) < GOES_ON:
            self._until[subject] = now + self._longest * self._dice.fraction(f"{self._habit} length", subject) ** 3
        return True


class Tally:
    """How often each habit struck; from several threads."""

    def __init__(self) -> None:
        self._struck: Counter[str] = Counter()
        self._lock = threading.Lock()

    def struck(self, habit: str, times: int = 1) -> None:
        """Count."""
        with self._lock:
            self._struck[habit] += times

    def counts(self) -> dict[str, int]:
        """Return the count of each habit that struck at all."""
        with self._lock:
            return dict(sorted(self._struck.items()))
