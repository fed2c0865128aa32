"""``wb.raw(frame or ids)``: the payloads behind events, read in parallel and checked against what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa

from pik import events as keys
from pik import frames
from pik.aws import stored
from pik.aws.objects import Object
from pik.errors import UsageError
from pik.workbench import metadata

if TYPE_CHECKING:
    from pik.aws.connection import Connection

Row = dict[str, Any]
MISSING, ALTERED, UNREADABLE = "missing", "altered", "unreadable"
_NEEDED = ("event_id", "status", "s3_key", "payload_sha256", "body_sha256")
_DEEPEST = 20  # levels of a payload that become columns
_EVERY = 500  # objects between two words of progress
_LONGEST = 64  # bits of an integer column, sign included


def raw(
    aws: Connection,
    what: pd.DataFrame | Iterable[str],
    *,
    sample: int | None = None,
    flatten: bool = True,
    verify: bool = True,
    progress: Callable[[str], None] | None = None,
) -> pd.DataFrame:
    """Return one row for each raw object behind ``what``: :data:`pik.frames.RAW`, then the payload.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.raw`.
    """
    wanted, attrs = _wanted(aws, what)
    if sample is not None and sample < len(wanted):
        wanted = wanted.sample(n=sample, random_state=0).sort_index()
    rows = {str(row["s3_key"]): dict(row) for row in wanted[list(_NEEDED)].to_dict("records")}

    def describe(key: str, found: Object | None) -> tuple[Row, Any]:
        return _describe(rows[key], found, verify)

    described: list[Row] = []
    payloads: list[Any] = []
    for row, payload in aws.objects.many(rows, describe):
        described.append(row)
        payloads.append(payload)
        if progress and len(described) % _EVERY == 0:
            progress(f"{len(described):,} of {len(rows):,} raw objects")
    columns = {name: [row.get(name) for row in described] for name in frames.RAW.names}
    schema, extra = _payload_columns(payloads, flatten)
    return frames.from_columns(schema, columns | extra, **attrs)


def _wanted(aws: Connection, what: pd.DataFrame | Iterable[str]) -> tuple[pd.DataFrame, dict[str, Any]]:
    attrs: dict[str, Any] = {}
    if isinstance(what, str):
        what = [what]
    if not isinstance(what, pd.DataFrame):
        what = metadata.events(aws, event_ids=what)
        attrs["not_found"] = what.attrs["not_found"]
    if lacking := [name for name in _NEEDED if name not in what.columns]:
        raise UsageError(
            f"the frame has no column {lacking[0]}",
            reason=f"needed: {', '.join(_NEEDED)}",
            next_step="pass a frame of wb.events(…), or event ids",
        )
    # The row that stored the object knows its bytes; a duplicate's row only what came in then.
    first = what.assign(_late=what["status"] == keys.DUPLICATE).sort_values("_late", kind="stable")
    return first.drop_duplicates("s3_key").sort_index(), attrs


def _describe(row: Mapping[Any, Any], found: Object | None, verify: bool) -> tuple[Row, Any]:
    known = {"event_id": row["event_id"], "s3_key": row["s3_key"]}
    if found is None:
        return {**known, "hash_ok": False if verify else None, "problem": MISSING}, None
    body_sha256 = hashlib.sha256(found.body).hexdigest()
    known |= {
        "content_type": found.content_type,
        "size_bytes": len(found.body),
        "body_sha256": body_sha256,
    }
    try:
        event = found.event()
    except ValueError:
        return {**known, "hash_ok": False if verify else None, "problem": UNREADABLE}, None
    known |= {
        "source": event.source,
        "event_type": event.event_type,
        "entity_id": event.entity_id,
        "event_time": event.event_time,
        "payload_sha256": event.payload_sha256,
        "mapping": event.mapping,
        "original": (stored.original(found.body) or b"").decode("utf-8", "replace") if event.mapping else None,
    }
    if verify:
        agree = found.metadata.get("body-sha256", body_sha256) == body_sha256
        agree &= row["status"] == keys.DUPLICATE or row["body_sha256"] == body_sha256
        agree &= event.event_id == row["event_id"]
        # A duplicate by idempotency key repeats the payload; one by content has it in its identity.
        agree &= event.payload_sha256 == row["payload_sha256"]
        known |= {"hash_ok": agree, "problem": None if agree else ALTERED}
    return known, event.payload


def _payload_columns(payloads: list[Any], flatten: bool) -> tuple[pa.Schema, dict[str, pa.Array]]:
    columns: dict[str, list[Any]] = {}
    for position, payload in enumerate(payloads):
        if payload is None:
            continue
        named = _flat(payload, "payload") if flatten else {"payload": stored.text(payload)}
        for name, value in named.items():
            columns.setdefault(name, [None] * len(payloads))[position] = value
    if not flatten:
        columns.setdefault("payload", [None] * len(payloads))
    arrays = {name: _column(values) for name, values in columns.items()}
    extra = [(name, array.type) for name, array in arrays.items()]
    return pa.schema([*frames.RAW, *pa.schema(extra)]), arrays


def _flat(value: Any, path: str, depth: int = 0) -> dict[str, Any]:
    if isinstance(value, dict) and value and depth < _DEEPEST:
        inside = (_flat(inner, f"{path}.{frames.segment(name)}", depth + 1) for name, inner in value.items())
        return {name: inner for columns in inside for name, inner in columns.items()}
    return {path: value}


def _column(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    for allowed, kind in ((set(), pa.string()), ({bool}, pa.bool_()), ({int}, pa.int64()), ({str}, pa.string())):
        if kinds <= allowed and (kind != pa.int64() or _fit(values)):
            return pa.array(values, kind)
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if v is None else stored.text(v) for v in values], pa.string())


def _fit(values: list[Any]) -> bool:
    return all(value is None or value.bit_length() < _LONGEST for value in values)
