"""Rebuild metadata and dedupe rows from the raw objects alone. Shows first; writes only what is absent.

What comes back: the first arrival of every event, and every conflict whose body was kept. What cannot: the rows of
duplicates, which left nothing in the bucket. An object whose hash is wrong is left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from pik.events import CONFLICT
from pik.pipeline.aws import to_item
from pik.pipeline.rows import arrival_row
from pik.rollout import records
from pik.rollout.stack import aws_errors
from pik.workbench.snapshot import PARALLEL, Kept, Progress, Row, Snapshot, take
from pik.workbench.times import moment

if TYPE_CHECKING:
    from pik.workbench.workbench import Workbench

FIRST, LAST = "0001-01-01", "9999-12-31"


@dataclass(frozen=True)
class Reindexed:
    """What was, or would be, written.

    Attributes:
        events: absent rows of the events table.
        dedupe: absent rows of the dedupe table.
        skipped: raw objects that are not what was received, by key, and why.
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
        lines += [f"left alone: {key}: {why}" for key, why in self.skipped.items()]
        if self.applied:
            lines.append(f"{self.written:,} rows written; the record: {self.record}")
        elif self.events or self.dedupe:
            lines.append("nothing was written; the same with --apply writes them")
        else:
            lines.append("there is nothing to do")
        return "\n".join(lines)


def reindex(
    wb: Workbench,
    start: str | datetime = FIRST,
    end: str | datetime = LAST,
    *,
    apply: bool = False,
    progress: Progress | None = None,
) -> Reindexed:
    """Find, and with ``apply`` write, the rows that raw objects give and the tables do not have.

    A row that is there is never overwritten, whatever it says: each write has the condition that its key is absent.

    Args:
        wb: the workbench.
        start: event time, included; everything by default.
        end: event time, left out.
        apply: write.
        progress: is called with a sentence now and then.

    Raises:
        AwsError: AWS said no; what was written until then stays, and the same call goes on from there.

    Example:
        >>> reindex(connect("local"), "2013-01-01", "2013-01-02").to_text()  # doctest: +SKIP
    """
    seen = take(wb, moment(start, "start"), moment(end, "end"), progress)
    absent = list(_absent(seen))
    found = Reindexed(
        events=[row for table, row in absent if table == "EventsTable"],
        dedupe=[row for table, row in absent if table == "DedupeTable"],
        skipped={kept.key: kept.problem for kept in seen.raw.values() if kept.problem},
        objects=len(seen.raw),
    )
    if not apply or not absent:
        return found
    with aws_errors(wb.environment, "write the rows"), ThreadPoolExecutor(PARALLEL) as pool:
        written = sum(pool.map(lambda pair: _put(wb, *pair), absent))
    done = Reindexed(found.events, found.dedupe, found.skipped, found.objects, applied=True, written=written)
    log = records.new(wb.environment, "reindex")
    record = records.write(log, wb.environment, "reindex", done.to_dict())
    return Reindexed(**{**vars(done), "record": str(record)})


def _absent(seen: Snapshot) -> Iterator[tuple[str, Row]]:
    there = {(row["PK"], row["SK"]) for row in seen.rows}
    firsts = dict(seen.dedupe)
    for kept in seen.raw.values():
        known = seen.dedupe.get(kept.event_id)
        if kept.problem or (known and known["s3_key"] != kept.key):
            continue  # altered; or a second object of an event whose rows name the first one
        dedupe, row = kept.rows(seen.retention_days)
        firsts.setdefault(kept.event_id, dedupe)
        if known is None:
            yield "DedupeTable", dedupe
        if (row["PK"], row["SK"]) not in there:
            yield "EventsTable", row
    yield from (("EventsTable", row) for row in _conflicts(seen, firsts, there))


def _conflicts(seen: Snapshot, firsts: dict[str, Row], there: set[tuple[str, str]]) -> Iterator[Row]:
    for kept in seen.conflicts.values():
        row = _conflict(kept, firsts.get(kept.event_id), seen.retention_days)
        if row and (row["PK"], row["SK"]) not in there:
            yield row


def _conflict(kept: Kept, first: Row | None, retention_days: int) -> Row | None:
    if first is None or kept.problem or kept.event is None or kept.arrival is None:
        return None
    return arrival_row(kept.event, kept.arrival, retention_days, CONFLICT, kept.key, first)


def _put(wb: Workbench, table: str, row: Row) -> bool:
    key = "event_id" if table == "DedupeTable" else "PK"
    try:
        wb.environment.client("dynamodb", max_pool_connections=PARALLEL).put_item(
            TableName=wb.outputs[table], Item=to_item(row), ConditionExpression=f"attribute_not_exists({key})"
        )
    except ClientError as error:
        if error.response["Error"]["Code"] == "ConditionalCheckFailedException":
            return False
        raise
    return True
