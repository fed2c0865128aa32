"""Storms of duplicates: who sent the same again, when, how many, and whether it was the same request.

A lost answer makes a producer repeat one event once; that is usual, and its share is learned from the arrivals
themselves. A storm is more repeats of a source and producer, close in time, than that share explains. Its events are
those that came again most: where most of them came again at least twice, an ordinary single retry beside them is not
counted as part of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from pik import events
from pik.errors import UsageError
from pik.frames import TIME, frame
from pik.workbench.detect.lateness import plain
from pik.workbench.times import local_window, moment

if TYPE_CHECKING:
    from pik.workbench.detect.arrivals import Arrivals

#: One row for each storm. ``score``: -log10 of the probability of so many ordinary repeats.
STORMS = pa.schema(
    [
        ("source", pa.string()),
        ("producer", pa.string()),
        ("start", TIME),
        ("end", TIME),
        ("duplicates", pa.int64()),
        ("events", pa.int64()),
        ("entities", pa.int64()),
        ("same_request", pa.int64()),  # of the duplicates: the producer's own request id came before
        ("new_requests", pa.int64()),
        ("expected", pa.float64()),
        ("score", pa.float64()),
    ]
)
#: What is looked at of each arrival.
COLUMNS = ["event_id", "status", "source", "entity_id", "ingest_time", "producer", "client_request_id", "sk"]
USUAL_SHARE = 0.02  # the least that is taken for usual: one repeat in fifty events
FEWEST = 5
MIN_SCORE = 3.0
PAUSE = timedelta(minutes=5)  # between two storms


@dataclass(frozen=True)
class Duplicates:
    """Storms of duplicates.

    Attributes:
        frame: one row a storm (:data:`STORMS`), by when it began.
        event_ids: the events of each storm.
        arrivals: how many arrivals were judged.
        duplicates: how many of them were repeats, ordinary ones included.
    """

    frame: pd.DataFrame
    event_ids: tuple[tuple[str, ...], ...] = field(repr=False)
    arrivals: int
    duplicates: int

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def sentences(self) -> list[str]:
        """What was found, one sentence a storm."""
        if not len(self):
            return [f"No duplicate storm: {self.duplicates:,} of {self.arrivals:,} arrivals are duplicates, as usual."]
        return [_sentence(row) for row in self.frame.to_dict("records")]

    @property
    def found(self) -> list[dict[str, Any]]:
        """The storms with their event ids, JSON-able, times in the kit's format."""
        recorded = self.frame.rename(columns={"score": "surprise"})  # the key of the score in run records
        rows = zip(recorded.to_dict("records"), self.event_ids, strict=True)
        return [{**plain(row), "event_ids": list(ids)} for row, ids in rows]


def duplicates(
    wb: Arrivals,
    *,
    start: str | datetime,
    end: str | datetime,
    source: str | None = None,
    entity: str | None = None,
    arrivals: pd.DataFrame | None = None,
) -> Duplicates:
    """Find the storms among what arrived in [start, end), ingest time.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.duplicates`.
    """
    begin, stop = moment(start, "start"), moment(end, "end")
    if begin >= stop:
        raise UsageError(f"the window is empty: {begin} to {stop}", next_step="give a start before the end")
    chosen = wb.events(ingested=(begin, stop), columns=COLUMNS) if arrivals is None else arrivals
    for name, wanted in (("source", source), ("entity_id", entity)):
        chosen = chosen if wanted is None else chosen[chosen[name] == wanted]
    return judge(chosen)


def judge(arrivals: pd.DataFrame) -> Duplicates:
    """Find the storms among arrivals (:data:`pik.frames.EVENTS`); pure."""
    repeats = arrivals[arrivals["status"] == events.DUPLICATE]
    storms = sorted(_storms(arrivals, repeats), key=lambda storm: storm[0]["start"])
    return Duplicates(
        frame=frame(STORMS, [row for row, _ in storms]),
        event_ids=tuple(ids for _, ids in storms),
        arrivals=len(arrivals),
        duplicates=len(repeats),
    )


