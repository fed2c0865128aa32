"""What came later than its stream usually does, in batches; and whose clock is ahead.

Lags are judged against the stream's own: the logarithm of a healthy stream's lags scatters around its median, so what
lies many robust deviations (MAD) above it is late, whether the usual lag is seconds, or years for a backfill. Only
first arrivals are judged: that a repeat comes later is its nature. A negative lag is impossible but for a wrong clock.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from pik import events
from pik.errors import UsageError
from pik.frames import TIME, frame
from pik.workbench.times import local_window, moment, span

if TYPE_CHECKING:
    from pik.workbench.detect.arrivals import Arrivals

LATE, AHEAD = "late", "clock ahead"

#: One row for each batch of late events, and for each entity of a producer whose clock is ahead.
LATENESS = pa.schema(
    [
        ("kind", pa.string()),  # "late" or "clock ahead"
        ("producer", pa.string()),
        ("entity_id", pa.string()),  # null: several
        ("events", pa.int64()),
        ("median_lag_ms", pa.int64()),
        ("usual_lag_ms", pa.int64()),
        ("first_event", TIME),
        ("last_event", TIME),
        ("first_ingest", TIME),
        ("last_ingest", TIME),
    ]
)
DEVIATIONS = 5.5
FEWEST = 20  # events: fewer have no usual lag
_FLOOR_MS = 60_000  # less than this above the median is never late
_LEAST_SCATTER = 0.1  # of the logarithm: a stream of perfectly even lags is not judged to the millisecond
_TOLERANCE_MS = 1_000  # clocks that are kept in time differ by less
_BACKFILL_MS = 3_600_000
_PAUSE = timedelta(minutes=5)  # between two batches


@dataclass(frozen=True)
class Lateness:
    """What is out of the ordinary in a stream's lags.

    Attributes:
        frame: one row a batch of late events or an entity whose clock is ahead (:data:`LATENESS`).
        event_ids: the events of each of these rows.
        events: how many first arrivals were judged.
        usual_ms: the median lag.
        limit_ms: the lag from which on an event is late here.
        problem: why no answer can be given, or empty.
    """

    frame: pd.DataFrame
    event_ids: tuple[tuple[str, ...], ...] = field(repr=False)
    events: int
    usual_ms: int
    limit_ms: int
    problem: str = ""

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def late(self) -> pd.DataFrame:
        """The batches of late events."""
        return self.frame[self.frame["kind"] == LATE]

    @property
    def ahead(self) -> pd.DataFrame:
        """The clocks that are ahead."""
        return self.frame[self.frame["kind"] == AHEAD]

    @property
    def sentences(self) -> list[str]:
        """What was found, one sentence a row."""
        if self.problem:
            return [f"Late events cannot be determined: {self.problem}."]
        if not len(self):
            usual, limit = span(self.usual_ms), span(self.limit_ms)
            return [f"No event is late: {self.events:,} events, the usual lag is {usual}, and none is over {limit}."]
        return [_sentence(row) for row in self.frame.to_dict("records")]

    @property
    def found(self) -> list[dict[str, Any]]:
        """The rows with their event ids, JSON-able, times in the kit's format."""
        rows = zip(self.frame.to_dict("records"), self.event_ids, strict=True)
        return [{**plain(row), "event_ids": list(ids)} for row, ids in rows]


def lateness(
    wb: Arrivals,
    source: str,
    event_type: str | None = None,
    *,
    start: str | datetime,
    end: str | datetime,
    deviations: float = DEVIATIONS,
    arrivals: pd.DataFrame | None = None,
) -> Lateness:
    """Judge the lags of a stream's events of [start, end), event time.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.lateness`; besides:

    Args:
        deviations: how many robust standard deviations of the logarithm above the median are late.
    """
    begin, stop = moment(start, "start"), moment(end, "end")
    if begin >= stop:
        raise UsageError(f"the window is empty: {begin} to {stop}", next_step="give a start before the end")
    if arrivals is None:
        arrivals = wb.events(
            source=source,
            event_type=event_type,
            start=begin,
            end=stop,
            status=events.ACCEPTED,
            columns=["event_id", "status", "entity_id", "event_time", "ingest_time", "lag_ms", "producer"],
        )
    return judge(arrivals, deviations=deviations)


