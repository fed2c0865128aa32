"""The replays table, read: every replay, some of them, or those of an entity (:mod:`pik.replays.records`)."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pik import events
from pik.aws import batch
from pik.aws.reading import PARALLEL, StoreReader
from pik.pipeline.aws import from_item
from pik.replays.records import Replay, Row, replays_of

_TABLE = "ReplaysTable"


def every(stores: StoreReader) -> dict[str, Replay]:
    """Return what is recorded of every replay, by its id, oldest first: a scan of the table."""
    pages = stores.client("dynamodb").get_paginator("scan")
    found = pages.paginate(TableName=stores.outputs[_TABLE], ConsistentRead=True)
    return replays_of(from_item(item) for page in found for item in page["Items"])


def of(stores: StoreReader, replay_ids: Iterable[str]) -> dict[str, Replay]:
    """Return what is recorded of some replays, by id; ids that never existed are left out."""
    wanted = list(dict.fromkeys(replay_ids))
    if not wanted:
        return {}
    with ThreadPoolExecutor(PARALLEL) as pool:
        found = pool.map(lambda replay_id: list(stores.under(_TABLE, events.replay_pk(replay_id))), wanted)
        return replays_of(row for rows in found for row in rows)


def one(stores: StoreReader, replay_id: str) -> Replay | None:
    """Return what is recorded of one replay, or None."""
    return of(stores, [replay_id]).get(replay_id)


def requests(stores: StoreReader, replay_id: str) -> list[Row]:
    """Return what each request of a replay did, in order."""
    return list(stores.under(_TABLE, events.replay_pk(replay_id), "PAGE#"))


def of_entity(stores: StoreReader, entity: str, at: str, counted: Iterable[str]) -> tuple[dict[str, Replay], bool]:
    """Return the replays of an entity whose window holds a time, by id, and whether those are all.

    Only the entity's replays are read, and of them only the requests of those that cover the time.

    Args:
        stores: the environment's stores.
        entity: the entity.
        at: a time in the kit's format.
        counted: ids that the entity's aggregates name.

    Before replays were listed by entity, only aggregates named them. Where neither names one, the beginning of the
    table is read.
    """
    listed = [row["SK"] for row in stores.under(_TABLE, events.entity_replays_pk(entity))]
    keys = dict.fromkeys([*listed, *map(events.replay_pk, counted)])
    if keys:
        wanted = [{"PK": {"S": pk}, "SK": {"S": "HEAD"}} for pk in keys]
        found = batch.items(stores.client("dynamodb"), stores.outputs[_TABLE], wanted)
        heads, whole = [from_item(item) for item in found], True
    else:
        rows, whole = _beginning(stores)
        heads = [row for row in rows if row["SK"] == "HEAD"]
    return of(stores, [head["replay_id"] for head in heads if _covers(head, entity, at)]), whole


def _covers(head: Row, entity: str, at: str) -> bool:
    return bool(head["entity_id"] == entity and head["start_time"] <= at < head["end_time"])


def _beginning(stores: StoreReader) -> tuple[list[Row], bool]:
    """The first megabyte of the table, and whether that is all of it."""
    answer = stores.client("dynamodb").scan(TableName=stores.outputs[_TABLE], ConsistentRead=True)
    return [from_item(item) for item in answer["Items"]], "LastEvaluatedKey" not in answer
