"""Versions of aggregates and what they count, as the aggregates table holds them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from pik import events
from pik.aws.reading import Row, StoreReader
from pik.replays.records import Replay

_TABLE = "AggregatesTable"


def stored(stores: StoreReader, entity: str, day: str) -> Iterator[Row]:
    """Yield every version of an entity and day, its state as JSON value."""
    for row in stores.under(_TABLE, events.aggregate_pk(entity, day), events.version_sk("")):
        yield {**row, "state": json.loads(row["state"])}


def contributions(stores: StoreReader, entity: str, day: str, replay_id: str) -> Iterator[Row]:
    """Yield the rows that say which events a version counts, in the order of their ids."""
    return stores.under(_TABLE, events.aggregate_pk(entity, day), events.contribution_sk(replay_id, ""))


def first_arrivals(stores: StoreReader, entity: str, day: str) -> list[Row]:
    """Return the rows of an entity's first arrivals with event times of a day."""
    rows = stores.arrivals(entity, f"{day}T00:00:00.000000Z", f"{day}T24")
    return [row for row in rows if row["status"] == events.ACCEPTED]


def selected(replay: Replay, rows: Iterable[Row]) -> set[str]:
    """Return the ids of the events among ``rows`` that a replay's window covers."""
    start, end = str(replay.head["start_time"]), str(replay.head["end_time"])
    return {row["event_id"] for row in rows if start <= row["event_time"] < end}
