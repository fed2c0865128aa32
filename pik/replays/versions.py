"""Versions of aggregates and what they count, as the aggregates table holds them."""

from __future__ import annotations

import json
from collections.abc import Iterator

from pik import events
from pik.aws.reading import Row, StoreReader

_TABLE = "AggregatesTable"


def stored(stores: StoreReader, entity: str, day: str) -> Iterator[Row]:
    """Yield every version of an entity and day, its state as JSON value."""
    for row in stores.under(_TABLE, events.aggregate_pk(entity, day), events.version_sk("")):
        yield {**row, "state": json.loads(row["state"])}


def contributions(stores: StoreReader, entity: str, day: str, replay_id: str) -> Iterator[Row]:
    """Yield the rows that say which events a version counts, in the order of their ids."""
    return stores.under(_TABLE, events.aggregate_pk(entity, day), events.contribution_sk(replay_id, ""))
