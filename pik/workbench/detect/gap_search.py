"""Missing windows of one source or of every source, in one search; each source is judged by its own baseline.

A gap's ``score`` judges its source alone. So it is the same whether one source is searched or all of them, and a search
of all sources reports what a search of each one would. Therefore about one in a hundred healthy sources is reported by
chance; the answer states how many that may be.

A search of all sources first asks which there are (:mod:`pik.workbench.sources`: 1 + S + 2 T requests of S3), and reads
those with events in the window or in the days around it that the baseline is learned from. It makes at most
:data:`MOST_QUERIES` queries of the index by source (each day, type and shard is one) and reads at most
:data:`pik.workbench.detect.gaps.MOST` rows. Sources that no longer fit are named in ``unsearched``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pandas as pd

from pik import events, frames
from pik.errors import Refused
from pik.workbench import times
from pik.workbench.detect import gaps
from pik.workbench.detect.gaps import BASELINE_DAYS, MOST, Expected, Gaps

if TYPE_CHECKING:
    from pik.workbench.workbench import Workbench

MOST_QUERIES = 20_000  # of a search of all sources; half a read capacity unit each, even when they find nothing
COLUMNS = ("event_time", "ingest_time", "event_type", "entity_id", "event_id")  # of an event at a gap's edge


@dataclass(frozen=True)
class GapSearch:
    """What a search found.

    Attributes:
        streams: the answer for each source that was searched, by name.
        edges: the events at the edges of the gaps: ``source`` and :data:`COLUMNS`.
        arrivals: first arrivals of the source with the highest score (or of the only one), with its baseline.
        unsearched: sources that the bounds left out, and why.
        complete: False when there are more streams than :data:`pik.workbench.sources.MOST`; the rest is not known here.
        known: the sources there are and their days (:data:`pik.frames.SOURCES`); empty when one was given.
    """

    streams: tuple[Gaps, ...]
    edges: pd.DataFrame
    arrivals: pd.DataFrame
    unsearched: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True
    known: pd.DataFrame = field(default_factory=lambda: frames.frame(frames.SOURCES, []))

    @property
    def ranked(self) -> list[tuple[Gaps, int]]:
        """Every gap as its source's answer and its row there, the highest score first."""
        return sorted(
            ((one, row) for one in self.streams for row in range(len(one))),
            key=lambda gap: (-_score(*gap), gap[0].source, gap[1]),
        )

    @property
    def frame(self) -> pd.DataFrame:
        """The gaps (``source`` and :data:`pik.workbench.detect.gaps.GAPS`), the highest score first."""
        rows = [one.frame.iloc[[row]].assign(source=one.source) for one, row in self.ranked]
        found = pd.concat(rows, ignore_index=True) if rows else frames.frame(gaps.GAPS, []).assign(source="")
        return found[["source", *gaps.GAPS.names]]

    @property
    def first(self) -> Gaps | None:
        """The source with the highest score, or the only one searched: the one that ``arrivals`` belong to."""
        ranked = self.ranked
        return ranked[0][0] if ranked else self.streams[0] if len(self.streams) == 1 else None


def search(
    wb: Workbench,
    source: str | None = None,
    event_type: str | None = None,
    *,
    start: str,
    end: str,
    expected: Expected | None = None,
) -> GapSearch:
    """Search one source, or every source when none is given, for missing windows.

    Args:
        wb: the workbench.
        source: only this one's.
        event_type: its type, or that of every source; all types together when it is left out.
        start: event time, included, in the kit's format.
        end: event time, not included.
        expected: events an hour, of one source, instead of its learned baseline.

    Raises:
        Refused: the only source does not fit into the bounds.
        AwsError: S3 or DynamoDB refused or did not answer.
    """
    reading = _Reading(wb, event_type, start, end, expected)
    if source is not None:
        reading.judge(source, MOST)
        return reading.found(complete=True, known=None)
    known = wb.sources()
    for name, types in _around(known, *gaps.with_baseline(start, end, BASELINE_DAYS), event_type):
        reading.judge_within_bounds(name, types)
    return reading.found(complete=bool(known.attrs.get("complete", True)), known=known)


@dataclass
class _Reading:
    """Sources read one after the other, so that the events of one at a time are held, and those shown."""

    wb: Workbench
    event_type: str | None
    start: str
    end: str
    expected: Expected | None
    streams: list[Gaps] = field(default_factory=list)
    edges: list[pd.DataFrame] = field(default_factory=list)
    arrivals: pd.DataFrame | None = None
    unsearched: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    queries: int = 0
    highest: float = 0.0

    def judge(self, source: str, limit: int) -> None:
        days = BASELINE_DAYS if self.expected is None else 0
        frame = gaps.arrivals_around(
            self.wb, source, self.event_type, self.start, self.end, days, list(COLUMNS), limit=limit
        )
        found = self.wb.gaps(
            source, self.event_type, start=self.start, end=self.end, expected=self.expected, arrivals=frame
        )
        self.rows += frame.attrs.get("rows_read", len(frame))
        self.streams.append(found)
        self.edges.append(_edges(found, frame))
        highest = max((_score(found, row) for row in range(len(found))), default=0.0)
        if self.arrivals is None or highest > self.highest:
            self.arrivals, self.highest = frame, highest

    def judge_within_bounds(self, source: str, types: int) -> None:
        read = times.count_days(*gaps.with_baseline(self.start, self.end, BASELINE_DAYS))
        self.queries += read * events.INDEX_SHARDS * types
        if self.queries > MOST_QUERIES:
            self.unsearched[source] = f"one search makes at most {MOST_QUERIES:,} queries of an index"
            return
        try:
            self.judge(source, MOST - self.rows)
        except Refused as error:
            self.unsearched[source] = f"{error.message} (one search reads at most {MOST:,})"

    def found(self, *, complete: bool, known: pd.DataFrame | None) -> GapSearch:
        empty = pd.DataFrame(columns=list(COLUMNS))
        return GapSearch(
            streams=tuple(self.streams),
            edges=pd.concat(self.edges, ignore_index=True) if self.edges else empty.assign(source=""),
            arrivals=empty if self.arrivals is None else self.arrivals,
            unsearched=self.unsearched,
            complete=complete,
            known=frames.frame(frames.SOURCES, []) if known is None else known,
        )


def _around(known: pd.DataFrame, start: str, end: str, event_type: str | None) -> Iterator[tuple[str, int]]:
    """Each source that has events on a day of [start, end), by name, and how many of its types to read."""
    chosen = known if event_type is None else known[known["event_type"] == event_type]
    for name, streams in chosen.groupby("source", sort=True):
        if streams["first_day"].min() <= end[:10] and streams["last_day"].max() >= start[:10]:
            yield str(name), len(streams)


def _score(found: Gaps, row: int) -> float:
    return float(found.frame["score"].iloc[row])


def _edges(found: Gaps, arrivals: pd.DataFrame) -> pd.DataFrame:
    """The last event before each gap, and the first one after it."""
    moments: Sequence[object] = [*found.frame["start"], *found.frame["end"]]
    shown = arrivals[arrivals["event_time"].isin(moments)] if moments else arrivals.head(0)
    columns = [name for name in COLUMNS if name in shown.columns]
    return shown[columns].assign(source=found.source)[["source", *columns]]
