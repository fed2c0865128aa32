"""The frames of the workbench: their columns and types, as data, and the one way to make one.

Every frame is a pandas ``DataFrame`` whose columns are backed by Arrow (``pd.ArrowDtype``), in the order of its schema:
text is ``string``, numbers ``int64`` or ``double``, times ``timestamp[us, tz=UTC]``, never ``object``. A value that is
not there is null. A frame without rows has the same columns and types as one with a million.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

TIME = pa.timestamp("us", tz="UTC")
_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()


def _schema(**columns: pa.DataType) -> pa.Schema:
    return pa.schema(list(columns.items()))


#: One row for each arrival. ``lag_ms``: milliseconds from event to ingest, negative when the producer's clock is ahead.
EVENTS = _schema(
    event_id=_TEXT,
    status=_TEXT,  # ACCEPTED, DUPLICATE or CONFLICT
    source=_TEXT,
    event_type=_TEXT,
    entity_id=_TEXT,
    event_time=TIME,
    ingest_time=TIME,
    lag_ms=_INT,
    producer=_TEXT,
    request_id=_TEXT,
    client_request_id=_TEXT,
    idempotency_key=_TEXT,
    s3_key=_TEXT,
    payload_sha256=_TEXT,
    body_sha256=_TEXT,
    size_bytes=_INT,
    content_type=_TEXT,
    exact_time=_TEXT,  # the event's time with every digit that the producer sent
    assumed_utc=_BOOL,
    expires_at=TIME,
    pk=_TEXT,
    sk=_TEXT,
)

#: One row for each source and type that have raw objects; days are UTC days of the events.
SOURCES = _schema(
    source=_TEXT,
    event_type=_TEXT,
    first_day=_TEXT,
    last_day=_TEXT,
    days=_INT,  # on which there are events; null: more than a thousand
    last_day_events=_INT,  # null: more than a thousand
)

#: One row for each raw object asked for; the payload follows as ``payload`` (JSON) or as ``payload.<name>`` columns.
RAW = _schema(
    event_id=_TEXT,
    source=_TEXT,
    event_type=_TEXT,
    entity_id=_TEXT,
    event_time=TIME,
    s3_key=_TEXT,
    content_type=_TEXT,
    size_bytes=_INT,
    body_sha256=_TEXT,  # of the bytes that are there now
    payload_sha256=_TEXT,  # of the payload that is there now
    hash_ok=_BOOL,  # null: not verified
    problem=_TEXT,  # null, or what is wrong: missing, altered, unreadable
    mapping=_TEXT,  # null, or name and digest of the mapping that made the event out of another record
    original=_TEXT,  # null, or that record, as it was
)

#: One row for each message of a queue, waiting, in flight, or expected from the replays' records.
MESSAGES = _schema(
    message_id=_TEXT,
    replay_id=_TEXT,
    event_id=_TEXT,
    entity_id=_TEXT,
    event_time=TIME,
    s3_key=_TEXT,
    payload_sha256=_TEXT,
    sent=TIME,
    receive_count=_INT,
    code=_TEXT,  # why it was moved to the dead-letter queue; null in the queue
    reason=_TEXT,
    body=_TEXT,
)

#: One row for each version (= replay) of an aggregate. ``state``: the aggregator's, as JSON.
AGGREGATES = _schema(
    entity_id=_TEXT,
    day=_TEXT,
    replay_id=_TEXT,
    aggregator=_TEXT,
    input_count=_INT,
    expected_count=_INT,
    completeness=_TEXT,  # COMPLETE or PARTIAL; null when nothing says what was expected
    state=_TEXT,
    updated=TIME,
)

#: One row for each replay.
REPLAYS = _schema(
    replay_id=_TEXT,
    entity_id=_TEXT,
    start_time=TIME,
    end_time=TIME,
    include_duplicates=_BOOL,
    requested_by=_TEXT,
    created=TIME,
    finished=TIME,
    complete=_BOOL,
    requests=_INT,
    scanned=_INT,
    matched=_INT,
    sent=_INT,
)

#: One row for each log line. ``line`` is as it was written; the fields before it are read from it where it is JSON.
LOGS = _schema(
    time=TIME,
    service=_TEXT,
    level=_TEXT,
    message=_TEXT,
    event_id=_TEXT,
    request_id=_TEXT,
    log_group=_TEXT,
    log_stream=_TEXT,
    line=_TEXT,
)

#: One row for each point of a metric.
METRICS = _schema(time=TIME, name=_TEXT, service=_TEXT, statistic=_TEXT, value=_FLOAT, unit=_TEXT)

#: One row for each entry of the ledger, oldest first.
LEDGER = _schema(
    number=_INT,
    time=TIME,
    kind=_TEXT,
    verdict=_TEXT,  # passed, failed, inconclusive; null where there is none to give
    phase=_TEXT,  # null where none is concerned
    sentence=_TEXT,
    by=_TEXT,  # ARN of the caller
    template=_TEXT,  # digest of the template that it is about
    code=_TEXT,  # digest of the code that it is about
    run=_TEXT,  # id of the run that it comes from, where it comes from one
    hash=_TEXT,
)

#: One row for each line of what became of an event. ``time``: null for now; ``ok``: null where nothing was verified.
TIMELINE = _schema(time=TIME, what=_TEXT, detail=_TEXT, source=_TEXT, ok=_BOOL)


def frame(schema: pa.Schema, rows: Iterable[Mapping[str, Any]], **attrs: Any) -> pd.DataFrame:
    """Return rows as a frame of ``schema``.

    Args:
        schema: columns and types of the frame.
        rows: mappings by column name; what the schema does not name is left out, what a row has not is null. Times may
            be aware datetimes or text in the kit's format, numbers ``Decimal``; a dict or list in a text column becomes
            JSON.
        **attrs: go to ``df.attrs``.

    Raises:
        ValueError, TypeError: a value does not fit its column (``pyarrow.ArrowInvalid`` is a ValueError).

    Example:
        >>> frame(METRICS, [{"name": "Accepted", "value": 3}]).dtypes["value"]
        double[pyarrow]
    """
    kept = list(rows)
    columns = {field.name: [row.get(field.name) for row in kept] for field in schema}
    return from_columns(schema, columns, **attrs)


def from_columns(schema: pa.Schema, columns: Mapping[str, Any], **attrs: Any) -> pd.DataFrame:
    """Return columns (lists or Arrow arrays, by name) as a frame of ``schema``; a column not given is null."""
    length = next((len(values) for values in columns.values()), 0)
    arrays = [
        _array(field.type, columns[field.name]) if field.name in columns else pa.nulls(length, field.type)
        for field in schema
    ]
    return to_pandas(pa.Table.from_arrays(arrays, schema=schema), **attrs)


def to_pandas(table: pa.Table, **attrs: Any) -> pd.DataFrame:
    """Return an Arrow table as a frame, without copying; ``attrs`` go to ``df.attrs``."""
    import pandas as pd  # takes a second, which who only reads rows (wb.explain) shall not wait for

    found: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype)
    found.attrs.update(attrs)
    return found


def rows(found: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a frame as plain Python values; what is null is None.

    >>> rows(frame(METRICS, [{"name": "Accepted", "value": 3}]))[0]["value"]
    3.0
    """
    plain: list[dict[str, Any]] = pa.Table.from_pandas(found, preserve_index=False).to_pylist()
    return plain


