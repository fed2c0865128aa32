"""Missing windows: a stream fell silent although its baseline expects events.

The baseline of a stream is how many events it usually has at each time of day, learned from its other days.

Every pause of more than two seconds between two consecutive events is a candidate, so a window's edges are exact: the
last event before and the first one after. Its ``score`` is -log10 of the probability that a healthy stream shows such a
pause anywhere in what was scanned: 2 means one healthy search in a hundred. Nights, weekends, quiet streams and events
that come in batches are part of the baseline. A stream that only sends fewer events is not silent and is not reported.
Silence before the first event and after the last event is no gap either, because the baseline expects nothing there;
``silent_since`` names the last event. A window without any pause between two events is not judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pik import events
from pik.errors import UsageError
from pik.frames import TIME, frame
from pik.workbench.detect.baseline import BIN_US, DAY_US, Given, Learned, Times, needed, silence
from pik.workbench.times import local_window, moment, shifted

if TYPE_CHECKING:
    from pik.workbench.detect.arrivals import Arrivals

#: One row for each window. ``score``: -log10 of the probability in a healthy stream, corrected for the search.
GAPS = pa.schema(
    [
        ("start", TIME),
        ("end", TIME),
        ("minutes", pa.float64()),
        ("expected", pa.float64()),
        ("seen", pa.int64()),
        ("score", pa.float64()),
    ]
)
MIN_SCORE = 2.0
#: What the score means, in one line.
SCORE = (
    "score (a number without a unit) is -log10 of the probability that a healthy stream with this baseline shows such "
    "a silence anywhere in the window: 2 is one search in 100, 6 one in a million"
)
FEWEST_DAYS = 3
BASELINE_DAYS = 14
_GRAINS_US = tuple(seconds * 1_000_000 for seconds in (3600, 60, 1))
MOST = 10_000_000  # events of one stream: four a second for a month
_STRAYS = 2  # events that may have slipped through within one outage
Expected = float | Sequence[float]


@dataclass(frozen=True)
class Gaps:
    """Missing windows of a stream.

    Attributes:
        frame: one row a window (:data:`GAPS`), in the order of time; half-open, from the last event before.
        source: the stream's source.
        event_type: its type, or None for all.
        start: of what was asked for, in the kit's format.
        end: of what was asked for.
        events: how many events the baseline was learned from.
        days: how many days they span.
        shortest: how many events in a row must be missing before this stream's silence is reported.
        silent_since: the last event, when the stream has stayed silent until the window's end (or now); else empty.
        problem: why no answer can be given, or empty.
    """

    frame: pd.DataFrame
    source: str
    event_type: str | None
    start: str
    end: str
    events: int
    days: int
    shortest: float
    silent_since: str = ""
    problem: str = ""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def sentences(self) -> list[str]:
        """What was found, one sentence each."""
        if self.problem:
            return [f"Gaps of {self._stream} cannot be determined: {self.problem}."]
        if not len(self):
            return [f"{self._stream} has no silence that its baseline does not explain ({self.events:,} events)."]
        return [
            f"{self._stream} was silent from {row['start']:%Y-%m-%d %H:%M:%S} to {row['end']:%Y-%m-%d %H:%M:%S} UTC"
            f"{local_window(row['start'], row['end'])}: "
            f"{row['expected']:.0f} events expected, {row['seen']} seen (score {row['score']:.1f}: "
            f"a healthy stream shows such a silence {how_often(row['score'])})."
            for row in self.frame.to_dict("records")
        ]

    @property
    def found(self) -> list[dict[str, Any]]:
        """The windows, JSON-able, times in the kit's format."""
        return [
            {
                "start": events.format_time(row["start"]),
                "end": events.format_time(row["end"]),
                "expected": round(row["expected"], 1),
                "seen": row["seen"],
                "surprise": round(row["score"], 2),  # the key of the score in run records
            }
            for row in self.frame.to_dict("records")
        ]

    @property
    def _stream(self) -> str:
        return f"{self.source} {self.event_type}" if self.event_type else self.source


