"""Rebuild metadata and dedupe rows from the raw objects alone. Shows first; writes only what is absent.

What comes back: the first arrival of every event, and every conflict whose body was kept. What cannot: the rows of
duplicates, which left nothing in the bucket. An object whose hash is wrong, or that cannot become rows, is left alone
and named. Which of several objects of an event is its first arrival is what its dedupe row says, wherever that is; a
stray (:mod:`pik.workbench.consistency.reconcile`) gets no rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pik.aws.stack import aws_errors
from pik.errors import AwsError
from pik.events import CONFLICT, epoch, lag_ms, now
from pik.pipeline.aws import cancellation_codes, error_code, to_item
from pik.pipeline.backoff import backoff
from pik.pipeline.rows import arrival_row, compact, expires_at
from pik.rollout.plan import records
from pik.text import printable
from pik.workbench.consistency.snapshot import PARALLEL, Progress, Row, Snapshot, StoredObject, take
from pik.workbench.times import moment

if TYPE_CHECKING:
    from pik.aws.connection import Connection

FIRST, LAST = "0001-01-01", "9999-12-31"
_ATTEMPTS = 6
_OVERTAKEN_MS = 60_000  # a request that is overtaken by the first arrival began no earlier than that: Lambda ends it
_KEYS = {"DedupeTable": "event_id", "EventsTable": "PK"}


@dataclass(frozen=True)
class Reindexed:
    """What was, or would be, written.

    Attributes:
        events: absent rows of the events table.
        dedupe: absent rows of the dedupe table.
        skipped: objects that are not what was received, that cannot become rows, or of which nothing says which of them
            is the event, by key, and why.
        objects: how many raw objects were read.
        applied: whether it was written.
        written: rows that were written; fewer than were absent when somebody else wrote them first.
        record: where the record of the run is kept, when it was applied.
    """

    events: list[Row] = field(repr=False)
    dedupe: list[Row] = field(repr=False)
    skipped: dict[str, str]
    objects: int
    applied: bool = False
    written: int = 0
    record: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return figures and ids, JSON-able."""
        return {
            "objects": self.objects,
            "events_rows": len(self.events),
            "dedupe_rows": len(self.dedupe),
            "event_ids": sorted({row["event_id"] for row in [*self.events, *self.dedupe]}),
            "skipped": self.skipped,
            "applied": self.applied,
            "written": self.written,
            "record": self.record,
        }

    def to_text(self) -> str:
        """Return it as a person reads it."""
        lines = [
            f"{self.objects:,} raw objects read",
            f"{len(self.events):,} rows of the events table and {len(self.dedupe):,} of the dedupe table are absent",
        ]
        lines += [printable(f"left alone: {key}: {why}") for key, why in self.skipped.items()]
        if self.applied:
            lines.append(f"{self.written:,} rows written; the record: {self.record}")
        elif self.events or self.dedupe:
            lines.append("nothing was written; the same with --apply writes them")
        else:
            lines.append("there is nothing to do")
        return "\n".join(lines)


def reindex(
    aws: Connection,
    start: str | datetime = FIRST,
    end: str | datetime = LAST,
    *,
    apply: bool = False,
    progress: Progress | None = None,
) -> Reindexed:
    """Find, and with ``apply`` write, the rows that raw objects give and the tables do not have.

    A row that is there is never overwritten, whatever it says: each write has the condition that its key is absent.

    Args:
        aws: the connection, or a workbench.
        start: event time, included; everything by default.
        end: event time, left out.
        apply: write.
        progress: is called with a sentence now and then.

    Raises:
        AwsError: AWS refused or did not answer; what was written until then stays, and the same call goes on from
            there.

    Example:
        >>> reindex(connect("local"), "2013-01-01", "2013-01-02").to_text()  # doctest: +SKIP
    """
    seen = take(aws, moment(start, "start"), moment(end, "end"), progress)
    skipped = {kept.key: kept.problem for kept in seen.raw.values() if kept.problem}
    absent = list(_absent(seen, skipped))
    rows = [(table, row) for one in absent for table, row in one.rows.items()]
    found = Reindexed(
        events=[row for table, row in rows if table == "EventsTable"],
        dedupe=[row for table, row in rows if table == "DedupeTable"],
        skipped=skipped,
        objects=len(seen.raw),
    )
    if not apply or not absent:
        return found
    with aws_errors(aws.environment, "write the rows"), ThreadPoolExecutor(PARALLEL) as pool:
        written = sum(pool.map(lambda one: _write(aws, one, skipped), absent))
    done = replace(found, applied=True, written=written)
    log = records.new(aws.environment, "reindex")
    return replace(done, record=str(records.write(log, aws.environment, "reindex", done.to_dict())))


