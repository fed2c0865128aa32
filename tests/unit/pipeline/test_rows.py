"""Rows: derived from the raw object alone, and small enough for a first arrival to be billed as one kilobyte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pik import events, producer
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
        again = rows.arrival_row(event, arrival, 365, "DUPLICATE", dedupe["s3_key"], dedupe, dedupe["expires_at"])
        later.append(billed_bytes(again))
    assert len(sizes) == 2 * 12_208
    assert max(sizes) <= 1024
    assert max(later) <= 2048


def test_an_arrival_survives_its_metadata() -> None:
    body = b"{}"
    sent = arrival_of(body, **{"ce-id": "1", "ce-subject": "N%201", "x-request-id": "é/1"})
    assert Arrival.from_object(sent.to_metadata(), sent.content_type, body) == sent


SESSIONS = [
    "arn:aws:iam::123456789012:user/ana",
    "arn:aws-us-gov:sts::123456789012:assumed-role/AWSReservedSSO_AdministratorAccess_0123456789abcdef/"
    "firstname.lastname@example-company.com",
    "arn:aws:sts::123456789012:assumed-role/checkout-service-prod-OrderPublisherRole-1ABCDEFGHIJKL/"
    "checkout-service-prod-OrderPublisher-1ABCDEFGHIJKLMNOPQRSTUVWXYZ",
]
UUID = "3f2b8c1e-9d4a-4b7e-8f61-2a5d0c9e7b34"
LONG = {"source": "com.example.checkout-service", "event_type": "com.example.checkout.order.created.v1"}


@pytest.mark.parametrize("caller", SESSIONS)
@pytest.mark.parametrize("key", [{}, {"idempotency_key": UUID}])
def test_rows_of_usual_callers_fit_one_kilobyte(caller: str, key: dict[str, str]) -> None:
    facts = {**LONG, "entity_id": UUID, "event_time": "2026-11-20T10:00:00.123456789Z", "payload": {"a": 1}, **key}
    body = json.dumps(facts).encode()
    headers = {"content-type": "application/json; charset=utf-8", "x-request-id": UUID}
    time = "2026-11-20T10:00:01.000000Z"
    arrival = Arrival.of(body, headers, ingest_time=time, request_id=UUID, producer=caller)
    sizes = [billed_bytes(row) for row in rows.first_rows(parse_event(body, {}), arrival, 365)]
    assert max(sizes) <= 1024


@pytest.mark.parametrize("key", ["", "raw/elsewhere.json"])
def test_a_row_says_the_same_when_its_keys_say_part_of_it(key: str) -> None:
    body = json.dumps({**LONG, "entity_id": "ü/" * 100, "event_time": "2026-11-20T10:00:00Z", "payload": {}}).encode()
    event, arrival = parse_event(body, {}), arrival_of(body)
    dedupe, row = rows.first_rows(event, arrival, 365, key)
    whole = rows.expand(row)
    assert (whole["event_id"], whole["event_time"]) == (event.event_id, event.event_time)
    assert (whole["ingest_time"], whole["s3_key"]) == (arrival.ingest_time, key or events.raw_key(event))
    assert ("s3_key" in row) == bool(key)
    assert (rows.compact(whole), rows.expand(whole)) == (row, whole)
    later = rows.arrival_row(event, arrival, 365, "DUPLICATE", whole["s3_key"], dedupe, dedupe["expires_at"])
    assert rows.compact(later) == rows.expand(later) == later


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
