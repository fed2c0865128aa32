"""Explain one event: one timeline from all stores. Reads only, and receives no message.

The dedupe row leads to the event's rows and its raw object; the entity and day to its replays and aggregates; the times
of all of them to its log lines (:mod:`pik.workbench.consistency.log_windows`). Where the dedupe row is gone, a log line
of the last day that names the object stands in for it. How much is read does not grow with the age of the event, the
number of events or that of replays. Ids are whole: no table can be asked for a part of one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from boto3.dynamodb.types import TypeSerializer

from pik import clock, events
from pik.aws import batch
from pik.aws.queues import messages, settling
from pik.aws.stack import aws_errors
from pik.events import ACCEPTED, CONFLICT
from pik.ids import REJECTED_ID, an_id
from pik.pipeline.aws import from_item
from pik.pipeline.rows import expand
from pik.replays import reading as replay_table
from pik.replays.records import Replay
from pik.workbench.consistency.explanation import Explanation, Line
from pik.workbench.consistency.log_windows import Window, backwards, naming, without_repeats
from pik.workbench.consistency.snapshot import Row, StoredObject, read
from pik.workbench.consistency.timeline import describe
from pik.workbench.log_lines import FUNCTIONS, fields
from pik.workbench.times import moment

if TYPE_CHECKING:
    from pik.aws.connection import Connection

__all__ = ["Explanation", "explain"]

_LATELY = timedelta(hours=1)
_serialize = TypeSerializer().serialize


@dataclass
class _Found:
    """All that the stores say of one event."""

    dedupe: Row | None = None
    rows: list[Row] = field(default_factory=list)
    raw: StoredObject | None = None
    raw_key: str = ""
    conflicts: dict[str, StoredObject | None] = field(default_factory=dict)
    replays: dict[str, Replay] = field(default_factory=dict)
    aggregates: list[Row] = field(default_factory=list)
    all_replays: bool = True
    logs: list[dict[Any, Any]] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    waiting: int = 0
    dead: int = 0
    settled: str = "9999"  # what was sent before this, the count of the queue knows of

    @property
    def first(self) -> Row | None:
        """The row of the first arrival."""
        return next((row for row in self.rows if row["status"] == ACCEPTED), None)


def explain(aws: Connection, event_id: str, *, logs_since: str | datetime | None = None) -> Explanation:
    """Explain one event: what happened to it, from all stores.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.explain`.
    """
    asked = an_id(event_id)
    since = None if logs_since is None else events.parse_time(moment(logs_since, "logs_since"))
    began = time.monotonic()
    with aws_errors(aws.environment, "explain the event"):
        explanation = (
            _rejected(aws, asked)
            if REJECTED_ID.fullmatch(asked)
            else _explanation(aws, asked, _gather(aws, asked, since))
        )
    return Explanation(**{**vars(explanation), "seconds": round(time.monotonic() - began, 3)})


def _gather(aws: Connection, event_id: str, since: datetime | None) -> _Found:
    found = _Found()
    with ThreadPoolExecutor(4) as pool:
        queues = [pool.submit(messages, aws.environment, aws.outputs[n]) for n in ("QueueUrl", "DeadLetterQueueUrl")]
        found.dedupe = _dedupe(aws, event_id)
        if found.dedupe:
            found.raw_key, pk, sk = (found.dedupe[name] for name in ("s3_key", "pk", "sk"))
            raw = pool.submit(read, aws, found.raw_key)
            found.rows = _query(aws, "EventsTable", pk, sk)
            found.raw = raw.result()
        else:
            _by_log(aws, event_id, found, since)
        _replayed(aws, event_id, found)
        _logged(aws, event_id, found, since)
        keys = [row["s3_key"] for row in found.rows if row["status"] == CONFLICT]
        found.conflicts = dict(zip(keys, pool.map(lambda key: read(aws, key), keys), strict=True))
        found.waiting, found.dead = (future.result() for future in queues)
    late = timedelta(seconds=settling(aws.environment))
    found.settled = events.format_time(clock.now(aws.environment) - late)
    return found


def _by_log(aws: Connection, event_id: str, found: _Found, since: datetime | None) -> None:
    """Without a dedupe row: the log line of the arrival names the object, and that the rest."""
    for window in [Window.until_now("ingest", since)] if since else backwards("ingest"):
        found.logs, unread = naming(aws, event_id, [window])
        found.unread += unread
        if found.logs:
            break
    records = [fields(line["line"]) for line in found.logs]
    found.raw_key = next(
        (str(item["s3_key"]) for item in records if item.get("s3_key") and not item.get("dry_run")), ""
    )
    found.raw = read(aws, found.raw_key) if found.raw_key else None
    if event := found.raw.event if found.raw else None:
        found.rows = _query(aws, "EventsTable", events.entity_pk(event.entity_id), events.event_sk(event))


def _replayed(aws: Connection, event_id: str, found: _Found) -> None:
    """The replays that cover the event, and the versions of its entity and day, with what each counts of the event."""
    entity, sk = _entity(found), _sk(found)
    if not entity or not sk:
        return
    pk, at = events.aggregate_pk(entity, sk[events.SK_TIME][:10]), sk[events.SK_TIME]
    versions = _query(aws, "AggregatesTable", pk, events.version_sk(""))
    with aws_errors(aws.environment, "read the replays of the entity"):
        named = [str(row["replay_id"]) for row in versions]
        found.replays, found.all_replays = replay_table.of_entity(aws.stores, entity, at, named)
    ids = dict.fromkeys([*found.replays, *(str(row["replay_id"]) for row in versions)])
    keys = [{"PK": _serialize(pk), "SK": _serialize(events.contribution_sk(name, event_id))} for name in ids]
    counted = batch.items(aws.environment.client("dynamodb"), aws.outputs["AggregatesTable"], keys)
    found.aggregates = [*versions, *map(from_item, counted)]


def _entity(found: _Found) -> str:
    """The event's entity. A key does not hold a long name whole, so the rows and the object are asked first."""
    event = found.raw.event if found.raw else None
    if found.rows or event:
        return str(found.rows[0]["entity_id"] if found.rows else event.entity_id if event else "")
    return unquote(str(found.dedupe["pk"]).removeprefix(events.entity_pk(""))) if found.dedupe else ""


def _sk(found: _Found) -> str:
    event = found.raw.event if found.raw else None
    return str(
        (found.dedupe or {}).get("sk")
        or (found.rows[0]["SK"] if found.rows else events.event_sk(event) if event else "")
    )


def _logged(aws: Connection, event_id: str, found: _Found, since: datetime | None) -> None:
    windows = [Window.until_now(name, since) for name in FUNCTIONS] if since else list(_windows(found))
    lines, unread = naming(aws, event_id, windows)
    found.logs = sorted(without_repeats([*found.logs, *lines]), key=lambda line: line["time"])
    found.unread += unread


def _windows(found: _Found) -> Iterator[Window]:
    """When and where a log may name the event: when it arrived, when it was counted, and after it was sent."""
    firsts = [found.dedupe] if found.dedupe else []
    yield from (Window.at("ingest", str(row["ingest_time"])) for row in (*found.rows, *firsts))
    done = {row["SK"] for row in found.aggregates if "counted" in row}
    yield from (Window.at("processor", str(row["counted"])) for row in found.aggregates if "counted" in row)
    for replay in found.replays.values():
        if not any(sk.startswith(events.contribution_sk(replay.replay_id, "")) for sk in done):
            yield from (Window.after("processor", str(page["finished"])) for page in replay.chain if page["sent"])
            yield Window.until_now("processor", reach=_LATELY)


def _dedupe(aws: Connection, event_id: str) -> Row | None:
    answer = aws.environment.client("dynamodb").get_item(
        TableName=aws.outputs["DedupeTable"], Key={"event_id": {"S": event_id}}, ConsistentRead=True
    )
    return from_item(answer["Item"]) if "Item" in answer else None


def _query(aws: Connection, table: str, pk: str, prefix: str) -> list[Row]:
    rows = aws.stores.under(table, pk, prefix)
    return [expand(row) if table == "EventsTable" else row for row in rows]


def _explanation(aws: Connection, event_id: str, found: _Found) -> Explanation:
    return describe(aws, event_id, found)


def _rejected(aws: Connection, identifier: str) -> Explanation:
    key = events.rejected_key(identifier)
    s3 = aws.environment.client("s3")
    try:
        head = s3.head_object(Bucket=aws.outputs["RawBucket"], Key=key)
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
