"""Arrivals: which key answers a question, and how what DynamoDB says becomes columns."""

from __future__ import annotations

import json
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import boto3
import pyarrow as pa
import pytest

from pik import events, frames
from pik.aws.dynamodb import Reader, _keep_body
from pik.errors import Refused, UsageError
from pik.workbench import metadata, times
from pik.workbench.metadata import EventFilter

DAY = ("2013-01-01T00:00:00.000000Z", "2013-01-02T00:00:00.000000Z")


class Environment:
    """As much of an environment as a reader needs; its clients are never asked anything."""

    name = "local"

    def client(self, service: str, **_: Any) -> Any:
        return boto3.client(service, "us-east-1", aws_access_key_id="none", aws_secret_access_key="none")


WB: Any = SimpleNamespace(environment=Environment(), outputs={"EventsTable": "events"})


def item(**values: Any) -> dict[str, Any]:
    kinds = {str: "S", int: "N", bool: "BOOL"}
    return {k: {kinds[type(v)]: v if isinstance(v, bool) else str(v)} for k, v in values.items()}


def parse(*items: dict[str, Any], **more: Any) -> Any:
    reader = Reader(Environment(), metadata.COLUMNS)  # type: ignore[arg-type]
    return reader._parse(json.dumps({"Items": list(items), "Count": len(items), **more}).encode())


# --- bytes to columns -----------------------------------------------------------------------------------------------


def test_a_page_becomes_columns() -> None:
    row = item(event_id="e1", ingest_lag_ms=-5, assumed_utc=True, unknown="x", event_time='é\n"\u2028')
    page = parse(row, item(event_id="e2"), LastEvaluatedKey={"PK": {"S": "p"}, "SK": {"S": "s"}})
    assert page.last_key == {"PK": {"S": "p"}, "SK": {"S": "s"}}
    first, second = page.rows.to_pylist()
    assert (first["event_id"], first["ingest_lag_ms"], first["assumed_utc"]) == ("e1", -5, True)
    assert first["event_time"] == 'é\n"\u2028'
    assert second["event_id"] == "e2"
    assert second["ingest_lag_ms"] is None
    assert "unknown" not in first


def test_the_last_page_and_an_empty_one() -> None:
    page = parse(ConsumedCapacity={"TableName": "t", "CapacityUnits": 12.5})
    assert (page.rows.num_rows, page.last_key, page.capacity) == (0, None, 12.5)
    assert page.rows.schema.names == list(metadata.COLUMNS)


def test_only_good_answers_are_taken_from_botocore() -> None:
    good, bad = {"status_code": 200, "body": b"x"}, {"status_code": 400, "body": b"why"}
    taken: dict[str, Any] = {}
    _keep_body(bad, taken)
    assert (bad["body"], taken) == (b"why", {})
    _keep_body(good, taken)
    assert (good["body"], list(taken.values())) == (b"{}", [b"x"])


def test_what_a_row_leaves_out_is_filled_in() -> None:
    row = item(event_id="e", event_time=DAY[0], ingest_time=DAY[1], ingest_lag_ms=86_400_000, expires_at=2_000_000_000)
    table = metadata._conform(parse(row).rows)
    assert table.schema == frames.EVENTS
    (found,) = table.to_pylist()
    assert found["exact_time"] == DAY[0]
    assert found["content_type"] == "application/json"
    assert found["assumed_utc"] is False
    assert (found["ingest_time"] - found["event_time"]) == timedelta(days=1)
    assert found["expires_at"].year == 2033


# --- which key ------------------------------------------------------------------------------------------------------


def test_the_key_that_fits_is_read() -> None:
    (entity,), _ = metadata._requests(WB, EventFilter(entity="e/1", start=DAY[0]))
    assert entity[1]["ExpressionAttributeValues"][":pk"] == {"S": "ENTITY#e%2F1"}
    assert entity[1]["ConsistentRead"] is True
    ingested, _ = metadata._requests(
        WB, EventFilter(ingested=("2013-01-01T23:00:00.000000Z", "2013-01-02T01:00:00.000000Z"))
    )
    assert len(ingested) == 2 * events.INDEX_SHARDS
    late = EventFilter(source="UA", event_type="t#1", start=DAY[0], end=DAY[1], min_lag_ms=-1)
    by_source, _ = metadata._requests(WB, late)
    values = by_source[3][1]["ExpressionAttributeValues"]
    assert values == {":pk": {"S": events.source_pk("UA", "t#1", "2013-01-01", 3)}, ":lag": {"S": events.lag_sk(-1)}}


