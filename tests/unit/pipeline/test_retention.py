"""What comes when its retention is over, or almost: it is a first arrival again, and no row outlives its object."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import boto3
import pytest

from pik import events
from pik.pipeline import ingest
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from tests.unit.world import World

BODY = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": "2025-01-01T00:00:00Z", "payload": {"a": 1}}
Arrive = Callable[..., dict[str, Any]]


@pytest.fixture
def arrive(deployed: Settings, request_of: Callable[..., Any]) -> Arrive:
    """Send one request at a moment; return the answer."""

    def call(moment: str, body: Any = BODY) -> dict[str, Any]:
        with patch.object(events, "now", lambda: moment):
            return dict(json.loads(ingest.ingest(Request.of(request_of(body)), deployed)["body"]))

    return call


def test_rows_whose_time_is_over_do_not_count_although_they_are_still_there(arrive: Arrive, world: World) -> None:
    assert arrive("2025-01-01T00:00:00.000000Z")["status"] == "ACCEPTED"
    assert arrive("2025-12-31T00:00:00.000000Z")["status"] == "DUPLICATE"
    for key in world.objects():
        boto3.client("s3").delete_object(Bucket="raw", Key=key)  # S3's lifecycle rule was faster
    assert arrive("2026-01-02T00:00:00.000000Z")["status"] == "ACCEPTED"
    assert world.table("dedupe")[0]["ingest_time"] == "2026-01-02T00:00:00.000000Z"


def test_a_raw_object_without_rows_is_known_until_its_retention_is_over(arrive: Arrive, world: World) -> None:
    def forget() -> None:
        for table, keys in (("events", ("PK", "SK")), ("dedupe", ("event_id",))):
            for row in world.table(table):
                boto3.client("dynamodb").delete_item(TableName=table, Key={key: {"S": row[key]} for key in keys})

    first = arrive("2025-01-01T00:00:00.000000Z")
    forget()
    assert arrive("2025-12-31T23:59:59.000000Z")["status"] == "DUPLICATE"
    # The lifecycle has not run yet, and removes the first object any day: its bytes are no longer ours to count on.
    forget()
    again = arrive("2026-01-02T00:00:00.000000Z")
    assert again["status"] == "ACCEPTED"
    assert {first["s3_key"], again["s3_key"]} == world.objects().keys()
    (row,), (dedupe,) = world.table("events"), world.table("dedupe")
    assert row["s3_key"] == dedupe["s3_key"] == again["s3_key"]
    assert row["expires_at"] > events.epoch("2027-01-01T00:00:00Z")
    assert arrive("2026-01-03T00:00:00.000000Z")["status"] == "DUPLICATE"
    forget()  # a crash between the second object and its rows
    assert arrive("2026-01-04T00:00:00.000000Z")["first_s3_key"] == again["s3_key"]
    last = arrive("2027-01-04T00:00:00.000000Z")
    assert (last["status"], len(world.objects())) == ("ACCEPTED", 3)


def test_a_duplicates_row_does_not_outlive_the_object_it_refers_to(arrive: Arrive, world: World) -> None:
    keyed = {**BODY, "idempotency_key": "k"}
    for day, body in enumerate([keyed, keyed, {**keyed, "payload": {"a": 2}}], start=1):
        arrive(f"2025-01-0{day}T00:00:00.000000Z", body)
    ends = {row["status"]: row["expires_at"] for row in world.table("events")}
    assert ends["DUPLICATE"] == ends["ACCEPTED"]
    assert ends["CONFLICT"] > ends["ACCEPTED"]  # its own bytes are kept from its own day on


def test_a_conflicts_row_does_not_outlive_the_bytes_that_an_earlier_one_brought(arrive: Arrive, world: World) -> None:
    """The same body is kept once, so the row of its second arrival refers to the object of the first."""
    keyed = {**BODY, "idempotency_key": "k"}
    other = {**keyed, "payload": {"a": 2}}
    arrive("2025-01-01T00:00:00.000000Z", keyed)
    kept = arrive("2025-01-02T00:00:00.000000Z", other)
    assert arrive("2025-12-01T00:00:00.000000Z", other)["s3_key"] == kept["s3_key"]
    conflicts = [row for row in world.table("events") if row["status"] == "CONFLICT"]
    assert [row["expires_at"] for row in conflicts] == [events.epoch("2026-01-02T00:00:00Z")] * 2


def test_a_conflict_that_comes_when_its_bytes_may_go_any_day_is_kept_beside_them(arrive: Arrive, world: World) -> None:
    keyed = {**BODY, "idempotency_key": "k"}
    other = {**keyed, "payload": {"a": 2}}
    arrive("2025-01-01T00:00:00.000000Z", keyed)
    kept = arrive("2025-01-02T00:00:00.000000Z", other)
    arrive("2026-01-01T12:00:00.000000Z", keyed)  # the first one's retention is over: it is a first arrival again
    again = arrive("2026-01-03T00:00:00.000000Z", other)
    assert again["s3_key"] == kept["s3_key"].replace(".json", ".after-20250102T000000.json")
    assert json.loads(world.objects()[again["s3_key"]]) == other
    assert arrive("2026-01-04T00:00:00.000000Z", other)["s3_key"] == again["s3_key"]
    row = next(row for row in world.table("events") if row["request_id"] == again["request_id"])
    assert row["expires_at"] == events.epoch("2027-01-03T00:00:00Z")
