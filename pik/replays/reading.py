"""What the replays table holds, read as replays (:mod:`pik.replays.records`)."""

from __future__ import annotations

from typing import Any

from pik import events
from pik.aws import reading
from pik.aws.reading import Stores
from pik.replays.records import Replay, Row, replays_of


def every(stores: Stores) -> dict[str, Replay]:
    """Return what is recorded of every replay, by its id, oldest first: a scan of the table."""
    pages = stores.client("dynamodb").get_paginator("scan")
    found = pages.paginate(TableName=stores.outputs["ReplaysTable"], ConsistentRead=True)
    return replays_of(reading.row(item) for page in found for item in page["Items"])


def one(stores: Stores, replay_id: str) -> Replay | None:
    """Return what is recorded of one replay, or None."""
    return replays_of(_query(stores, replay_id, "PK = :pk")).get(replay_id)


def requests(stores: Stores, replay_id: str) -> list[Row]:
    """Return what each request of a replay did, in order."""
    return list(_query(stores, replay_id, "PK = :pk AND begins_with(SK, :page)", {":page": {"S": "PAGE#"}}))


def _query(stores: Stores, replay_id: str, condition: str, more: dict[str, Any] | None = None) -> Any:
    values = {":pk": {"S": events.replay_pk(replay_id)}, **(more or {})}
    return stores.query(
        "ReplaysTable", KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True
    )
