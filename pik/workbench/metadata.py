"""``wb.events(...)``: arrivals from the events table, read by the key or index that fits, every shard and page of it.

============================================  ===================================================================
asked for                                     read by
============================================  ===================================================================
``event_ids``                                 the dedupe table, then the rows beside each event
``entity`` (and a window or day)              the table itself, consistent
``ingested=(start, end)``                     the index by ingest time, all shards of each day
``source`` and a day or window                the index by source, all shards of each type and day; with ``min_lag``
                                              only the part of it that is late enough
anything else                                 a scan of the whole table: refused, unless ``allow_scan=True``
============================================  ===================================================================

What is left of the request is applied to the rows that come back, so any combination works. Without ``event_type`` the
types of a source are those under which the raw bucket has an object, or still has an old version of one that was
deleted. Rows whose retention is over are left out: DynamoDB deletes them some days later.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from pik import events as keys
from pik import frames
from pik.aws import batch
from pik.aws.dynamodb import PARALLEL, Progress, Reader, Request
from pik.aws.stack import aws_errors
from pik.errors import Refused, UsageError
from pik.text import named
from pik.workbench import times

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

STATUSES = (keys.ACCEPTED, keys.DUPLICATE, keys.CONFLICT)
_SCAN_SEGMENTS = 16
LIMIT = 2_000_000  # rows of one answer; with every column they take about a gigabyte and a half
# What arrivals are chosen by, whatever is asked for.
_NEEDED = frozenset(
    {"event_id", "status", "source", "event_type", "entity_id", "event_time", "ingest_time", "lag_ms"}
    | {"expires_at", "sk"}
)
_MOST_QUERIES = 20_000  # of an index for one question; half a capacity unit each, even when they find nothing
_KINDS = {"lag_ms": "N", "size_bytes": "N", "expires_at": "N", "assumed_utc": "BOOL"}
_ATTRIBUTES = {"lag_ms": "ingest_lag_ms", "pk": "PK", "sk": "SK"}  # where the table's name is another
COLUMNS = {_ATTRIBUTES.get(name, name): _KINDS.get(name, "S") for name in frames.EVENTS.names} | {"GSI2SK": "S"}


@dataclass(frozen=True)
class EventFilter:
    """What was asked for, in the kit's own terms; ``start`` and ``end`` are event times, half-open, "" for open."""

    entity: str | None = None
    source: str | None = None
    event_type: str | None = None
    start: str = ""
    end: str = ""
    statuses: tuple[str, ...] = ()
    min_lag_ms: int | None = None
    ingested: tuple[str, str] | None = None
    event_ids: tuple[str, ...] | None = None
    include_probes: bool = False
    allow_scan: bool = False

    @property
    def days(self) -> list[str]:
        """The days of the window; empty when it is open at an end."""
        return times.days(self.start, self.end) if self.start and self.end else []