def segment(name: str) -> str:
    """Return a name as a part of a dotted path; one with a dot or a quote in it is quoted, so that no two paths agree.

    >>> segment("a"), segment("a.b"), segment("")
    ('a', '"a.b"', '""')
    """
    return json.dumps(name, ensure_ascii=False) if not name or "." in name or '"' in name else name


def _array(kind: pa.DataType, values: Any) -> pa.Array | pa.ChunkedArray:
    if isinstance(values, pa.Array | pa.ChunkedArray):
        return values if values.type == kind else values.cast(kind)
    return _MAKERS.get(kind, lambda given: pa.array(given, kind))(values)


def _times(values: Sequence[Any]) -> pa.Array:
    if all(value is None or isinstance(value, str) for value in values):
        return pa.array(values, _TEXT).cast(TIME)  # a hundred times faster than datetime.fromisoformat
    return pa.array([_time(value) for value in values], TIME)


def _time(value: Any) -> Any:
    return pa.scalar(value, _TEXT).cast(TIME).as_py() if isinstance(value, str) else value


def _texts(values: Sequence[Any]) -> pa.Array:
    texts = [json.dumps(v) if isinstance(v, dict | list) else v for v in values]
    try:
        return pa.array(texts, _TEXT)
    except UnicodeEncodeError:  # half a surrogate pair, as anybody may write into a message: escaped
        return pa.array([v.encode("utf-8", "backslashreplace").decode() if isinstance(v, str) else v for v in texts])


def _integers(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else int(value) for value in values], _INT)


def _floats(values: Sequence[Any]) -> pa.Array:
    return pa.array([None if value is None else float(value) for value in values], _FLOAT)


_MAKERS: dict[pa.DataType, Callable[[Any], pa.Array]] = {
    TIME: _times,
    _TEXT: _texts,
    _INT: _integers,
    _FLOAT: _floats,
}
