"""What the checks look at: raw objects, rows, queues, logs, metrics, alarms, exactly as AWS holds them. Reads only."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import islice
from typing import Any, TypeVar

from botocore.exceptions import ClientError

from pik import clock, events
from pik.aws import batch, stack, stored
from pik.aws.queues import messages, settling
from pik.emulator.metrics import extract_metrics
from pik.environments import Environment
from pik.events import Event
from pik.pipeline.aws import from_item
from pik.pipeline.rows import Arrival, expand
from pik.pipeline.settings import METRICS_NAMESPACE

T = TypeVar("T")
Row = dict[str, Any]
PARALLEL = 16
ATTEMPTS = 8  # of a read; the waits between them grow to seconds
SELDOM = 5.0
METRIC_WINDOW = timedelta(hours=3)


def eventually(look: Callable[[], T], good: Callable[[T], bool], patience: float, every: float = 0.5) -> T:
    """Look again until it is good or ``patience`` seconds are over; return what was seen last.

    ``every``: seconds between the first two looks; it grows to :data:`SELDOM`, as AWS answers only so many questions a
    second, and what takes minutes is not needed to the second.
    """
    deadline = time.monotonic() + patience
    while not good(seen := look()) and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(every, left))
        every = min(1.3 * every, max(SELDOM, every))
    return seen


class Steady:
    """A count that is believed once it has lasted (:func:`pik.aws.queues.settling`), watched from now on.

    >>> Steady(environment, stores.waiting).count()                   # doctest: +SKIP
    (120, True)
    """

    def __init__(self, environment: Environment, look: Callable[[], int], *, every: float = 5.0) -> None:
        self._seconds, self._look, self._every = settling(environment), look, every
        self._since, self._seen = time.monotonic(), look()

    def count(self) -> tuple[int, bool]:
        """Return the count and whether it lasted; wait for that, at the most twice as long as it must last."""
        deadline = time.monotonic() + 2 * self._seconds
        while True:
            now, seen = time.monotonic(), self._look()
            if seen != self._seen:
                self._since, self._seen = now, seen
            lasted = now - self._since >= self._seconds
            if lasted or now >= deadline:
                return seen, lasted
            time.sleep(self._every)


@dataclass(frozen=True)
class RawObject:
    """One object of the raw bucket with its bytes."""

    key: str
    body: bytes
    version: str
    content_type: str
    metadata: dict[str, str]

    def event(self) -> Event:
        """Return the event that its bytes say it is; raise ValueError or KeyError when they are none."""
        arrival = Arrival.from_object(self.metadata, self.content_type, self.body)
        return stored.event(self.body, arrival.event_headers)


class StoreReader:
    """Read access to one environment's stores; addresses are resolved from the stack's outputs once, or given."""

    def __init__(self, environment: Environment, outputs: dict[str, str] | None = None) -> None:
        self.environment = environment
        if outputs is not None:
            self.outputs = outputs

    @cached_property
    def outputs(self) -> dict[str, str]:
        """The stack's outputs, as they were when this object was made."""
        return stack.require(self.environment).outputs

    def client(self, service: str) -> Any:
        """Return a client that tries longer than usual: one busy moment shall not end hundreds of reads."""
        retries = {"mode": "standard", "max_attempts": ATTEMPTS}
        return self.environment.client(service, max_pool_connections=PARALLEL, retries=retries)

    def raw(self, key: str) -> RawObject | None:
        """Return an object of the raw bucket, or None when there is none under that key."""
        try:
            found = self.client("s3").get_object(Bucket=self.outputs["RawBucket"], Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in {"NoSuchKey", "404"}:
                return None
            raise
        return RawObject(
            key=key,
            body=found["Body"].read(),
            version=found.get("VersionId", ""),
            content_type=found.get("ContentType", ""),
            metadata=found.get("Metadata", {}),
        )

    def raws(self, keys: Iterable[str]) -> dict[str, RawObject | None]:
        """Return many raw objects by key."""
        wanted = list(dict.fromkeys(keys))
        with ThreadPoolExecutor(PARALLEL) as pool:
            return dict(zip(wanted, pool.map(self.raw, wanted), strict=True))

    def dedupe(self, event_id: str) -> Row | None:
        """Return an event's dedupe row, or None."""
        found = self.client("dynamodb").get_item(
            TableName=self.outputs["DedupeTable"], Key={"event_id": {"S": event_id}}, ConsistentRead=True
        )
        return from_item(found["Item"]) if "Item" in found else None

    def arrivals(self, entity_id: str, start: str = "", end: str = "", most: int | None = None) -> list[Row]:
        """Return every row of an entity (or the first ``most``) in the order of event time.

        ``start`` and ``end`` are the kit's times.
        """
        between = [f"TS#{start}", f"TS#{end}" if end else "TS$"]
        rows = self._query(
            "EventsTable",
            KeyConditionExpression="PK = :pk AND SK BETWEEN :start AND :end",
            ExpressionAttributeValues={
                ":pk": {"S": events.entity_pk(entity_id)},
                ":start": {"S": between[0]},
                ":end": {"S": between[1]},
            },
            ConsistentRead=True,
        )
        return list(map(expand, islice(rows, most)))

    def recent(self, days: int, limit: int) -> list[Row]:
        """Return rows by ingest time, the newest days first, at most about ``limit`` of them."""
        today, found = datetime.now(UTC).date(), list[Row]()
        for back in range(days):
            day = (today - timedelta(days=back)).isoformat()
            for shard in events.shards():
                rows = self._query(
                    "EventsTable",
                    IndexName="by-ingest-time",
                    KeyConditionExpression="GSI2PK = :pk",
                    ExpressionAttributeValues={":pk": {"S": events.ingest_pk(day, shard)}},
                )
                found += [expand(row) for row, _ in zip(rows, range(limit // events.INDEX_SHARDS), strict=False)]
            if len(found) >= limit // 2:
                break
        return found

    def version(self, entity_id: str, day: str, replay_id: str) -> Row | None:
        """Return one version of an aggregate, its state as JSON value, or None when it is not written."""
        found = self.client("dynamodb").get_item(
            TableName=self.outputs["AggregatesTable"],
            Key={
                "PK": {"S": events.aggregate_pk(entity_id, day)},
                "SK": {"S": events.version_sk(replay_id)},
            },
            ConsistentRead=True,
        )
        return _version(from_item(found["Item"])) if "Item" in found else None

    def versions(self, wanted: Iterable[tuple[str, str, str]]) -> dict[tuple[str, str, str], Row | None]:
        """Return many versions by (entity, day, replay)."""
        keys = {(events.aggregate_pk(key[0], key[1]), events.version_sk(key[2])): key for key in wanted}
        client = self.client("dynamodb")
        items = [{"PK": {"S": pk}, "SK": {"S": sk}} for pk, sk in keys]
        rows = map(from_item, batch.items(client, self.outputs["AggregatesTable"], items))
        found = {keys[row["PK"], row["SK"]]: _version(row) for row in rows}
        return {key: found.get(key) for key in keys.values()}

    def any_version(self) -> Row | None:
        """Return one version that the aggregates table lists, or None when there is none."""
        pages = self.client("dynamodb").get_paginator("scan")
        for page in pages.paginate(TableName=self.outputs["AggregatesTable"], PaginationConfig={"PageSize": 50}):
            for item in page["Items"]:
                if "state" in item:
                    return from_item(item)
        return None

    def waiting(self) -> int:
        """Messages in the queue, in flight ones included."""
        return messages(self.environment, self.outputs["QueueUrl"])

    def dead_letters(self) -> int:
        """Messages in the dead-letter queue."""
        return messages(self.environment, self.outputs["DeadLetterQueueUrl"])

    def log_lines(self, group_output: str, text: str, since: datetime) -> list[str]:
        """Return the lines of a log group that hold ``text``, since a moment."""
        pages = self.client("logs").get_paginator("filter_log_events")
        found = pages.paginate(
            logGroupName=self.outputs[group_output],
            filterPattern=f'"{text}"',
            startTime=int(since.timestamp() * 1000),
        )
        return [event["message"] for page in found for event in page["events"] if text in event["message"]]

    def metric_sum(self, name: str, service: str, since: datetime) -> float:
        """Return the sum of one of the pipeline's metrics since a moment, but not of more than the last three hours.

        0 without data points. CloudWatch answers at most 1,440 points a question, and older ones prove nothing.
        """
        if self.environment.embedded:
            extract_metrics(self.environment)
        now = clock.now(self.environment)
        start = max(since, now - METRIC_WINDOW).replace(second=0, microsecond=0)
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace=METRICS_NAMESPACE,
            MetricName=name,
            Dimensions=[
                {"Name": "service", "Value": service},
                {"Name": "environment", "Value": self.environment.name},
            ],
            StartTime=start,
            EndTime=now + timedelta(minutes=1),
            Period=60,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(sum(point["Sum"] for point in points))

    def alarms(self) -> dict[str, str]:
        """Return the state of each of the stack's alarms by its logical id."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources")
        names = {
            item["PhysicalResourceId"]: item["LogicalResourceId"]
            for page in pages.paginate(StackName=self.environment.stack)
            for item in page["StackResourceSummaries"]
            if item["ResourceType"] == "AWS::CloudWatch::Alarm"
        }
        if not names:
            return {}
        found = self.client("cloudwatch").describe_alarms(AlarmNames=list(names))["MetricAlarms"]
        return {names[alarm["AlarmName"]]: alarm["StateValue"] for alarm in found}

    def under(self, table: str, pk: str, prefix: str = "") -> Iterator[Row]:
        """Yield the rows under a partition key, read consistently: all, or those whose sort key begins with ``prefix``.

        ``table`` is the name of the table's stack output.
        """
        condition, values = "PK = :pk", {":pk": {"S": pk}}
        if prefix:
            condition, values = f"{condition} AND begins_with(SK, :prefix)", values | {":prefix": {"S": prefix}}
        return self._query(
            table, KeyConditionExpression=condition, ExpressionAttributeValues=values, ConsistentRead=True
        )

    def _query(self, table: str, **query: Any) -> Iterator[Row]:
        pages = self.client("dynamodb").get_paginator("query")
        for page in pages.paginate(TableName=self.outputs[table], **query):
            yield from map(from_item, page["Items"])


def _version(row: Row) -> Row:
    return {**row, "state": json.loads(row["state"]), "input_count": int(row["input_count"])}