def _storms(arrivals: pd.DataFrame, repeats: pd.DataFrame) -> Iterator[tuple[dict[str, Any], tuple[str, ...]]]:
    if repeats.empty:
        return
    for (source, producer), some in repeats.groupby(["source", "producer"], dropna=False):
        for burst in _bursts(some):
            members = _members(burst)
            others = len(some) - len(burst)
            firsts = arrivals[(arrivals["source"] == source) & (arrivals["status"] == events.ACCEPTED)]
            usual = max(USUAL_SHARE, others / max(len(firsts), 1))
            expected = usual * max(_during(firsts, burst), burst["event_id"].nunique())
            score = _score(len(members), expected)
            if len(members) >= FEWEST and score >= MIN_SCORE:
                same = _same_requests(arrivals, members)
                ids = tuple(sorted(members["event_id"].unique().tolist()))
                yield _row(source, producer, members, same, expected, score), ids


def _bursts(repeats: pd.DataFrame) -> Iterator[pd.DataFrame]:
    ordered = repeats.sort_values(["ingest_time", "sk"])
    apart = ordered["ingest_time"].astype("datetime64[us, UTC]").diff() > PAUSE
    yield from (group for _, group in ordered.groupby(apart.cumsum().to_numpy()))


def _members(burst: pd.DataFrame) -> pd.DataFrame:
    times = burst["event_id"].map(burst["event_id"].value_counts())
    again = times >= 2
    # Most of the duplicates belong to events that came again and again: the single ones are ordinary retries.
    return burst[again.to_numpy(dtype=bool)] if int(again.sum()) * 2 >= len(burst) else burst


def _during(firsts: pd.DataFrame, burst: pd.DataFrame) -> int:
    low, high = burst["ingest_time"].min(), burst["ingest_time"].max()
    return int(((firsts["ingest_time"] >= low) & (firsts["ingest_time"] <= high)).sum())


def _same_requests(arrivals: pd.DataFrame, members: pd.DataFrame) -> int:
    """How many of the duplicates carry a request id that an earlier arrival of the same event carried."""
    about = arrivals[arrivals["event_id"].isin(members["event_id"].unique())].sort_values(["ingest_time", "sk"])
    known = about[about["client_request_id"].notna()]
    again = known[known.duplicated(["event_id", "client_request_id"])]
    return int(again["sk"].isin(members["sk"]).sum())


def _score(seen: int, expected: float) -> float:
    """Return -log10 of the chance that a Poisson process of this mean gives as many or more."""
    if seen <= expected:
        return 0.0
    log = seen * math.log(expected) - expected - math.lgamma(seen + 1)
    rest = sum(
        math.exp((n - seen) * math.log(expected) + math.lgamma(seen + 1) - math.lgamma(n + 1))
        for n in range(seen, seen + 200)
    )
    return -(log + math.log(rest)) / math.log(10)


def _row(source: Any, producer: Any, members: pd.DataFrame, same: int, expected: float, score: float) -> dict[str, Any]:
    return {
        "source": source,
        "producer": None if pd.isna(producer) else producer,
        "start": members["ingest_time"].min(),
        "end": members["ingest_time"].max(),
        "duplicates": len(members),
        "events": int(members["event_id"].nunique()),
        "entities": int(members["entity_id"].nunique()),
        "same_request": same,
        "new_requests": len(members) - same,
        "expected": expected,
        "score": score,
    }


def _sentence(row: dict[Any, Any]) -> str:
    if row["same_request"] == row["duplicates"]:
        how = "each the same request again"
    elif not row["same_request"]:
        how = "each a new request"
    else:
        how = f"{row['same_request']:,} the same request again, {row['new_requests']:,} new ones"
    when = f"{row['start']:%Y-%m-%d %H:%M:%S} to {row['end']:%H:%M:%S} UTC"
    when += local_window(row["start"], row["end"])
    return (
        f"{row['source']} repeated {row['events']:,} events of {row['entities']:,} entities, in {row['duplicates']:,} "
        f"duplicates, {when}: {how}."
    )