def judge(arrivals: pd.DataFrame, *, deviations: float = DEVIATIONS) -> Lateness:
    """Judge arrivals (:data:`pik.frames.EVENTS`); pure."""
    firsts = arrivals[arrivals["status"] == events.ACCEPTED]
    lags = np.asarray(firsts["lag_ms"].to_numpy(dtype="int64", na_value=0), dtype=np.int64)
    if len(lags) < FEWEST:
        problem = f"{len(lags):,} events are too few to know the usual lag; at least {FEWEST} are needed"
        return Lateness(frame(LATENESS, []), (), len(lags), 0, 0, problem)
    usual, limit = _limit(lags, deviations)
    groups = [(LATE, group) for group in _batches(firsts[lags > limit])]
    groups += [(AHEAD, group) for group in _clocks(firsts[lags < -_TOLERANCE_MS])]
    return Lateness(
        frame=frame(LATENESS, [_row(kind, group, usual) for kind, group in groups]),
        event_ids=tuple(tuple(sorted(group["event_id"].tolist())) for _, group in groups),
        events=len(lags),
        usual_ms=usual,
        limit_ms=limit,
    )


def plain(row: dict[Any, Any]) -> dict[str, Any]:
    """Return a frame's row JSON-able: times in the kit's format, nulls left out."""
    kept = {str(name): value for name, value in row.items() if not pd.isna(value)}
    return {name: events.format_time(v) if isinstance(v, datetime) else v for name, v in kept.items()}


def _limit(lags: Any, deviations: float) -> tuple[int, int]:
    usual = int(np.median(lags))
    # What is sent hours or years after it happened, as a backfill is, has that in common: it is judged by the rest.
    common = int(np.quantile(lags[lags >= 0], 0.01)) if usual > _BACKFILL_MS else 0
    logs = np.log(np.clip(lags - common, 1, None))
    middle = float(np.median(logs))
    scatter = max(1.4826 * float(np.median(np.abs(logs - middle))), _LEAST_SCATTER)
    limit = common + float(np.exp(min(middle + deviations * scatter, 40.0)))
    return usual, int(max(limit, usual + _FLOOR_MS))


def _batches(late: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Late events that came one soon after the other."""
    ordered = late.sort_values(["ingest_time", "event_id"])
    if len(ordered):
        apart = ordered["ingest_time"].astype("datetime64[us, UTC]").diff() > _PAUSE
        yield from (group for _, group in ordered.groupby(apart.cumsum().to_numpy()))


def _clocks(early: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Events from the future, by who sent them about what."""
    if len(early):
        yield from (group for _, group in early.groupby(["producer", "entity_id"], dropna=False))


def _row(kind: str, group: pd.DataFrame, usual: int) -> dict[str, Any]:
    return {
        "kind": kind,
        **{name: _only(group[name]) for name in ("producer", "entity_id")},
        "events": len(group),
        "median_lag_ms": int(np.median(group["lag_ms"].to_numpy(dtype="int64"))),
        "usual_lag_ms": usual,
        "first_event": group["event_time"].min(),
        "last_event": group["event_time"].max(),
        "first_ingest": group["ingest_time"].min(),
        "last_ingest": group["ingest_time"].max(),
    }


def _only(column: pd.Series[Any]) -> str | None:
    values = column.dropna().unique().tolist()
    return str(values[0]) if len(values) == 1 else None


def _sentence(row: dict[Any, Any]) -> str:
    about = f"of {row['entity_id']} " if not pd.isna(row["entity_id"]) else ""
    lag = span(abs(int(row["median_lag_ms"])))
    if row["kind"] == AHEAD:
        return f"{row['events']:,} events {about}came {lag} before they happened: their producer's clock is ahead."
    when = f"{row['first_ingest']:%Y-%m-%d %H:%M:%S} to {row['last_ingest']:%H:%M:%S} UTC"
    when += local_window(row["first_ingest"], row["last_ingest"])
    usual = span(int(row["usual_lag_ms"]))
    return f"{row['events']:,} events {about}came {lag} late, {when}; usual are {usual}."
