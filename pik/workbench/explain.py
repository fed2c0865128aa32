"""What became of one event: one timeline over all stores. Reads only, and receives no message.

The dedupe row leads to the event's rows and its raw object; the entity and day to its replays and aggregates; its id to
its log lines. Where the dedupe row is gone, a log line that names the object stands in for it. All of them are read at
the same time. Ids are whole: no table can be asked for a part of one.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from boto3.dynamodb.types import TypeSerializer

from pik import events
from pik.errors import AwsError, UsageError
from pik.events import ACCEPTED, CONFLICT
from pik.pipeline.aws import from_item
from pik.pipeline.rows import expand
from pik.replays.records import Replay
from pik.rollout.inventory import messages
from pik.rollout.stack import aws_errors
from pik.workbench import replays, telemetry
from pik.workbench.explanation import Explanation, Line
from pik.workbench.snapshot import Kept, Row, read

if TYPE_CHECKING:
    from pik.workbench.workbench import Workbench

__all__ = ["Explanation", "explain"]

_EVENT_ID = re.compile(r"[0-9a-f]{64}")
_REJECTED_ID = re.compile(r"\d{4}-\d\d-\d\d\.[0-9a-f]{64}")
_LOGS_REACH = timedelta(days=14)  # where no row says when the event came
_serialize = TypeSerializer().serialize


@dataclass
class _Found:
    """All that the stores say of one event."""

    dedupe: Row | None = None
    rows: list[Row] = field(default_factory=list)
    raw: Kept | None = None
    raw_key: str = ""
    conflicts: dict[str, Kept | None] = field(default_factory=dict)
    replays: dict[str, Replay] = field(default_factory=dict)
    aggregates: list[Row] = field(default_factory=list)
    logs: list[dict[Any, Any]] = field(default_factory=list)
    logs_problem: str = ""
    waiting: int = 0
    dead: int = 0

    @property
    def first(self) -> Row | None:
        """The row of the first arrival."""
        return next((row for row in self.rows if row["status"] == ACCEPTED), None)


def explain(wb: Workbench, event_id: str) -> Explanation:
    """Tell what became of one event, over all stores.

    Args:
        wb: the workbench.
        event_id: an event's id (64 hexadecimal digits), or a rejected body's (``2026-11-23.0f3a…``).

    Raises:
        UsageError: it is no such id; the stores cannot be searched for a part of one.
        AwsError: AWS said no.

    Example:
        >>> wb.explain("90fdc0d0…")  # doctest: +SKIP
    """
    asked = event_id.strip().lower()
    began = time.monotonic()
    with aws_errors(wb.environment, "explain the event"):
        if _REJECTED_ID.fullmatch(asked):
            told = _rejected(wb, asked)
        elif _EVENT_ID.fullmatch(asked):
            told = _tell(wb, asked, _gather(wb, asked))
        else:
            raise _not_an_id(asked)
    return Explanation(**{**vars(told), "seconds": round(time.monotonic() - began, 3)})


def _not_an_id(asked: str) -> UsageError:
    part = re.fullmatch(r"[0-9a-f]{4,63}", asked)
    reason = f"it has {len(asked)} of 64 digits, and no table can be asked for a part of an id" if part else ""
    return UsageError(
        f"not an event id: {asked or 'nothing'}",
        reason=reason or "an id is 64 hexadecimal digits; a rejected body's is its day, a dot, and 64 of them",
        next_step="find the whole id with wb.events(entity=…, start=…, end=…) or wb.logs(text=…)",
    )


def _gather(wb: Workbench, event_id: str) -> _Found:
    found = _Found()
    with ThreadPoolExecutor(8) as pool:
        queues = [pool.submit(messages, wb.environment, wb.outputs[n]) for n in ("QueueUrl", "DeadLetterQueueUrl")]
        found.dedupe = _dedupe(wb, event_id)
        since = events.parse_time(found.dedupe["ingest_time"]) if found.dedupe else datetime.now(UTC) - _LOGS_REACH
        logs = pool.submit(_logs, wb, event_id, since - timedelta(minutes=1))
        if found.dedupe:
            found.raw_key, pk, sk = (found.dedupe[name] for name in ("s3_key", "pk", "sk"))
            raw = pool.submit(read, wb, found.raw_key)
            rows = pool.submit(_query, wb, "EventsTable", pk, sk)
            more = _about(wb, pool, _entity(pk), sk[3:13])
            found.raw, found.rows = raw.result(), rows.result()
        else:
            found.logs, found.logs_problem = logs.result()
            more = _by_log(wb, pool, found)
        found.logs, found.logs_problem = logs.result()
        found.replays, found.aggregates = (future.result() for future in more) if more else ({}, [])
        keys = [row["s3_key"] for row in found.rows if row["status"] == CONFLICT]
        found.conflicts = dict(zip(keys, pool.map(lambda key: read(wb, key), keys), strict=True))
        found.waiting, found.dead = (future.result() for future in queues)
    return found


def _by_log(wb: Workbench, pool: ThreadPoolExecutor, found: _Found) -> Any:
    """Without a dedupe row: the log line of the arrival names the object, and that the rest."""
    said = [_said(line["line"]) for line in found.logs]
    found.raw_key = next((str(item["s3_key"]) for item in said if item.get("s3_key") and not item.get("dry_run")), "")
    found.raw = read(wb, found.raw_key) if found.raw_key else None
    event = found.raw.event if found.raw else None
    if event is None:
        return None
    found.rows = _query(wb, "EventsTable", events.entity_pk(event.entity_id), events.event_sk(event))
    return _about(wb, pool, event.entity_id, event.date)


def _said(line: str) -> dict[str, Any]:
    try:
        said = json.loads(line) if line.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def _about(wb: Workbench, pool: ThreadPoolExecutor, entity: str, day: str) -> Any:
    return (
        pool.submit(replays.known, wb, entity=entity),
        pool.submit(_query, wb, "AggregatesTable", events.aggregate_pk(entity, day), ""),
    )


def _entity(pk: str) -> str:
    return unquote(pk.removeprefix("ENTITY#"))


def _dedupe(wb: Workbench, event_id: str) -> Row | None:
    answer = wb.environment.client("dynamodb").get_item(
        TableName=wb.outputs["DedupeTable"], Key={"event_id": {"S": event_id}}, ConsistentRead=True
    )
    return from_item(answer["Item"]) if "Item" in answer else None


def _query(wb: Workbench, table: str, pk: str, prefix: str) -> list[Row]:
    condition, values = "PK = :pk", {":pk": _serialize(pk)}
    if prefix:
        condition, values = f"{condition} AND begins_with(SK, :sk)", {**values, ":sk": _serialize(prefix)}
    pages = wb.environment.client("dynamodb").get_paginator("query")
    found = pages.paginate(
        TableName=wb.outputs[table],
        KeyConditionExpression=condition,
        ExpressionAttributeValues=values,
        ConsistentRead=True,
    )
    rows = (from_item(item) for page in found for item in page["Items"])
    return [expand(row) if table == "EventsTable" else row for row in rows]


def _logs(wb: Workbench, event_id: str, since: datetime) -> tuple[list[dict[Any, Any]], str]:
    try:
        return telemetry.logs(wb, event_id=event_id, start=since).to_dict("records"), ""
    except AwsError as error:  # the stores are worth telling without the logs
        return [], f"{error.message}: {error.reason}"


def _tell(wb: Workbench, event_id: str, found: _Found) -> Explanation:
    from pik.workbench.story import tell

    return tell(wb, event_id, found)


def _rejected(wb: Workbench, identifier: str) -> Explanation:
    key = events.rejected_key(identifier)
    s3 = wb.environment.client("s3")
    try:
        head = s3.head_object(Bucket=wb.outputs["RawBucket"], Key=key)
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in {"404", "NoSuchKey", "NotFound"}:
            raise
        headline = f"{identifier}: no body was rejected under this id"
        return Explanation(identifier, headline, False, notes=("a dry run keeps nothing",))
    about = head["Metadata"]
    line = Line(
        about.get("ingest-time", ""),
        "rejected",
        f"{unquote(about.get('reason', ''))} ({about.get('code', '')})  {key}  {head['ContentLength']} B",
        "raw bucket",
    )
    headline = f"{identifier}: a body that was rejected, and kept; it never became an event"
    return Explanation(identifier, headline, True, (line,), notes=("it is in no table, as it should be",))
