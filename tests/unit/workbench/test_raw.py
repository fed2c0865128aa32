"""Raw objects: what counts as altered, and payloads as columns."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pyarrow as pa
import pytest

from pik.aws.objects import Object
from pik.events import Event
from pik.pipeline.rows import Arrival, expand, first_rows
from pik.workbench import raw

TIME = "2013-01-01T10:17:00.000000Z"
PAYLOAD = {"n": 1}
EVENT = Event("UA", "t", "N1", TIME, TIME, PAYLOAD)
BODY = json.dumps(
    {"source": "UA", "event_type": "t", "entity_id": "N1", "event_time": TIME, "payload": PAYLOAD}
).encode()
ARRIVAL = Arrival.of(BODY, {}, ingest_time=TIME, request_id="r", producer="p")
ROW = expand(first_rows(EVENT, ARRIVAL, 30)[1])
OBJECT = Object(ROW["s3_key"], BODY, "application/json", ARRIVAL.to_metadata(), '"e"')


def test_what_was_stored_is_what_the_row_says() -> None:
    described, payload = raw._describe(ROW, OBJECT, True)
    assert described["hash_ok"] is True
    assert described["problem"] is None
    assert (described["entity_id"], payload) == ("N1", PAYLOAD)


def reworded(body: bytes) -> Object:
    return OBJECT._replace(body=body)


@pytest.mark.parametrize(
    ("row", "found", "problem"),
    [
        (ROW, None, raw.MISSING),
        (ROW, reworded(BODY + b" "), raw.ALTERED),  # the same event in other bytes
        (ROW, reworded(BODY.replace(b'"n": 1', b'"n": 2')), raw.ALTERED),
        (ROW, reworded(b"\xff"), raw.UNREADABLE),
        ({**ROW, "payload_sha256": "0" * 64}, OBJECT, raw.ALTERED),
        ({**ROW, "body_sha256": "0" * 64}, OBJECT, raw.ALTERED),
        ({**ROW, "event_id": "0" * 64}, OBJECT, raw.ALTERED),
    ],
)
def test_every_disagreement_is_seen(row: dict[str, Any], found: Object | None, problem: str) -> None:
    described, _ = raw._describe(row, found, True)
    assert (described["hash_ok"], described["problem"]) == (False, problem)


def test_an_object_with_its_metadata_rewritten_still_differs_from_its_row() -> None:
    body = BODY + b" "
    forged = OBJECT._replace(body=body, metadata={"body-sha256": hashlib.sha256(body).hexdigest()})
    assert raw._describe(ROW, forged, True)[0]["problem"] == raw.ALTERED


def test_a_duplicate_in_other_bytes_is_no_alteration() -> None:
    later = {**ROW, "status": "DUPLICATE", "body_sha256": "0" * 64}
    assert raw._describe(later, OBJECT, True)[0]["hash_ok"] is True


def test_unverified_is_null() -> None:
    assert "hash_ok" not in raw._describe(ROW, reworded(BODY + b" "), False)[0]


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, None], pa.int64(), [1, None]),
        ([1, 2.5], pa.float64(), [1.0, 2.5]),
        ([True, False], pa.bool_(), [True, False]),
        ([True, 1], pa.string(), ["true", "1"]),
        ([None], pa.string(), [None]),
        (["a", 1], pa.string(), ['"a"', "1"]),
        ([[1], {}], pa.string(), ["[1]", "{}"]),
        ([2**70], pa.float64(), [float(2**70)]),
    ],
)
def test_payload_values_get_the_type_they_share(values: list[Any], kind: pa.DataType, expected: list[Any]) -> None:
    column = raw._column(values)
    assert column.type == kind
    assert column.to_pylist() == expected


def test_payloads_as_columns_or_as_json() -> None:
    payloads = [{"a": {"b": 1}, "c": []}, [1, 2], None]
    schema, columns = raw._payload_columns(payloads, True)
    assert schema.names[-3:] == ["payload.a.b", "payload.c", "payload"]
    assert columns["payload"].to_pylist() == [None, "[1, 2]", None]
    _, columns = raw._payload_columns(payloads, False)
    assert columns["payload"].to_pylist() == ['{"a": {"b": 1}, "c": []}', "[1, 2]", None]
