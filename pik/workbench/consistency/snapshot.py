"""What raw bucket, events table and dedupe table hold of a window of event time, side by side. Reads only.

Both tables are scanned, because what is to be found here is what no key leads to: a row without its object, an object
without its row. Raw objects are listed by their Hive prefixes and read, so that their hashes are checked.

The window ends where the reading began: what was ingested later is left out of all three stores. The stores are read
one after the other, so whoever judges them reads what looks wrong a second time (:func:`again`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pik import clock, events
from pik.aws import batch, stored
from pik.aws.objects import Object, in_parallel
from pik.aws.stack import aws_errors
from pik.events import Event
from pik.pipeline.aws import from_item
from pik.pipeline.parsing import Rejected
from pik.pipeline.rows import Arrival, expand, expires_at, first_rows
from pik.workbench.times import shifted

if TYPE_CHECKING:
    from pik.aws.connection import Connection

PARALLEL = 16
# https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html
ITEM_BYTES = 400 * 1024
_SEGMENTS = 4
Row = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class StoredObject:
    """One object of the raw bucket, read: what it says it is, or what is wrong with it."""

    key: str
    body_sha256: str
    event: Event | None
    arrival: Arrival | None
    problem: str = ""

    @property
    def event_id(self) -> str:
        """The id in its key."""
        return key_id(self.key)

    @property
    def twin(self) -> str:
        """Key under which the same bytes are kept when they were answered with a conflict; empty without an event."""
        if self.event is None or self.arrival is None:
            return ""
        return events.conflict_key(self.event, self.arrival.content_sha256)

    def rows(self, retention_days: int) -> tuple[Row, Row]:
        """The dedupe row and the events row that follow from it; only of an object without a problem."""
        assert self.event is not None  # noqa: S101 - the caller has looked at the problem
        assert self.arrival is not None  # noqa: S101
        dedupe, row = first_rows(self.event, self.arrival, retention_days, self.key)
        return dedupe, expand(row)

    @property
    def unusable(self) -> str:
        """Why no rows can be made of an object without a problem; empty when they can."""
        size = max(map(item_bytes, self.rows(0)))
        return f"its row would have {size:,} bytes, and DynamoDB takes {ITEM_BYTES:,}" if size > ITEM_BYTES else ""


@dataclass(frozen=True)
class Snapshot:
    """The three stores, for events of [start, end), without what is past its retention."""

    retention_days: int
    raw: dict[str, StoredObject] = field(repr=False)  # by key
    conflicts: dict[str, StoredObject] = field(repr=False)  # by key
    rows: list[Row] = field(repr=False)
    dedupe: dict[str, Row] = field(repr=False)  # by event id
    # Of events with an object in the window and their first arrival outside of it: what the dedupe row says of that.
    elsewhere: dict[str, Row] = field(default_factory=dict, repr=False)

    @cached_property
    def strays(self) -> dict[str, str]:
        """Raw objects that are not their event's first arrival, by key, and why.

        Requests that come at the same moment with one idempotency key and different event times each leave a raw
        object. One is accepted; the others are answered with a conflict, and their bodies are kept as conflicts too.
        """
        firsts, aside, found = self._firsts, self._kept_aside, dict[str, str]()
        for kept in self.raw.values():
            first = firsts.get(kept.event_id)
            if first is None and kept.twin in aside:
                found[kept.key] = f"it was answered with a conflict: {aside[kept.twin]}"
            elif first not in (None, kept.key):
                found[kept.key] = f"the event's first arrival is {first}"
        return found

    @cached_property
    def undecided(self) -> dict[str, str]:
        """Raw objects of which one is their event's first arrival, and nothing says which, by key, and why.

        A request that stored its object and got no further leaves no conflict, and it may have come before the one that
        was accepted.
        """
        rivals: dict[str, list[str]] = {}
        for kept in self.raw.values():
            if kept.event_id not in self._firsts and kept.key not in self.strays and not kept.problem:
                rivals.setdefault(kept.event_id, []).append(kept.key)
        return {
            key: f"no row says whether it or {next(other for other in keys if other != key)} is the event's first "
            "arrival; when the producer sends the accepted event again, its rows are written"
            for keys in rivals.values()
            if len(keys) > 1
            for key in keys
        }

    @cached_property
    def _firsts(self) -> dict[str, str]:
        """The key of each event's first arrival, where a row names it, by event id."""
        found = {row["event_id"]: row["s3_key"] for row in self.rows if row["status"] == events.ACCEPTED}
        return found | {event_id: row["s3_key"] for event_id, row in (self.elsewhere | self.dedupe).items()}

    @cached_property
    def _kept_aside(self) -> dict[str, str]:
        """The bodies of conflicts: the key that each would have with no older object beside it, and its own key."""
        return {events.original_key(key): key for key in self.conflicts}


