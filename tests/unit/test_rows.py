"""Rows: derived from the raw object alone, and small enough for a first arrival to be billed as one kilobyte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pik import producer
from pik.pipeline import rows
from pik.pipeline.parsing import parse_event
from pik.pipeline.rows import Arrival

ARN = "arn:aws:sts::123456789012:assumed-role/flight-producer/ip-10-0-12-34"


def billed_bytes(row: Mapping[str, Any]) -> int:
    """Size of an item: names and values in UTF-8; a number about half a byte a digit and one more.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/CapacityUnitCalculations.html
    """
    sizes = (len(str(v)) // 2 + 2 if isinstance(v, int) else len(str(v).encode()) for v in row.values())
    return sum(map(len, row)) + sum(sizes)


def arrival_of(body: bytes, **headers: str) -> Arrival:
    named = {"content-type": "application/json", "x-request-id": "0" * 36, **headers}
    time, request = "2026-01-01T00:00:00.000000Z", "1" * 36
    return Arrival.of(body, named, ingest_time=time, request_id=request, producer=ARN)


def test_rows_of_real_events_fit_one_kilobyte() -> None:
    sizes, later = [], []
    for sent in producer.load("flights"):
        body = json.dumps(sent).encode()
        event, arrival = parse_event(body, {}), arrival_of(body)
        dedupe, row = rows.first_rows(event, arrival, 365)
        sizes += [billed_bytes(dedupe), billed_bytes(row)]
        later.append(billed_bytes(rows.arrival_row(event, arrival, 365, "DUPLICATE", row["s3_key"], dedupe)))
    assert len(sizes) == 2 * 12_208
    assert max(sizes) <= 1024
    assert max(later) <= 2048


def test_an_arrival_survives_its_metadata() -> None:
    body = b"{}"
    sent = arrival_of(body, **{"ce-id": "1", "ce-subject": "N%201", "x-request-id": "é/1"})
    assert Arrival.from_object(sent.to_metadata(), sent.content_type, body) == sent


@pytest.mark.parametrize("value", ["/" * 100, "ж" * 256, "~" * 256, "a" * 256, "%2F" * 90])
def test_what_a_caller_sends_is_the_same_in_rows_and_metadata(value: str) -> None:
    headers = {"content-type": "application/json", "x-request-id": value}
    sent = Arrival.of(b"{}", headers, ingest_time="2026-01-01T00:00:00.000000Z", request_id="r", producer=value)
    read = Arrival.from_object(sent.to_metadata(), sent.content_type, b"{}")
    assert (read.client_request_id, read.producer) == (sent.client_request_id, sent.producer)
    assert value.startswith(sent.client_request_id)
    assert len(sent.client_request_id) >= 24


def test_what_a_row_need_not_say_is_left_out() -> None:
    facts = {"source": "s", "event_type": "t", "entity_id": "e", "payload": {}}
    usual, odd = (
        rows.first_rows(parse_event(json.dumps({**facts, "event_time": time}).encode(), {}), arrival_of(b""), 1)[1]
        for time in ("2025-01-01T00:00:00Z", "2025-01-01T00:00:00.0000001")
    )
    assert set(odd) - set(usual) == {"exact_time", "assumed_utc"}
    assert odd["assumed_utc"] is True
