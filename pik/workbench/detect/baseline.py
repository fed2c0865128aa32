"""How many events a stream usually has at a time of day, learned from its other days; and the score of a silence.

The baseline of a day is learned from every other day, minute by minute (leave-one-out, so that an outage does not
excuse itself), and scaled to how busy the rest of that day was: a Saturday is not a Monday with gaps. Counts scatter
more than a Poisson process would; how much more is estimated from the data, as a negative binomial's dispersion, for
counts of a second up to those of an hour (:data:`SCALES_US`): events that come in batches scatter much within seconds
and not at all within hours. Each scale judges a silence without its first and last part of the scale's length, because
its counts do not say when within such a part an event was due. The highest score of all scales is used.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

DAY_US = 86_400_000_000
HOUR_US = 3_600_000_000
BINS = 1440  # a day's
BIN_US = DAY_US // BINS
SECOND_US = 1_000_000
SCALES_US = tuple(seconds * SECOND_US for seconds in (1, 5, 15, 60, 300, 900, 3600))  # of counts whose scatter is known
_PRIOR = 5.0  # events: what keeps the level of an almost empty day near 1
_BUSIEST = 1.5  # a day is never believed to be busier than this, times its usual level

Times = NDArray[np.int64]
Counts = NDArray[np.float64]


class Learned:
    """The baseline of one stream. ``times``: sorted event times in microseconds since 1970, at least one.

    >>> days = np.arange(5)[:, None] * DAY_US + np.arange(0, DAY_US, HOUR_US)[None, :]
    >>> round(Learned(days.ravel()).expected(2 * DAY_US, 2 * DAY_US + 6 * HOUR_US), 1)
    6.0
    """

    scales = SCALES_US

    def __init__(self, times: Times) -> None:
        self._first_day = int(times[0] // DAY_US)
        self.days = int(times[-1] // DAY_US) - self._first_day + 1
        index = (times - self._first_day * DAY_US) // BIN_US
        self._counts: Counts = np.bincount(index, minlength=self.days * BINS).reshape(self.days, BINS).astype(float)
        seen = np.zeros(self.days * BINS)
        seen[index[0] : index[-1] + 1] = 1.0  # before the first and after the last event nothing is known
        self._known: Counts = seen.reshape(self.days, BINS)
        self._profiles: dict[tuple[int, ...], Counts] = {}
        self._dispersions: dict[int, float] = {}
        self._times = times

    def expected(self, start: int, end: int) -> float:
        """Events to be expected in [start, end), judged by all days but those that it touches."""
        first, last = self._day(start), self._day(end - 1)
        profile = self._without(tuple(range(first, last + 1)))
        found = 0.0
        for day in range(first, last + 1):
            inside = self._overlap(day, start, end)
            found += float(profile @ inside) * self._level(day, profile, 1.0 - inside)
        return found

    def bound(self, starts: Times, ends: Times) -> Counts:
        """More than is to be expected in each [start, end) of less than a day; for many of them at once."""
        often = np.maximum(self._known.sum(0) - 2, 1)  # two days at most are left out
        upto = np.concatenate([[0.0], np.cumsum(_BUSIEST * (self._counts * self._known).sum(0) / often)])

        def integral(moments: Times) -> Counts:
            days, inside = np.divmod(moments, DAY_US)
            found: Counts = days * upto[-1] + np.interp(inside / BIN_US, np.arange(BINS + 1), upto)
            return found

        return integral(ends) - integral(starts)

    @cached_property
    def certain(self) -> float:
        """How much of what is expected counts: it was learned from some days only, and may be too high by chance.

        What came on k days is Poisson's, with a mean that nothing else is known of; then nothing comes on another day
        with the probability of (k / (k + 1)) ** (k * expected).
        """
        others = max(self.days - 1, 1)
        return others * math.log1p(1 / others)

    @property
    def dispersion(self) -> float:
        """That of the counts of an hour."""
        return self.dispersion_at(HOUR_US)

    def dispersion_at(self, scale: int) -> float:
        """The negative binomial's, of counts of one of :data:`SCALES_US`: their variance is m + dispersion * m**2."""
        if self.days < 2:
            return 0.0
        if scale not in self._dispersions:
            self._dispersions[scale] = self._dispersion(scale)
        return self._dispersions[scale]

    def _dispersion(self, scale: int) -> float:
        counts, parts = self._counted(scale)
        means = self._means.ravel()
        means = np.repeat(means / parts, parts) if scale < BIN_US else means.reshape(-1, scale // BIN_US).sum(1)
        # The mean itself is estimated, and what is wrong with that of a minute is so in all its parts.
        excess = (counts - means) ** 2 - means * (1 + 1 / (parts * (self.days - 1)))
        weight = float((means**2).sum())
        return max(0.0, float(excess.sum()) / weight) if weight else 0.0

    def _counted(self, scale: int) -> tuple[Counts, int]:
        """Counts of every ``scale`` of all days, where something is known, and how many make a minute."""
        if scale >= BIN_US:
            return (self._counts * self._known).reshape(-1, scale // BIN_US).sum(1), 1
        parts = BIN_US // scale
        index = (self._times - self._first_day * DAY_US) // scale
        counts = np.bincount(index, minlength=self.days * BINS * parts).astype(float)
        return counts * np.repeat(self._known.ravel(), parts), parts

    @cached_property
    def _means(self) -> Counts:
        return np.array([self._mean(day) for day in range(self.days)])

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
    """A baseline that the caller states: events an hour, one number or 24 of them (UTC hours of the day)."""

    scales = (0,)
    certain = 1.0

    def __init__(self, hourly: float | Sequence[float]) -> None:
        self._hourly = np.broadcast_to(np.asarray(hourly, dtype=float), (24,))

    def expected(self, start: int, end: int) -> float:
        """Events to be expected in [start, end)."""
        edges = np.arange(start // HOUR_US, -(-end // HOUR_US) + 1) * HOUR_US
        inside = np.clip(np.minimum(end, edges[1:]) - np.maximum(start, edges[:-1]), 0, None) / HOUR_US
        return float(inside @ self._hourly[(edges[:-1] // HOUR_US) % 24])

    def bound(self, starts: Times, ends: Times) -> Counts:
        """Events to be expected in each [start, end)."""
        upto = np.concatenate([[0.0], np.cumsum(self._hourly)])

        def integral(moments: Times) -> Counts:
            days, inside = np.divmod(moments, DAY_US)
            found: Counts = days * upto[-1] + np.interp(inside / HOUR_US, np.arange(25), upto)
            return found

        return integral(ends) - integral(starts)

    def dispersion_at(self, scale: int) -> float:
        """Zero: a stated baseline has no scatter."""
        return 0.0


def silence(expected: float, dispersion: float, scanned: int) -> float:
    """Return the score of a silence: -log10 of its probability, corrected for the number of windows scanned.

    >>> round(silence(20.0, 0.0, 1000), 1)
    5.7
    """
    log = -expected if dispersion * expected < 1e-9 else -math.log1p(dispersion * expected) / dispersion
    return max(0.0, -log / math.log(10) - math.log10(max(scanned, 1)))


def needed(score: float, dispersion: float, scanned: int) -> float:
    """Return how many events must be missing for a silence of that score; infinity when no number is enough.

    >>> needed(5.7, 0.0, 1000) > 20.0 > needed(5.6, 0.0, 1000)
    True
    """
    log = (score + math.log10(max(scanned, 1))) * math.log(10)
    if dispersion * log < 1e-9:
        return log
    return math.expm1(dispersion * log) / dispersion if dispersion * log < 700 else math.inf
