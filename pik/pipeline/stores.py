"""The stores that ingest writes: raw objects first, then the rows that find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from pik import events
from pik.events import Event
from pik.pipeline import aws, rows
from pik.pipeline.backoff import backoff
from pik.pipeline.parsing import parse_event
from pik.pipeline.rows import Arrival
from pik.pipeline.settings import Settings

_ATTEMPTS = 6
_ABSENT = "attribute_not_exists({key}) OR expires_at <= :now"  # TTL deletes late: compare the time ourselves


class Contended(Exception):
    """Others write the same item without end; the caller may retry the request."""


@dataclass(frozen=True)
class Stores:
    """The raw bucket, the events table and the dedupe table of one environment."""

    settings: Settings

    def put_if_absent(self, key: str, body: bytes, arrival: Arrival, **metadata: str) -> bool:
        """Store ``body``, exactly; return False, and change nothing, when the key is taken.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html: 412 means taken; 409 that another
        write or delete of the key is under way, and to try again.
        """
        for attempt in range(_ATTEMPTS):
            try:
                aws.client("s3").put_object(
                    Bucket=self.settings.raw_bucket,
                    Key=key,
                    Body=body,
                    ContentType=arrival.content_type,
                    Metadata={**arrival.to_metadata(), **metadata},
                    IfNoneMatch="*",
                )
                return True
            except ClientError as error:
                if aws.error_code(error) == "PreconditionFailed":
                    return False
                if aws.error_code(error) != "ConditionalRequestConflict":
                    raise
                backoff(attempt, first=0.02, longest=5.0)
        raise Contended(key)

    def read_raw(self, key: str) -> tuple[Event, Arrival]:
        """Return the event and the arrival that a raw object records."""
        found = aws.client("s3").get_object(Bucket=self.settings.raw_bucket, Key=key)
        body = found["Body"].read()
        arrival = Arrival.from_object(found["Metadata"], found["ContentType"], body)
        return parse_event(body, arrival.event_headers), arrival

    def known(self, event_id: str) -> dict[str, Any] | None:
        """Return the dedupe row of an event, or None when there is none or its time is over."""
        found = aws.client("dynamodb").get_item(
            TableName=self.settings.dedupe_table,
            Key={"event_id": {"S": event_id}},
            ConsistentRead=True,
        )
        row = aws.from_item(found["Item"]) if "Item" in found else None
        return row if row and row["expires_at"] > events.epoch(events.now()) else None

    def index(self, event: Event, arrival: Arrival, key: str) -> bool:
        """Write the dedupe row and the first row of the raw object at ``key``; return False when the event is known."""
        dedupe, row = rows.first_rows(event, arrival, self.settings.retention_days, key)
        puts = [
            self._put(self.settings.dedupe_table, dedupe, "event_id"),
            self._put(self.settings.events_table, row, "PK"),
        ]
        for attempt in range(_ATTEMPTS):
            try:
                aws.client("dynamodb").transact_write_items(TransactItems=puts)
                return True
            except ClientError as error:
                codes = aws.cancellation_codes(error)
                if codes[:1] == ["ConditionalCheckFailed"]:
                    return False
                if codes[1:] == ["ConditionalCheckFailed"]:
                    # The first row is there without its dedupe row, which someone removed: put that back.
                    puts = puts[:1]
                elif not aws.passes(codes) or (attempt == _ATTEMPTS - 1 and aws.CONFLICT not in codes):
                    raise  # not a cancelled transaction, or one that others' writes do not explain
                else:
                    backoff(attempt, first=0.02, longest=5.0)
        raise Contended(event.event_id)

    def is_over(self, arrival: Arrival) -> bool:
        """Whether the retention of what arrived then is over, so that the bucket's lifecycle may remove it any day."""
        return self.end_of(arrival) <= events.epoch(events.now())

    def end_of(self, arrival: Arrival) -> int:
        """When the retention of what arrived then ends, in seconds since 1970."""
        return rows.expires_at(arrival.ingest_time, self.settings.retention_days)

    def add_arrival(self, row: dict[str, Any]) -> None:
        """Write the row of a later arrival; it has its own key and replaces nothing."""
        try:
            aws.client("dynamodb").put_item(**self._put(self.settings.events_table, row, "PK")["Put"])
        except ClientError as error:
            # Only this arrival has this key: the answer to an earlier attempt was lost.
            if aws.error_code(error) != "ConditionalCheckFailedException":
                raise

    def _put(self, table: str, row: dict[str, Any], key: str) -> dict[str, Any]:
        return {
            "Put": {
                "TableName": table,
                "Item": aws.to_item(row),
                "ConditionExpression": _ABSENT.format(key=key),
                "ExpressionAttributeValues": {":now": {"N": str(events.epoch(events.now()))}},
            }
        }