def key_id(key: str) -> str:
    """Return the event id in the key of a raw or conflict object.

    >>> key_id("conflicts/source=a/event_type=b/event_date=2013-01-01/hour=10/event_id=12ab/34cd.json")
    '12ab'
    >>> key_id("raw/source=a/event_type=b/event_date=2013-01-01/hour=10/event_id=12ab.after-20130101T000000.json")
    '12ab'
    """
    return key.rpartition("event_id=")[2].partition("/")[0].partition(".")[0]


def item_bytes(row: Row) -> int:
    """Return how large a row is in DynamoDB, about: its names and its values as text."""
    return sum(len(name.encode()) + len(str(value).encode()) for name, value in row.items())


def take(aws: Connection, start: str, end: str, progress: Progress | None = None) -> Snapshot:
    """Read the three stores; ``start`` and ``end`` are the kit's times. Raise AwsError."""
    tell = progress or (lambda _: None)
    with aws_errors(aws.environment, "compare the stores"):
        began = now(aws)
        epoch, retention = events.epoch(began), retention_days(aws)
        between = {":start": {"S": f"TS#{start}"}, ":end": {"S": f"TS#{end}"}}
        # Objects are listed after the tables, so that no row is without its object.
        rows = scan(aws, "EventsTable", "SK BETWEEN :start AND :end", between)
        dedupe = scan(aws, "DedupeTable", "sk BETWEEN :start AND :end", between)
        tell(f"{len(rows):,} rows of the events table, {len(dedupe):,} of the dedupe table")
        raw, conflicts = (
            {
                kept.key: kept
                for kept in _objects(aws, prefix, start, end, tell)
                if _counts(kept, retention, epoch, began)
            }
            for prefix in ("raw/", "conflicts/")
        )
        # A conflict's body may claim another time than the event that it is in conflict with.
        for key in {row["s3_key"] for row in rows if row["status"] == events.CONFLICT} - conflicts.keys():
            if kept := read(aws, key):
                conflicts[key] = kept
        seen = Snapshot(
            retention_days=retention,
            raw=raw,
            conflicts=conflicts,
            rows=[row for row in rows if row["expires_at"] > epoch and row["ingest_time"] < began],
            dedupe={row["event_id"]: row for row in dedupe if row["expires_at"] > epoch and row["ingest_time"] < began},
        )
        return replace(seen, elsewhere=_elsewhere(aws, seen, epoch))


def now(aws: Connection) -> str:
    """The time now; our clock may be behind AWS's, whose time is known in whole seconds."""
    return max(events.now(), events.format_time(clock.now(aws.environment)))


def again(aws: Connection, seen: Snapshot, event_ids: Iterable[str]) -> Snapshot:
    """Read all that the three stores hold of some events a second time, by key and consistently. Raise AwsError."""
    names = set(event_ids)
    objects = [one for one in (*seen.raw.values(), *seen.conflicts.values()) if one.event_id in names]
    with aws_errors(aws.environment, "read the suspects again"):
        epoch = events.epoch(now(aws))
        dedupe = _dedupe(aws, names, epoch)
        firsts = [*dedupe.values(), *seen.dedupe.values(), *seen.elsewhere.values()]
        places = {(row["pk"], row["sk"]) for row in firsts if row["event_id"] in names}
        places |= {(row["PK"], row["SK"].partition("#ARR#")[0]) for row in seen.rows if row["event_id"] in names}
        places |= {(events.entity_pk(one.event.entity_id), events.event_sk(one.event)) for one in objects if one.event}
        found = in_parallel(lambda place: _query(aws, *place), sorted(places))
        rows = [row for part in found for row in part if row["event_id"] in names and row["expires_at"] > epoch]
        keys = {one.key for one in objects} | {row["s3_key"] for row in (*rows, *dedupe.values())}
        there = [one for one in aws.objects.many(sorted(keys), kept) if one and _stays(one, seen.retention_days, epoch)]
    raw, conflicts = ({o.key: o for o in there if o.key.startswith(folder)} for folder in events.RAW_FOLDERS)
    return Snapshot(seen.retention_days, raw, conflicts, rows, dedupe)


def _elsewhere(aws: Connection, seen: Snapshot, epoch: int) -> dict[str, Row]:
    """Where the first arrival of each event is whose object is in the window and whose dedupe row is not."""
    unnamed = {one.event_id: one for one in seen.raw.values() if one.event_id not in seen.dedupe}
    found = _dedupe(aws, unnamed, epoch)
    # Only with an idempotency key can an event have objects at two times. Their rows are in the entity's partition.
    keyed = [
        one.event for name, one in unnamed.items() if name not in found and one.event and one.event.idempotency_key
    ]
    ids = {event.event_id for event in keyed}
    for rows in in_parallel(lambda pk: _query(aws, pk, "TS#"), sorted({events.entity_pk(e.entity_id) for e in keyed})):
        for row in rows:
            if row["event_id"] in ids and row["status"] == events.ACCEPTED and row["expires_at"] > epoch:
                found[row["event_id"]] = {**row, "pk": row["PK"], "sk": row["SK"]}
    return found


