"""The event that came last, found from the end of the index by ingest time: a few rows, however busy the day was."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from pik import events
from pik.aws.stack import aws_errors
from pik.pipeline.aws import from_item
from pik.pipeline.rows import expand

if TYPE_CHECKING:
    from pik.aws.connection import Connection

_ROWS = 25  # of a shard, from its end; the rollout's own probes are passed over


def latest_event(aws: Connection, *, days: int = 14) -> str:
    """Return the id of the event that arrived last within some days and is no probe; empty when there is none.

    Raises:
        AwsError: DynamoDB refused or did not answer.
    """
    return next((str(row["event_id"]) for row in latest_rows(aws, days=days)), "")


def latest_rows(aws: Connection, *, days: int = 14, each: int = 1) -> list[dict[str, Any]]:
    """Return the last arrivals that are no probe's, the newest first: of the last day that has any.

    Args:
        aws: the connection, or a workbench.
        days: how many days to look back.
        each: rows of each of the day's shards, at most.

    Raises:
        AwsError: DynamoDB refused or did not answer.
    """
    today = datetime.now(UTC).date()
    with aws_errors(aws.environment, "find the latest event"), ThreadPoolExecutor(events.INDEX_SHARDS) as pool:
        for back in range(-1, days):  # from tomorrow on: a clock may be ahead
            day = (today - timedelta(days=back)).isoformat()
            found = pool.map(lambda shard, day=day: list(islice(_newest(aws, day, shard), each)), events.shards())
            if rows := [row for shard in found for row in shard]:
                return sorted(rows, key=lambda row: (row["ingest_time"], row["event_id"]), reverse=True)
    return []


def _newest(aws: Connection, day: str, shard: int) -> Iterator[dict[str, Any]]:
    """Rows of one shard of a day that are no probe's and not expired, the newest first."""
    now = events.epoch(events.now())
    pages = aws.environment.client("dynamodb", max_pool_connections=events.INDEX_SHARDS).get_paginator("query")
    found = pages.paginate(
        TableName=aws.outputs["EventsTable"],
        IndexName="by-ingest-time",
        KeyConditionExpression="GSI2PK = :pk",
        ExpressionAttributeValues={":pk": {"S": events.ingest_pk(day, shard)}},
        ScanIndexForward=False,
        PaginationConfig={"PageSize": _ROWS},
    )
    for row in (expand(from_item(item)) for page in found for item in page["Items"]):
        if row["expires_at"] > now and not events.is_probe(row["entity_id"]) and row["source"] != events.PROBE_SOURCE:
            yield row