def gaps(
    wb: Arrivals,
    source: str,
    event_type: str | None = None,
    *,
    start: str | datetime,
    end: str | datetime,
    expected: Expected | None = None,
    baseline_days: int = BASELINE_DAYS,
    min_score: float = MIN_SCORE,
    arrivals: pd.DataFrame | None = None,
) -> Gaps:
    """Find the windows of [start, end) in which a stream was silent although its baseline expects events.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.gaps`; besides:

    Args:
        baseline_days: for a shorter window, the baseline is learned from as many days before and after it.
        min_score: gaps with a lower score are not reported.
    """
    begin, stop = moment(start, "start"), moment(end, "end")
    if begin >= stop:
        raise UsageError(f"the window is empty: {begin} to {stop}", next_step="give a start before the end")
    if arrivals is None:
        days = baseline_days if expected is None else 0
        arrivals = arrivals_around(wb, source, event_type, begin, stop, days, ["event_time"])
    return judge(
        microseconds(arrivals["event_time"]),
        source=source,
        event_type=event_type,
        start=begin,
        end=min(stop, max(events.now(), begin)),
        expected=expected,
        min_score=min_score,
    )


def arrivals_around(
    wb: Arrivals,
    source: str,
    event_type: str | None,
    start: str,
    end: str,
    baseline_days: int = BASELINE_DAYS,
    columns: Sequence[str] | None = None,
    limit: int = MOST,
) -> pd.DataFrame:
    """Return the first arrivals of a stream in a window, and as far around it as its baseline is learned from."""
    first, last = with_baseline(start, end, baseline_days)
    return wb.events(
        source=source, event_type=event_type, start=first, end=last, status="ACCEPTED", columns=columns, limit=limit
    )


def how_often(score: float) -> str:
    """Return how often a healthy stream shows a silence of that score.

    >>> how_often(2.0), how_often(4.26), how_often(12.0)
    ('in 1 search of 100', 'in 1 search of 18,000', 'in less than 1 search of a billion')
    """
    if score >= 9:
        return "in less than 1 search of a billion"
    searches = 10**score
    digits = max(0, int(score) - 1)
    return f"in 1 search of {round(searches / 10**digits) * 10**digits:,}"


def judge(
    times: Times,
    *,
    source: str,
    event_type: str | None = None,
    start: str,
    end: str,
    expected: Expected | None = None,
    min_score: float = MIN_SCORE,
) -> Gaps:
    """Find the gaps of a stream whose event times (microseconds since 1970, any order) are known; pure.

    ``times`` may reach beyond [start, end): the baseline is learned from all of them, and only pauses that touch the
    window are judged.
    """
    ordered = np.sort(times)
    low, high = _micro(start), _micro(end)
    baseline = _baseline(ordered, expected)
    problem = _problem(ordered, baseline, low, high)
    if baseline is None or problem:
        return Gaps(frame(GAPS, []), source, event_type, start, end, len(ordered), 0, 0.0, problem=problem)
    if expected is not None:  # the caller states what should be there, so silence at either end counts too
        ordered = np.concatenate([[low], ordered[(ordered >= low) & (ordered < high)], [high]])
    before, after = ordered[:-1], ordered[1:]
    touching = (after > low) & (before < high)
    scanned = int(touching.sum())
    grain = _grain(ordered)
    looked = _suspicious(baseline, before[touching], after[touching], grain, scanned, min_score)
    rows = [_row(baseline, start, end, grain, 0, scanned) for start, end in looked]
    rows = _joined([row for row in rows if row["score"] >= min_score], ordered, baseline, grain, scanned)
    days = baseline.days if isinstance(baseline, Learned) else 0
    return Gaps(
        frame=frame(GAPS, rows),
        source=source,
        event_type=event_type,
        start=start,
        end=end,
        events=len(ordered),
        days=days,
        shortest=_shortest(baseline, ordered, scanned, min_score),
        silent_since=events.format_time(_moment(int(ordered[-1]))) if expected is None and ordered[-1] < high else "",
    )