def _dedupe(aws: Connection, event_ids: Iterable[str], epoch: int) -> dict[str, Row]:
    keys = [{"event_id": {"S": name}} for name in event_ids]
    client = aws.environment.client("dynamodb", max_pool_connections=PARALLEL)
    rows = [from_item(item) for item in batch.items(client, aws.outputs["DedupeTable"], keys)]
    return {row["event_id"]: row for row in rows if row["expires_at"] > epoch}


def _query(aws: Connection, pk: str, prefix: str) -> list[Row]:
    """Rows of the events table whose sort keys begin with ``prefix``."""
    return [expand(row) for row in aws.stores.under("EventsTable", pk, prefix)]


def retention_days(aws: Connection) -> int:
    """Return the retention that the stack was deployed with, in days."""
    described = aws.environment.client("cloudformation").describe_stacks(StackName=aws.environment.stack)["Stacks"][0]
    values = {item["ParameterKey"]: item.get("ParameterValue") for item in described.get("Parameters", [])}
    return int(values.get("RetentionDays") or 365)


def scan(aws: Connection, table: str, condition: str, values: dict[str, Any]) -> list[Row]:
    """Return the rows of a table that meet a condition; reads all of it, in parallel, consistently."""

    def segment(number: int) -> list[Row]:
        pages = aws.environment.client("dynamodb", max_pool_connections=PARALLEL).get_paginator("scan")
        found = pages.paginate(
            TableName=aws.outputs[table],
            ConsistentRead=True,
            Segment=number,
            TotalSegments=_SEGMENTS,
            FilterExpression=condition,
            ExpressionAttributeValues=values,
        )
        rows = (from_item(item) for page in found for item in page["Items"])
        return [expand(row) if table == "EventsTable" else row for row in rows]

    with ThreadPoolExecutor(_SEGMENTS) as pool:
        return [row for rows in pool.map(segment, range(_SEGMENTS)) for row in rows]


def read(aws: Connection, key: str) -> StoredObject | None:
    """Return one object, its hash checked, or None when there is none."""
    return kept(key, aws.objects.get(key))


def kept(key: str, found: Object | None) -> StoredObject | None:
    """Check an object that was read against what its key and its metadata say of it."""
    if found is None:
        return None
    digest = hashlib.sha256(found.body).hexdigest()
    try:
        arrival = Arrival.from_object(found.metadata, found.content_type, found.body)
        events.parse_time(arrival.ingest_time)
    except (KeyError, ValueError, AttributeError) as error:
        return StoredObject(key, digest, None, None, f"its record of the arrival is not there: {error}")
    if digest != arrival.body_sha256:
        return StoredObject(
            key,
            digest,
            None,
            arrival,
            f"its bytes hash to {digest[:12]}…, received was what hashes to {arrival.body_sha256[:12]}…",
        )
    try:
        event = stored.event(found.body, arrival.event_headers)
    except Rejected as error:
        return StoredObject(key, digest, None, arrival, f"it is not an event: {error}")
    if event.event_id != key_id(key):
        return StoredObject(key, digest, event, arrival, f"it is the event {event.event_id}, not the one of its key")
    return StoredObject(key, digest, event, arrival)


def _counts(kept: StoredObject, retention: int, epoch: int, began: str) -> bool:
    """Whether an object is neither past its retention nor newer than the rows that were read."""
    return _stays(kept, retention, epoch) and (kept.arrival is None or kept.arrival.ingest_time < began)


def _stays(kept: StoredObject, retention: int, epoch: int) -> bool:
    """Whether the retention of an object is not over: its rows go at the same time, and AWS deletes in any order."""
    return kept.arrival is None or expires_at(kept.arrival.ingest_time, retention) > epoch


def _objects(aws: Connection, prefix: str, start: str, end: str, tell: Progress) -> Iterator[StoredObject]:
    """Every object of the window: its time is that of the event, or, when it has none, the hour of its key."""
    keys = list(_keys(aws, prefix, start, end))
    for number, found in enumerate(aws.objects.many(keys, kept), 1):
        if number % 500 == 0 or number == len(keys):
            tell(f"{number:,} of {len(keys):,} objects under {prefix} read")
        if found and (found.problem or found.event is None or start <= found.event.event_time < end):
            yield found


def _keys(aws: Connection, prefix: str, start: str, end: str) -> Iterator[str]:
    last = events.format_time(shifted(events.parse_time(end), timedelta(microseconds=-1)))
    folders = [prefix]
    for _ in range(3):  # source, type, date
        folders = [name for below, _ in in_parallel(aws.objects.folders, folders) for name in below]
    inside = [name for name in folders if start[:10] <= name.rstrip("/")[-10:] <= last[:10]]
    for listed in in_parallel(aws.objects.below, inside):
        yield from (one.key for one in listed if start[:13] <= _hour(one.key) <= last[:13])


def _hour(key: str) -> str:
    date, _, rest = key.partition("/event_date=")[2].partition("/hour=")
    return f"{date}T{rest[:2]}"