def events(
    aws: Connection,
    *,
    entity: str | None = None,
    source: str | None = None,
    event_type: str | None = None,
    day: str | date | None = None,
    start: str | date | datetime | None = None,
    end: str | date | datetime | None = None,
    status: str | Sequence[str] | None = None,
    min_lag: str | float | timedelta | None = None,
    ingested: tuple[str | datetime, str | datetime] | None = None,
    event_ids: Iterable[str] | None = None,
    include_probes: bool = False,
    allow_scan: bool = False,
    columns: Sequence[str] | None = None,
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Return arrivals (:data:`pik.frames.EVENTS`, or some of its columns), in the order of event time.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.events`.
    """
    if event_type is not None and source is None:
        raise UsageError("event_type needs a source", next_step=f"wb.events(source=…, event_type={event_type!r}, …)")
    selection = EventFilter(
        entity,
        source,
        event_type,
        *_window(day, start, end),
        statuses=_statuses(status),
        min_lag_ms=None if min_lag is None else times.milliseconds(min_lag),
        ingested=None if ingested is None else (times.moment(ingested[0]), times.moment(ingested[1])),
        event_ids=None if event_ids is None else tuple(dict.fromkeys(event_ids)),
        include_probes=include_probes,
        allow_scan=allow_scan,
    )
    chosen = _chosen(columns)
    with aws_errors(aws.environment, "read the events"):
        return _read(aws, selection, chosen, limit, progress)


def _chosen(columns: Sequence[str] | None) -> list[str]:
    """The columns asked for, in the order of the schema; raise UsageError for one that is none."""
    if columns is None:
        return list(frames.EVENTS.names)
    if unknown := [name for name in columns if name not in frames.EVENTS.names]:
        raise UsageError(f"no such column: {named(unknown[0])}", next_step=f"some of {', '.join(frames.EVENTS.names)}")
    return [name for name in frames.EVENTS.names if name in columns]


def _read(
    aws: Connection, selection: EventFilter, columns: list[str], limit: int, progress: Progress | None
) -> pd.DataFrame:
    named = [name for name in frames.EVENTS.names if name in _NEEDED or name in columns]
    attributes = {_ATTRIBUTES.get(name, name) for name in named} | {"GSI2SK"}
    reader = Reader(aws.environment, {name: kind for name, kind in COLUMNS.items() if name in attributes}, limit)
    attrs: dict[str, Any] = {}
    if selection.event_ids is not None:
        requests, query = _by_id(aws, selection.event_ids, reader, attrs)
    else:
        requests, query = _requests(aws, selection)
    table = _conform(reader.read(requests, progress), named)
    table = _filtered(table, selection).sort_by([("event_time", "ascending"), ("sk", "ascending")]).select(columns)
    consumed = reader.consumed
    attrs |= {"consumed_capacity": consumed.capacity, "requests": consumed.requests, "rows_read": consumed.rows}
    return frames.to_pandas(table, **attrs, query=query)


def _requests(aws: Connection, selection: EventFilter) -> tuple[list[Request], str]:
    table = {"TableName": aws.outputs["EventsTable"]}
    if selection.entity is not None:
        return [("query", table | _entity_query(selection))], f"entity {selection.entity}, consistent"
    indexed = _by_index(aws, selection)
    if indexed and indexed.number <= _MOST_QUERIES:
        return [("query", table | query) for query in indexed.queries], indexed.says
    if not selection.allow_scan:
        why = "neither entity, nor source with a day or window, nor ingested, nor event_ids is given"
        if indexed:
            why = f"the window is {indexed.number:,} queries of an index, more than {_MOST_QUERIES:,}"
        raise Refused(
            "only a scan of the whole events table would answer this",
            reason=why,
            next_step="narrow it down, for instance source=…, day=…; or pass allow_scan=True",
        )
    segments = [{"Segment": n, "TotalSegments": _SCAN_SEGMENTS, "ConsistentRead": True} for n in range(_SCAN_SEGMENTS)]
    return [("scan", table | segment) for segment in segments], f"scan, {_SCAN_SEGMENTS} segments"


class _Indexed(NamedTuple):
    """Queries of an index, counted before any of them is made: "from today on" is millions of them."""

    number: int
    queries: Iterator[dict[str, Any]]
    says: str


def _by_index(aws: Connection, selection: EventFilter) -> _Indexed | None:
    if selection.ingested is not None:
        start, end = selection.ingested
        end = min(end, keys.format_time(datetime.now(UTC) + timedelta(days=1)))  # nothing comes in later than now
        count = times.count_days(start, end) * keys.INDEX_SHARDS
        return _Indexed(count, _ingest_queries(start, end), f"index by-ingest-time, {count} shards")
    if selection.source is not None and selection.start and selection.end:
        types = [keys.encode(selection.event_type)] if selection.event_type else event_types(aws, selection.source)
        count = times.count_days(selection.start, selection.end) * keys.INDEX_SHARDS * len(types)
        says = f"index by-source, {len(types)} types, {count} shards"
        return _Indexed(count, _source_queries(selection, types), says)
    return None


def _entity_query(selection: EventFilter) -> dict[str, Any]:
    assert selection.entity is not None  # noqa: S101 - for the type checker
    return {
        "KeyConditionExpression": "PK = :pk AND SK BETWEEN :start AND :end",
        "ExpressionAttributeValues": {
            ":pk": {"S": keys.entity_pk(selection.entity)},
            ":start": {"S": f"TS#{selection.start}"},
            ":end": {"S": f"TS#{selection.end}" if selection.end else "TS$"},
        },
        "ConsistentRead": True,
    }


def _ingest_queries(start: str, end: str) -> Iterator[dict[str, Any]]:
    for day in times.days(start, end):
        for shard in keys.shards():
            yield {
                "IndexName": "by-ingest-time",
                "KeyConditionExpression": "GSI2PK = :pk AND GSI2SK BETWEEN :start AND :end",
                "ExpressionAttributeValues": {
                    ":pk": {"S": keys.ingest_pk(day, shard)},
                    ":start": {"S": start},
                    ":end": {"S": end},
                },
            }


def _source_queries(selection: EventFilter, types: Sequence[str]) -> Iterator[dict[str, Any]]:
    assert selection.source is not None  # noqa: S101 - for the type checker
    late = selection.min_lag_ms is not None
    for day in selection.days:
        for shard in keys.shards():
            # Types come encoded, and a long one cannot be decoded: put each where an empty one would stand.
            like = keys.source_pk(selection.source, "", day, shard)
            for encoded in types:
                values = {":pk": {"S": like.replace("#TYPE##", f"#TYPE#{encoded}#")}}
                if selection.min_lag_ms is not None:
                    values[":lag"] = {"S": keys.lag_sk(selection.min_lag_ms)}
                yield {
                    "IndexName": "by-source",
                    "KeyConditionExpression": "GSI1PK = :pk" + (" AND GSI1SK >= :lag" if late else ""),
                    "ExpressionAttributeValues": values,
                }


def event_types(aws: Connection, source: str) -> list[str]:
    """Return the types, percent-encoded as in keys, of ``source``'s objects in the raw bucket and of their versions."""
    pages = aws.environment.client("s3").get_paginator("list_object_versions")
    prefix = f"raw/source={keys.encode(source)}/"
    found = pages.paginate(Bucket=aws.outputs["RawBucket"], Prefix=prefix, Delimiter="/")
    folders = [folder["Prefix"] for page in found for folder in page.get("CommonPrefixes", [])]
    return sorted({folder.rstrip("/").rpartition("event_type=")[2] for folder in folders})


def _by_id(aws: Connection, ids: Sequence[str], reader: Reader, attrs: dict[str, Any]) -> tuple[list[Request], str]:
    """Find where the events are; their later arrivals are beside them, so each event is a query of its own."""
    client = aws.environment.client("dynamodb", max_pool_connections=PARALLEL)
    found = batch.items(
        client,
        aws.outputs["DedupeTable"],
        [{"event_id": {"S": event_id}} for event_id in ids],
        projection="event_id, pk, sk",
        answered=reader.consumed.add,
    )
    attrs["not_found"] = sorted(set(ids) - {row["event_id"]["S"] for row in found})
    requests = [
        (
            "query",
            {
                "TableName": aws.outputs["EventsTable"],
                "KeyConditionExpression": "PK = :pk AND begins_with(SK, :sk)",
                "ExpressionAttributeValues": {":pk": row["pk"], ":sk": row["sk"]},
                "ConsistentRead": True,
            },
        )
        for row in found
    ]
    return requests, f"{len(ids)} ids, {len(found)} known"


def _conform(table: pa.Table, named: Sequence[str] = frames.EVENTS.names) -> pa.Table:
    """Return rows as DynamoDB holds them as columns of EVENTS, those that are ``named``."""
    table = _expanded(table)
    columns = []
    schema = pa.schema([frames.EVENTS.field(name) for name in named])
    for field in schema:
        column = table.column(_ATTRIBUTES.get(field.name, field.name))
        if field.name == "exact_time":  # left out of the row when it says the same
            column = pc.coalesce(column, table.column("event_time"))
        elif field.name == "content_type":
            column = pc.coalesce(column, pa.scalar("application/json"))
        elif field.name == "assumed_utc":
            column = pc.fill_null(column, False)
        elif field.name == "expires_at":
            column = pc.multiply(column, 1_000_000)
        columns.append(column.cast(field.type))
    return pa.Table.from_arrays(columns, schema=schema)


def _expanded(table: pa.Table) -> pa.Table:
    """Fill in what a first arrival's row leaves to its keys: :func:`pik.pipeline.rows.expand`, for columns."""
    sk = table["SK"]
    derived = {
        "event_id": pc.utf8_slice_codeunits(sk, keys.SK_EVENT_ID.start, keys.SK_EVENT_ID.stop),
        "event_time": pc.utf8_slice_codeunits(sk, keys.SK_TIME.start, keys.SK_TIME.stop),
        "ingest_time": table["GSI2SK"],
    }
    whole = {name: pc.coalesce(table[name], column) for name, column in derived.items()}
    if "s3_key" in table.column_names:
        whole["s3_key"] = pc.coalesce(table["s3_key"], _raw_keys(table, whole["event_time"], whole["event_id"]))
    for name, column in whole.items():
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


def _raw_keys(table: pa.Table, event_time: pa.ChunkedArray, event_id: pa.ChunkedArray) -> Any:
    """Each row's :func:`pik.events.raw_key`. Names repeat, so each is encoded once."""
    encoded = {}
    for name in ("source", "event_type"):
        names = table[name].unique().to_pylist()
        codes = pa.array([None if value is None else keys.encode(value) for value in names], pa.string())
        encoded[name] = codes.take(pc.index_in(table[name], pa.array(names, pa.string())))
    parts: list[Any] = ["raw/source=", encoded["source"], "/event_type=", encoded["event_type"], "/event_date="]
    parts += [pc.utf8_slice_codeunits(event_time, 0, 10), "/hour=", pc.utf8_slice_codeunits(event_time, 11, 13)]
    return pc.binary_join_element_wise(*parts, "/event_id=", event_id, ".json", "")


def _filtered(table: pa.Table, selection: EventFilter) -> pa.Table:
    keep = pc.fill_null(pc.greater(table["expires_at"], pa.scalar(datetime.now(UTC), frames.TIME)), True)
    for name in ("source", "event_type"):
        if (wanted := getattr(selection, name)) is not None:
            keep = pc.and_(keep, pc.equal(table[name], wanted))
    if selection.entity is not None:
        keep = pc.and_(keep, pc.equal(table["entity_id"], selection.entity))
    if selection.statuses:
        keep = pc.and_(keep, pc.is_in(table["status"], pa.array(selection.statuses)))
    if selection.min_lag_ms is not None:
        keep = pc.and_(keep, pc.greater_equal(table["lag_ms"], selection.min_lag_ms))
    if selection.ingested is not None:
        keep = pc.and_(keep, _between(table["ingest_time"], *selection.ingested))
    keep = pc.and_(keep, _between(table["event_time"], selection.start, selection.end))
    if not _asks_for_probes(selection):
        probe = pc.starts_with(table["entity_id"], keys.PROBE_ENTITY_PREFIX)
        keep = pc.and_(keep, pc.invert(pc.or_(probe, pc.equal(table["source"], keys.PROBE_SOURCE))))
    return table.filter(keep)


def _asks_for_probes(selection: EventFilter) -> bool:
    named = (selection.entity or "").startswith(keys.PROBE_ENTITY_PREFIX) or selection.source == keys.PROBE_SOURCE
    return selection.include_probes or named or selection.event_ids is not None


def _between(column: pa.ChunkedArray, start: str, end: str) -> Any:
    keep: Any = pc.is_valid(column)
    if start:
        keep = pc.and_(keep, pc.greater_equal(column, pa.scalar(start).cast(frames.TIME)))
    if end:
        keep = pc.and_(keep, pc.less(column, pa.scalar(end).cast(frames.TIME)))
    return keep


def _window(day: Any, start: Any, end: Any) -> tuple[str, str]:
    if day is not None:
        if start is not None or end is not None:
            raise UsageError("a day and a window", next_step="either day=…, or start=… and end=…")
        day = times.day(day)
        return times.moment(day), times.moment(times.next_day(day))
    return tuple("" if t is None else times.moment(t, n) for t, n in ((start, "start"), (end, "end")))  # type: ignore[return-value]


def _statuses(status: str | Sequence[str] | None) -> tuple[str, ...]:
    given = (status,) if isinstance(status, str) else tuple(status or ())
    if unknown := [name for name in given if name not in STATUSES]:
        raise UsageError(f"no such status: {named(unknown[0])}", next_step=f"one of {', '.join(STATUSES)}")
    return given