@dataclass(frozen=True)
class _Absent:
    """The absent rows of one object, by table; ``known``: its dedupe row is there, and must still name the object."""

    key: str
    event_id: str
    rows: dict[str, Row]
    known: bool = False


def _absent(seen: Snapshot, skipped: dict[str, str]) -> Iterator[_Absent]:
    """What is absent of each object that is its event's first arrival, and of each conflict; skips what cannot be."""
    there = {(row["PK"], row["SK"]) for row in seen.rows}
    firsts = dict(seen.dedupe)
    for kept in seen.raw.values():
        if kept.problem or kept.key in seen.strays:
            continue
        if kept.key in seen.undecided:
            skipped[kept.key] = seen.undecided[kept.key]
            continue
        known = kept.event_id in seen.dedupe
        dedupe, row = kept.rows(seen.retention_days)
        firsts.setdefault(kept.event_id, dedupe)
        lacking = {} if known else {"DedupeTable": dedupe}
        lacking |= {} if (row["PK"], row["SK"]) in there else {"EventsTable": row}
        if lacking and (why := kept.unusable):
            skipped[kept.key] = why
        elif lacking:
            yield _Absent(kept.key, kept.event_id, lacking, known)
    for kept in seen.conflicts.values():
        conflict = _conflict(kept, firsts.get(kept.event_id), seen.retention_days)
        if conflict and (conflict["PK"], conflict["SK"]) not in there:
            yield _Absent(kept.key, kept.event_id, {"EventsTable": conflict})


def _conflict(kept: StoredObject, first: Row | None, retention_days: int) -> Row | None:
    if first is None or kept.problem or kept.event is None or kept.arrival is None:
        return None
    if lag_ms(kept.arrival.ingest_time, first["ingest_time"]) > _OVERTAKEN_MS:
        return None  # it was in conflict with an earlier first arrival, whose retention is over
    until = expires_at(kept.arrival.ingest_time, retention_days)
    return arrival_row(kept.event, kept.arrival, retention_days, CONFLICT, kept.key, first, until)


def _write(aws: Connection, one: _Absent, skipped: dict[str, str]) -> int:
    """Write the rows of one object together, or none: somebody else may have written another first arrival since."""
    client = aws.environment.client("dynamodb", max_pool_connections=PARALLEL)
    rows = {table: compact(row) if table == "EventsTable" else row for table, row in one.rows.items()}
    actions = [_put(aws.outputs[table], table, row) for table, row in rows.items()]
    if one.known:
        actions.insert(0, _still(aws.outputs["DedupeTable"], one))
    for attempt in range(_ATTEMPTS):
        try:
            client.transact_write_items(TransactItems=actions)
            return len(one.rows)
        except ClientError as error:
            codes = cancellation_codes(error)
            if "ConditionalCheckFailed" in codes:
                return 0
            if "ValidationError" in codes or error_code(error) == "ValidationException":
                skipped[one.key] = f"DynamoDB does not take its rows: {error}"
                return 0
            if not codes:
                raise
            backoff(attempt, first=0.2, longest=10.0)
    raise AwsError(
        f"{aws.environment.name}: could not write the rows of {one.key}",
        reason=f"the transaction was cancelled {_ATTEMPTS} times: {', '.join(codes)}",
        next_step="run the same command again; the rows that are written stay",
    )


def _put(name: str, table: str, row: Row) -> Row:
    """A write that happens only where there is no row, or one whose retention is over (TTL deletes late)."""
    return {
        "Put": {
            "TableName": name,
            "Item": to_item(row),
            "ConditionExpression": f"attribute_not_exists({_KEYS[table]}) OR expires_at <= :now",
            "ExpressionAttributeValues": {":now": {"N": str(epoch(now()))}},
        }
    }


def _still(name: str, one: _Absent) -> Row:
    return {
        "ConditionCheck": {
            "TableName": name,
            "Key": {"event_id": {"S": one.event_id}},
            "ConditionExpression": "s3_key = :key",
            "ExpressionAttributeValues": {":key": {"S": one.key}},
        }
    }
