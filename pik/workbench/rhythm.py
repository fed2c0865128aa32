"""How many events a stream usually has at a time of day, learned from its other days; and how surprising silence is.

The rhythm of a day is learned from every other day in quarters of an hour (leave-one-out, so that an outage does not
excuse itself), and scaled to how busy the rest of that day was: a Saturday is not a Monday with gaps. Counts scatter
more than a Poisson process would; how much more is estimated from the data, as a negative binomial's dispersion.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
BINS = 96  # a day's
BIN_US = DAY_US // BINS
_PRIOR = 5.0  # events: what keeps the level of an almost empty day near 1
_BUSIEST = 1.5  # a day is never believed to be busier than this, times its usual level

Times = NDArray[np.int64]
Counts = NDArray[np.float64]


class Learned:
    """The rhythm of one stream. ``times``: sorted event times in microseconds since 1970, at least one.

    >>> days = np.arange(5)[:, None] * DAY_US + np.arange(0, DAY_US, HOUR_US)[None, :]
    >>> round(Learned(days.ravel()).expected(2 * DAY_US, 2 * DAY_US + 6 * HOUR_US), 1)
    6.0
    """

    def __init__(self, times: Times) -> None:
        self._first_day = int(times[0] // DAY_US)
        self.days = int(times[-1] // DAY_US) - self._first_day + 1
        index = (times - self._first_day * DAY_US) // BIN_US
        self._counts: Counts = np.bincount(index, minlength=self.days * BINS).reshape(self.days, BINS).astype(float)
        seen = np.zeros(self.days * BINS)
        seen[index[0] : index[-1] + 1] = 1.0  # before the first and after the last event nothing is known
        self._known: Counts = seen.reshape(self.days, BINS)
        self._profiles: dict[tuple[int, ...], Counts] = {}

    def expected(self, start: int, end: int) -> float:
        """Events to be expected in [start, end), judged by all days but those that it touches."""
        first, last = self._day(start), self._day(end - 1)
        profile = self._without(tuple(range(first, last + 1)))
        found = 0.0
        for day in range(first, last + 1):
            inside = self._overlap(day, start, end)
            found += float(profile @ inside) * self._level(day, profile, 1.0 - inside)
        return found

    @cached_property
    def dispersion(self) -> float:
        """The negative binomial's: the variance of an hour's count is m + dispersion * m**2; 0 is Poisson."""
        if self.days < 2:
            return 0.0
        means = np.array([self._mean(day) for day in range(self.days)])
        counts, means = (_hours(self._counts * self._known), _hours(means))
        excess = (counts - means) ** 2 - means * (1 + 1 / (self.days - 1))  # the mean itself is estimated
        weight = float((means**2).sum())
        return max(0.0, float(excess.sum()) / weight) if weight else 0.0

    def _mean(self, day: int) -> Counts:
        profile = self._without((day,)) * self._known[day]
        scaled: Counts = profile * self._level(day, profile, np.ones(BINS))
        return scaled

    def _level(self, day: int, profile: Counts, part: Counts) -> float:
        """How busy a part of a day was, against what it usually is."""
        if not 0 <= day < self.days:
            return 1.0
        usual = float((profile * self._known[day]) @ part)
        return min((float(self._counts[day] @ part) + _PRIOR) / (usual + _PRIOR), _BUSIEST)

    def _without(self, days: tuple[int, ...]) -> Counts:
        if days not in self._profiles:
            known = self._known.copy()
            known[[day for day in days if 0 <= day < self.days]] = 0
            often = known.sum(0)
            self._profiles[days] = (self._counts * known).sum(0) / np.maximum(often, 1)
        return self._profiles[days]

    def _day(self, moment: int) -> int:
        return int(moment // DAY_US) - self._first_day

    def _overlap(self, day: int, start: int, end: int) -> Counts:
        edges = (self._first_day + day) * DAY_US + np.arange(BINS + 1) * BIN_US
        inside: Counts = np.clip(np.minimum(end, edges[1:]) - np.maximum(start, edges[:-1]), 0, None) / BIN_US
        return inside


class Given:
    """A rhythm that somebody states: events an hour, one number or 24 of them (UTC hours of the day)."""

    dispersion = 0.0

    def __init__(self, hourly: float | Sequence[float]) -> None:
        self._hourly = np.broadcast_to(np.asarray(hourly, dtype=float), (24,))

    def expected(self, start: int, end: int) -> float:
        """Events to be expected in [start, end)."""
        edges = np.arange(start // HOUR_US, -(-end // HOUR_US) + 1) * HOUR_US
        inside = np.clip(np.minimum(end, edges[1:]) - np.maximum(start, edges[:-1]), 0, None) / HOUR_US
        return float(inside @ self._hourly[(edges[:-1] // HOUR_US) % 24])


def silence(expected: float, dispersion: float, scanned: int) -> float:
    """How surprising it is that nothing came: -log10 of the probability, corrected for the number of windows scanned.

    >>> round(silence(20.0, 0.0, 1000), 1)
    5.7
    """
    log = -expected if dispersion * expected < 1e-9 else -math.log1p(dispersion * expected) / dispersion
    return max(0.0, -log / math.log(10) - math.log10(max(scanned, 1)))


def _hours(bins: Counts) -> Counts:
    return np.asarray(bins.reshape(len(bins), 24, BINS // 24).sum(2))