def microseconds(column: pd.Series[Any]) -> Times:
    """Return a time column of a frame as microseconds since 1970."""
    array = pa.array(column, type=TIME) if len(column) else pa.array([], TIME)
    return np.asarray(array.cast(pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)


def _baseline(times: Times, expected: Expected | None) -> Learned | Given | None:
    if expected is None:
        return Learned(times) if len(times) else None
    try:
        return Given(expected)
    except (ValueError, TypeError):
        raise UsageError(
            f"expected: not a number of events an hour: {expected!r}",
            next_step="give one number, or 24 of them (one for each UTC hour of the day)",
        ) from None


def _problem(times: Times, baseline: Learned | Given | None, low: int, high: int) -> str:
    if baseline is None:
        return "it has no events in or around this window"
    if isinstance(baseline, Given):
        return ""
    if baseline.days < FEWEST_DAYS:
        days = "1 day" if baseline.days == 1 else f"{baseline.days} days"
        return (
            f"its {len(times):,} events span {days}, and a baseline needs {FEWEST_DAYS}; "
            "give expected=, in events an hour"
        )
    if times[-1] <= low or times[0] >= high:  # no pause between two events touches the window
        which, edge = ("last", times[-1]) if times[-1] <= low else ("first", times[0])
        return (
            f"its {which} event is at {_moment(int(edge)):%Y-%m-%d %H:%M:%S} UTC, outside this window; "
            "give expected=, in events an hour"
        )
    return ""


def _grain(times: Times) -> int:
    """How coarse the stream's times are: in a stream of whole hours, an event of 10:00 happened before 11:00."""
    return next((grain for grain in _GRAINS_US if not (times % grain).any()), 0)


def _row(baseline: Learned | Given, start: int, end: int, grain: int, seen: int, scanned: int) -> dict[str, Any]:
    expected = baseline.expected(min(start + grain, end - 1), end)
    judged = [(max(start + scale, min(start + grain, end - 1)), end - scale, scale) for scale in baseline.scales]
    return {
        "start": _moment(start),
        "end": _moment(end),
        "minutes": (end - start) / 60e6,
        "expected": expected,
        "seen": seen,
        "score": max(
            (
                silence(baseline.certain * baseline.expected(a, b), baseline.dispersion_at(scale), scanned)
                for a, b, scale in judged
                if a < b
            ),
            default=0.0,
        ),
    }


def _joined(
    rows: list[dict[str, Any]], times: Times, baseline: Learned | Given, grain: int, scanned: int
) -> list[dict[str, Any]]:
    """Join neighbouring gaps with hardly an event between them; each of them reached the score by itself."""
    joined: list[dict[str, Any]] = []
    for row in rows:
        between = 0
        if joined:
            low, high = _since(joined[-1]["end"]), _since(row["start"])
            between = int(times.searchsorted(high, "right") - times.searchsorted(low))
        if joined and between <= _STRAYS:
            before = joined.pop()
            score = max(before["score"], row["score"])
            seen = before["seen"] + between
            whole = _row(baseline, _since(before["start"]), _since(row["end"]), grain, seen, scanned)
            joined.append(whole | {"score": score})
        else:
            joined.append(row)
    return joined


def _suspicious(
    baseline: Learned | Given, before: Times, after: Times, grain: int, scanned: int, min_score: float
) -> list[tuple[int, int]]:
    """Return the pauses that may reach the score; those of less than a day that cannot are left out at once."""
    keep = after - before >= DAY_US
    for scale in baseline.scales:
        start, end = before + max(scale, grain), after - scale
        inside = start < end
        most = np.where(inside, baseline.bound(start, np.maximum(start, end)), 0.0)
        if (inside & (most >= needed(min_score, 0.0, scanned))).any():
            keep |= inside & (most >= needed(min_score, baseline.dispersion_at(scale), scanned))
    return [(int(a), int(b)) for a, b in zip(before[keep], after[keep], strict=True)]


def _shortest(baseline: Learned | Given, times: Times, scanned: int, min_score: float) -> float:
    """How many events the shortest reported silence lacks, at the rate of the minutes that have any."""
    rate = len(times) / (len(np.unique(times // BIN_US)) * BIN_US) if len(times) else 0.0
    found = [needed(min_score, baseline.dispersion_at(scale), scanned) for scale in baseline.scales]
    ends = [2 * scale * rate for scale in baseline.scales]
    return round(min(n / baseline.certain + more for n, more in zip(found, ends, strict=True)), 1)


def with_baseline(start: str, end: str, days: int) -> tuple[str, str]:
    """Return the window that is read: the window asked for, and as far around it as a baseline is learned from."""
    first, last = events.parse_time(start), events.parse_time(end)
    more = max(timedelta(days=days) - (last - first), timedelta())
    latest = max(datetime.now(UTC), last)
    return events.format_time(shifted(first, -more)), events.format_time(min(shifted(last, more), latest))


def _micro(text: str) -> int:
    return _since(events.parse_time(text))


def _since(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _moment(micro: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micro)
