"""Aggregate versions as a frame, the difference of two of them, and their drift from the raw objects.

A version belongs to an entity, a day and a replay. Numbers are compared as the aggregator wrote them (exact decimals);
the frame's ``state.…`` columns are doubles, for charts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import events, frames
from pik.aws.reading import StoreReader
from pik.aws.stack import aws_errors
from pik.events import Event
from pik.pipeline.aggregators import fold
from pik.replays.records import Replay
from pik.replays.versions import contributions, first_arrivals, selected, stored
from pik.workbench.replays import known
from pik.workbench.versions import (
    CONTRIBUTIONS,
    Key,
    Row,
    differences,
    leaves,
    number,
    require,
    version_key,
)

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

COMPLETE, PARTIAL, UNKNOWN = "COMPLETE", "PARTIAL", "UNKNOWN"


def aggregates(
    aws: Connection,
    entity: str | None = None,
    day: str | None = None,
    *,
    replay: str | None = None,
    include_probes: bool = False,
) -> pd.DataFrame:
    """Return aggregate versions as a frame (:data:`pik.frames.AGGREGATES`), and ``state.…`` columns.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.aggregates`.
    """
    with aws_errors(aws.environment, "read the aggregates"):
        of = known(aws, entity=entity, replay_ids=None if replay is None else [replay])
        written = stored(aws.stores, entity, day) if entity is not None and day is not None else ()
        found: dict[Key, Row | None] = {version_key(row): row for row in written}
        keys = [
            (str(one.head["entity_id"]), of_day, one.replay_id)
            for one in of.values()
            for of_day in one.expected
            if day in (None, of_day)
        ]
        found |= aws.stores.versions(key for key in keys if key not in found)
    rows = [_row(key, version, of.get(key[2])) for key, version in found.items() if replay in (None, key[2])]
    if not include_probes and entity is None and replay is None:
        rows = [row for row in rows if not events.is_probe(row["entity_id"])]
    rows.sort(key=lambda row: (row["entity_id"], row["day"], row["replay_id"]))
    return _frame(rows)


@dataclass(frozen=True)
class AggregateDiff:
    """Two versions compared: the events that only one of them counts, and the numbers that differ.

    Attributes:
        a: the one version: (entity, day, replay).
        b: the other.
        only_in_a: events that only ``a`` counts (:data:`CONTRIBUTIONS`).
        only_in_b: events that only ``b`` counts.
        numbers: what differs in their states (:data:`NUMBERS`).
        in_both: how many events both count.
    """

    a: Key
    b: Key
    only_in_a: pd.DataFrame = field(repr=False)
    only_in_b: pd.DataFrame = field(repr=False)
    numbers: pd.DataFrame = field(repr=False)
    in_both: int

    @property
    def same(self) -> bool:
        """Whether they count the same events and have the same state."""
        return self.only_in_a.empty and self.only_in_b.empty and self.numbers.empty

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        if self.same:
            return f"{self.a[2]} and {self.b[2]} count the same {self.in_both} events and have the same state"
        return (
            f"{self.in_both} events in both, {len(self.only_in_a)} only in {self.a[2]}, "
            f"{len(self.only_in_b)} only in {self.b[2]}; {len(self.numbers)} values differ"
        )

    def __str__(self) -> str:
        return self.sentence


def aggregate_diff(aws: Connection, a: Any, b: Any) -> AggregateDiff:
    """Compare two versions down to the events that differ.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.aggregate_diff`.
    """
    first, second = version_key(a), version_key(b)
    with aws_errors(aws.environment, "compare two aggregates"):
        states = [require(aws, key)["state"] for key in (first, second)]
        left, right = ({row["event_id"]: row for row in contributions(aws.stores, *key)} for key in (first, second))
    return AggregateDiff(
        first,
        second,
        only_in_a=frames.frame(CONTRIBUTIONS, [left[name] for name in left if name not in right]),
        only_in_b=frames.frame(CONTRIBUTIONS, [right[name] for name in right if name not in left]),
        numbers=differences(*states),
        in_both=len(left.keys() & right.keys()),
    )


@dataclass(frozen=True)
class Drift:
    """A version compared with its raw objects as they are now.

    Attributes:
        version: (entity, day, replay).
        numbers: what differs between the stored state (``a``) and the one computed from the raw objects of the events
            that the version counts (``b``), :data:`NUMBERS`.
        missing: events of the replay's selection that the version does not count (event ids).
        extra: events that the version counts and the selection has not.
        problems: event id -> what is wrong with its raw object; such an event is left out of the computation.
        counted: how many events the version counts, by its contributions.
        selected: how many the selection has.
    """

    version: Key
    numbers: pd.DataFrame = field(repr=False)
    missing: tuple[str, ...]
    extra: tuple[str, ...]
    problems: dict[str, str]
    counted: int
    selected: int

    @property
    def drifted(self) -> bool:
        """Whether anything differs."""
        return bool(len(self.numbers) or self.missing or self.extra or self.problems)

    @property
    def sentence(self) -> str:
        """What it means, in one sentence."""
        name = " · ".join(self.version)
        if not self.drifted:
            return f"{name} matches its {self.counted} raw objects, and counts every selected event"
        return (
            f"{name} differs: {len(self.numbers)} values do not match the raw objects, {len(self.missing)} selected"
            f" events are not counted, {len(self.extra)} counted events are not selected, {len(self.problems)} raw"
            " objects are missing or altered"
        )

    def __str__(self) -> str:
        return self.sentence


def aggregate_drift(aws: Connection, entity: str, day: str, replay: str) -> Drift:
    """Compute a version again, from raw objects alone, and compare.

    Raises:
        UsageError: the version is not written.
        AwsError: AWS refused or did not answer.

    Example:
        >>> aggregate_drift(wb, "N14228", "2013-01-01", "rp-7").drifted  # doctest: +SKIP
        False
    """
    key, stores = (entity, day, replay), aws.stores
    with aws_errors(aws.environment, "compute an aggregate again"):
        version = require(aws, key)
        counted = {row["event_id"]: row for row in contributions(aws.stores, *key)}
        rows = {row["event_id"]: row for row in first_arrivals(stores, entity, day)}
        read, problems = _read(stores, counted, rows)
        selected = _selected(aws, replay, rows)
    again = fold(version["aggregator"], read)
    return Drift(
        key,
        numbers=differences(version["state"], again.get((entity, day), ({}, 0))[0]),
        missing=tuple(sorted(selected - counted.keys())),
        extra=tuple(sorted(counted.keys() - selected)) if selected else (),
        problems=problems,
        counted=len(counted),
        selected=len(selected),
    )


def _frame(rows: list[Row]) -> pd.DataFrame:
    """Versions as a frame, with a column for each number that one of their states has."""
    columns: dict[str, None] = {}
    for row in rows:
        found = {f"state.{path}": number(text) for path, text in leaves(row["state"] or {})}
        row |= {name: value for name, value in found.items() if value is not None}
        columns |= dict.fromkeys(name for name, value in found.items() if value is not None)
    schema = pa.schema([*frames.AGGREGATES, *((name, pa.float64()) for name in sorted(columns))])
    return frames.frame(schema, rows)


def _row(key: Key, version: Row | None, replay: Replay | None) -> Row:
    count = int(version["input_count"]) if version else 0
    expected = replay.expected.get(key[1]) if replay else None
    return {
        **dict(zip(("entity_id", "day", "replay_id"), key, strict=True)),
        **{name: version[name] if version else None for name in ("aggregator", "state", "updated")},
        "input_count": count,
        "expected_count": expected,
        "completeness": completeness(count, expected, replay is not None and replay.complete),
    }


def completeness(count: int, expected: int | None, sent_to_its_end: bool) -> str:
    """Return whether a version counts everything that its replay sent, as far as the replay's record says."""
    if expected is None or count > expected:
        return UNKNOWN
    return COMPLETE if sent_to_its_end and count == expected else PARTIAL


def _read(
    stores: StoreReader, counted: Mapping[str, Row], rows: Mapping[str, Row]
) -> tuple[list[Event], dict[str, str]]:
    """The events that a version counts, from their raw objects, and what is wrong with the others."""
    objects, found, problems = stores.raws(row["s3_key"] for row in counted.values()), list[Event](), dict[str, str]()
    for name, row in counted.items():
        raw = objects[row["s3_key"]]
        try:
            event = raw.event() if raw else None
        except (ValueError, KeyError) as error:
            problems[name] = f"the raw object is not an event: {error}"
            continue
        if event is None:
            problems[name] = f"there is no raw object {row['s3_key']}"
        elif event.event_id != name or event.payload_sha256 != rows.get(name, {}).get(
            "payload_sha256", event.payload_sha256
        ):
            problems[name] = "the raw object is not what was received"
        else:
            found.append(event)
    return found, problems


def _selected(aws: Connection, replay_id: str, rows: Mapping[str, Row]) -> set[str]:
    """The events of a day that a replay's window covers; none when the replay is not known."""
    replay = known(aws, replay_ids=[replay_id]).get(replay_id)
    return selected(replay, rows.values()) if replay else set()