@pytest.mark.parametrize("unbounded", [{}, {"source": "UA"}, {"source": "UA", "start": DAY[0]}, {"min_lag_ms": 5}])
def test_a_scan_is_refused_unless_asked_for(unbounded: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        metadata._requests(WB, EventFilter(**unbounded))
    assert "allow_scan=True" in refused.value.next_step
    requests, _ = metadata._requests(WB, EventFilter(**unbounded, allow_scan=True))
    assert {r[1]["Segment"] for r in requests} == set(range(16))


def test_a_window_of_too_many_queries_is_refused_like_a_scan() -> None:
    long = EventFilter(source="UA", event_type="t", start=DAY[0], end="2033-01-01T00:00:00.000000Z")
    with pytest.raises(Refused) as refused:
        metadata._requests(WB, long)
    assert "58,440 queries" in refused.value.reason
    beyond, _ = metadata._requests(WB, EventFilter(ingested=(events.now(), "2999-01-01T00:00:00.000000Z")))
    assert len(beyond) <= 2 * events.INDEX_SHARDS  # nothing comes in later than now


def test_mistakes_are_named() -> None:
    for wrong in (
        {"event_type": "x"},
        {"status": "LATE"},
        {"entity": "e", "day": "2013-13-01"},
        {"entity": "e", "day": "2013-01-01", "start": "2013-01-01"},
        {"entity": "e", "min_lag": "an hour"},
        {"entity": "e", "start": "now"},
    ):
        with pytest.raises(UsageError):
            metadata.events(WB, **wrong)  # type: ignore[arg-type]


# --- what is left of the request ------------------------------------------------------------------------------------


def rows(*overrides: dict[str, Any]) -> pa.Table:
    usual = {"event_id": "e", "status": "ACCEPTED", "source": "UA", "event_type": "t", "entity_id": "N1", "lag_ms": 10}
    times_ = {"event_time": DAY[0], "ingest_time": DAY[0], "expires_at": "2100-01-01T00:00:00.000000Z"}
    frame = frames.frame(frames.EVENTS, [{**usual, **times_, **o} for o in overrides])
    return pa.Table.from_pandas(frame, schema=frames.EVENTS, preserve_index=False)


@pytest.mark.parametrize(
    ("selection", "dropped"),
    [
        (EventFilter(statuses=("ACCEPTED",)), {"status": "DUPLICATE"}),
        (EventFilter(source="UA"), {"source": "AA"}),
        (EventFilter(entity="N1"), {"entity_id": "N2"}),
        (EventFilter(min_lag_ms=10), {"lag_ms": 9}),
        (EventFilter(start=DAY[0], end=DAY[1]), {"event_time": DAY[1]}),
        (EventFilter(ingested=DAY), {"ingest_time": DAY[1]}),
        (EventFilter(), {"expires_at": DAY[0]}),
        (EventFilter(), {"entity_id": f"{events.PROBE_ENTITY_PREFIX}1"}),
        (EventFilter(), {"source": events.PROBE_SOURCE}),
    ],
)
def test_rows_that_were_not_asked_for_are_dropped(selection: EventFilter, dropped: dict[str, Any]) -> None:
    kept = metadata._filtered(rows({"event_id": "kept"}, dropped), selection)
    assert kept["event_id"].to_pylist() == ["kept"]


def test_probes_are_there_when_asked_for() -> None:
    probe = {"source": events.PROBE_SOURCE, "entity_id": f"{events.PROBE_ENTITY_PREFIX}1"}
    for selection in (EventFilter(include_probes=True), EventFilter(source=events.PROBE_SOURCE)):
        assert metadata._filtered(rows(probe), selection).num_rows == 1


def test_times_as_people_write_them() -> None:
    assert times.milliseconds("1h") == times.milliseconds(timedelta(hours=1)) == times.milliseconds(3600) == 3_600_000
    assert times.days("2013-01-01T00:00:00.000000Z", "2013-01-01T00:00:00.000000Z") == []


# --- some columns, and not too many rows ----------------------------------------------------------------------------


class Answers(Environment):
    """An environment whose table answers pages of rows, and remembers how it was asked."""

    def __init__(self, pages: int) -> None:
        self.pages, self.asked = pages, list[dict[str, Any]]()

    def client(self, service: str, **_: Any) -> Any:
        def query(**arguments: Any) -> dict[str, Any]:
            self.asked.append(arguments)
            sk = f"TS#{DAY[0]}#EID#{len(self.asked):064d}"
            row = item(SK=sk, GSI2SK=DAY[0], source="s", event_type="t", entity_id="e", status="ACCEPTED")
            last = {"LastEvaluatedKey": {"PK": {"S": "p"}, "SK": {"S": sk}}} if len(self.asked) < self.pages else {}
            return {"pik_body": json.dumps({"Items": [row] * 10, **last}).encode()}

        meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_, **__: None))
        return SimpleNamespace(query=query, meta=meta)


def answering(pages: int) -> Any:
    return SimpleNamespace(environment=Answers(pages), outputs={"EventsTable": "events"})


def test_some_columns_are_all_that_is_asked_for() -> None:
    wb = answering(1)
    found = metadata.events(wb, entity="e", columns=["event_id", "event_time"])
    assert list(found.columns) == ["event_id", "event_time"]
    assert len(found) == 10
    (asked,) = wb.environment.asked
    names = set(asked["ExpressionAttributeNames"].values())
    assert names >= {"SK", "GSI2SK", "expires_at"}
    assert not names & {"payload_sha256", "body_sha256", "s3_key", "producer", "request_id", "PK"}
    assert set(asked["ProjectionExpression"].split(", ")) == set(asked["ExpressionAttributeNames"])
    with pytest.raises(UsageError, match="no such column: evnet_id"):
        metadata.events(wb, entity="e", columns=["evnet_id"])


def test_more_rows_than_were_allowed_are_refused_on_the_way() -> None:
    wb = answering(1000)
    with pytest.raises(Refused, match="more than 45 rows") as refused:
        metadata.events(wb, entity="e", limit=45)
    assert "limit=450" in refused.value.next_step
    assert len(wb.environment.asked) <= 7
    assert len(metadata.events(answering(3), entity="e", limit=45)) == 30
