"""Rows of the replays table: of an entity, of some replays, or all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pik import events
from pik.aws import batch
from pik.aws.stack import aws_errors
from pik.pipeline.aws import from_item
from pik.replays.records import Replay, Row, replays_of
from pik.workbench.objects import in_parallel

if TYPE_CHECKING:
    from pik.workbench.workbench import Workbench


def of_entity(wb: Workbench, entity: str, at: str, counted: Iterable[str]) -> tuple[dict[str, Replay], bool]:
    """Return the replays of an entity whose window holds a time, by id, and whether those are all.

    Only the entity's replays are read, and of them only the requests of those that cover the time.

    Args:
        wb: the workbench.
        entity: the entity.
        at: a time in the kit's format.
        counted: ids that the entity's aggregates name.

    Before replays were listed by entity, only aggregates named them. Where neither names one, the beginning of the
    table is read.
    """
    client, table = wb.environment.client("dynamodb", max_pool_connections=batch.PARALLEL), wb.outputs["ReplaysTable"]
    with aws_errors(wb.environment, "read the replays of the entity"):
        pages = client.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": events.entity_replays_pk(entity)}},
            ConsistentRead=True,
        )
        listed = [from_item(item)["SK"] for page in pages for item in page["Items"]]
        keys = dict.fromkeys([*listed, *map(events.replay_pk, counted)])
        if not keys:
            rows, whole = _beginning(wb)
            heads = [row for row in rows if row["SK"] == "HEAD"]
        else:
            wanted = [{"PK": {"S": pk}, "SK": {"S": "HEAD"}} for pk in keys]
            heads, whole = [from_item(item) for item in batch.items(client, table, wanted)], True
        covering = [one["replay_id"] for one in heads if _covers(one, entity, at)]
        return replays_of(row for found in in_parallel(lambda name: of(wb, [name]), covering) for row in found), whole


def _covers(head: Row, entity: str, at: str) -> bool:
    return bool(head["entity_id"] == entity and head["start_time"] <= at < head["end_time"])


def _beginning(wb: Workbench) -> tuple[list[Row], bool]:
    """The first megabyte of the table, and whether that is all of it."""
    answer = wb.environment.client("dynamodb").scan(TableName=wb.outputs["ReplaysTable"], ConsistentRead=True)
    return [from_item(item) for item in answer["Items"]], "LastEvaluatedKey" not in answer


def scanned(wb: Workbench) -> list[Row]:
    """Return every row of the replays table."""
    pages = wb.environment.client("dynamodb").get_paginator("scan")
    found = pages.paginate(TableName=wb.outputs["ReplaysTable"], ConsistentRead=True)
    return [from_item(item) for page in found for item in page["Items"]]


def of(wb: Workbench, replay_ids: Iterable[str]) -> list[Row]:
    """Return the rows of some replays; ids that never existed have none."""
    pages = wb.environment.client("dynamodb").get_paginator("query")
    return [
        from_item(item)
        for replay_id in dict.fromkeys(replay_ids)
        for page in pages.paginate(
            TableName=wb.outputs["ReplaysTable"],
            KeyConditionExpression="PK = :pk",
            ExpressionAttributeValues={":pk": {"S": events.replay_pk(replay_id)}},
            ConsistentRead=True,
        )
        for item in page["Items"]
    ]
