"""What a question costs does not grow with the age of an event, the length of a log, or the number of replays."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from pik import events
from pik.aws.reading import StoreReader
from pik.errors import Refused
from pik.pipeline import aws
from pik.pipeline.aggregates import Aggregates
from pik.pipeline.processor import contribution
from pik.pipeline.settings import Settings
from pik.workbench import Workbench, queues, times
from pik.workbench.consistency import log_windows, snapshot
from pik.workbench.consistency.log_windows import Window, merged
from pik.workbench.latest import latest_event
from tests.unit.moto_workbench import MotoEnvironment, ingested, replayed, workbench
from tests.unit.workbench.test_odd import LONG

Ask = Callable[..., dict[str, Any]]


class Logs:
    """A busy log: each request reads ten minutes of it, or ``page``; ``lines`` are those that somebody looks for."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, datetime, dict[str, Any]]] = []
        self.requests = 0
        self.page = timedelta(minutes=10)
        self.asked: list[tuple[str, datetime, datetime]] = []

    def get_paginator(self, _: str) -> Logs:
        return self

    def paginate(self, logGroupName: str, startTime: int, endTime: int, **_: Any) -> Iterator[Any]:  # noqa: N803
        start, end = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (startTime, endTime))
        self.asked.append((logGroupName, start, end))
        while start <= end:
            self.requests += 1
            upto = min(start + self.page, end)
            found = [
                {"message": json.dumps(line), "timestamp": int(at.timestamp() * 1000), "logStreamName": "s"}
                for group, at, line in self.lines
                if group == logGroupName and start <= at <= upto
            ]
            start = upto + timedelta(milliseconds=1)
            yield {"events": found, **({"nextToken": "more"} if start <= end else {})}


class Counted:
    """The stores, with a busy log, and every call counted by its name."""

    def __init__(self, config: Settings) -> None:
        self.wb: Workbench = workbench(config)
        self.logs = Logs()
        self.calls = Counter[str]()
        environment = self.wb.environment
        assert isinstance(environment, MotoEnvironment)
        client = environment.client("dynamodb")
        client.meta.events.register("before-call.dynamodb", lambda model, **_: self.calls.update([model.name]))
        environment.__dict__["clients"]["logs"] = self.logs


@pytest.fixture
def counted(deployed: Settings) -> Counted:
    """The stores of a unit test, counted."""
    return Counted(deployed)


def long_ago(monkeypatch: pytest.MonkeyPatch, days: int = 60) -> datetime:
    """Let everything that is ingested, replayed and counted be so some days ago."""
    at = datetime.now(UTC) - timedelta(days=days)
    monkeypatch.setattr(events, "now", lambda: events.format_time(at))
    return at


def test_an_old_event_is_explained_from_a_few_minutes_of_logs(
    counted: Counted, deployed: Settings, request_of: Ask, monkeypatch: pytest.MonkeyPatch, world: Any
) -> None:
    with monkeypatch.context() as then:
        at = long_ago(then)
        ingested(deployed, request_of, 3)
        for number in range(5):
            replayed(deployed, request_of, f"other-{number}", entity=f"somebody-{number}")
        replayed(deployed, request_of, "rp-1")
        replayed(deployed, request_of, "elsewhere", start_time="2024-01-01T00:00:00Z", end_time="2024-02-01T00:00:00Z")
        for message in world.messages(deployed.queue_url):
            Aggregates(deployed).add([contribution(message["Body"], "m", deployed)])
    row = world.table("events")[1]
    groups = counted.wb.outputs
    said = {"message": "arrival", "event_id": row["event_id"], "level": "INFO", "service": "ingest"}
    counted.logs.lines.append((groups["IngestLogGroup"], at, said))
    counted.logs.lines.append((groups["ProcessorLogGroup"], at, {**said, "message": "counted", "service": "processor"}))

    told = counted.wb.explain(row["event_id"])

    text = told.to_text()
    assert told.problems == ()
    assert "rp-1 (arn:aws:iam::1:user/ana)  message sent" in text
    assert "counted in e · 2025-01-01 · rp-1  (3 of 3 COMPLETE)" in text
    assert text.count("log line") == 2
    assert "elsewhere" not in text
    assert counted.logs.requests <= 4
    assert sum((end - start for _, start, end in counted.logs.asked), timedelta()) < timedelta(minutes=10)
    assert "Scan" not in counted.calls
    assert counted.calls.total() <= 8, counted.calls


def test_what_was_set_aside_is_found_within_the_hour_after_it_was_sent(
    counted: Counted, deployed: Settings, request_of: Ask, monkeypatch: pytest.MonkeyPatch, world: Any
) -> None:
    with monkeypatch.context() as then:
        at = long_ago(then, days=5)
        ingested(deployed, request_of, 1)
        replayed(deployed, request_of, "rp-1")
    (row,) = world.table("events")
    line = {"message": "set aside", "event_id": row["event_id"], "replay_id": "rp-1", "code": "hash_mismatch"}
    counted.logs.lines.append((counted.wb.outputs["ProcessorLogGroup"], at + timedelta(minutes=40), line))

    told = counted.wb.explain(row["event_id"])

    assert "moved to the dead-letter queue for rp-1" in told.to_text()
    assert counted.logs.requests <= 16


@pytest.mark.parametrize("back", [0, 30])
def test_without_a_dedupe_row_the_last_day_is_looked_at_or_what_is_asked_for(
    counted: Counted, deployed: Settings, request_of: Ask, monkeypatch: pytest.MonkeyPatch, world: Any, back: int
) -> None:
    with monkeypatch.context() as then:
        at = long_ago(then, days=back)
        ingested(deployed, request_of, 1)
    (row,) = (aws.from_item(item) for item in boto3.client("dynamodb").scan(TableName="dedupe")["Items"])
    boto3.client("dynamodb").delete_item(TableName="dedupe", Key={"event_id": {"S": row["event_id"]}})
    line = {"message": "arrival", "event_id": row["event_id"], "s3_key": row["s3_key"]}
    counted.logs.lines.append((counted.wb.outputs["IngestLogGroup"], at, line))
    monkeypatch.setattr("pik.workbench.consistency.log_windows.REQUESTS", 10_000)

    assert counted.wb.explain(row["event_id"]).exists is (back == 0)
    since = events.format_time(datetime.now(UTC) - timedelta(days=31))
    told = counted.wb.explain(row["event_id"], logs_since=since)
    assert any("dedupe row is gone" in problem for problem in told.problems)


def test_without_a_dedupe_row_a_busy_log_is_read_from_its_end(
    counted: Counted, deployed: Settings, request_of: Ask
) -> None:
    ingested(deployed, request_of, 1)
    (row,) = (aws.from_item(item) for item in boto3.client("dynamodb").scan(TableName="dedupe")["Items"])
    boto3.client("dynamodb").delete_item(TableName="dedupe", Key={"event_id": {"S": row["event_id"]}})
    line = {"message": "arrival", "event_id": row["event_id"], "s3_key": row["s3_key"]}
    counted.logs.page = timedelta(minutes=1)
    counted.logs.lines.append((counted.wb.outputs["IngestLogGroup"], datetime.now(UTC), line))

    assert counted.wb.explain(row["event_id"]).exists
    assert counted.logs.requests <= 12


def test_many_arrivals_are_not_many_requests(counted: Counted, deployed: Settings, request_of: Ask) -> None:
    hour = timedelta(hours=1)
    noon = datetime(2025, 1, 1, 12, tzinfo=UTC)
    times = [events.format_time(noon + n * hour) for n in range(300)]
    lines, unread = log_windows.naming(counted.wb, "e" * 64, [Window.at("ingest", time) for time in times])
    assert (lines, unread) == ([], ["250 more times"])
    assert counted.logs.requests == log_windows.MOST_WINDOWS


def test_windows_that_overlap_are_read_once() -> None:
    time = "2025-01-01T12:00:00.000000Z"
    near = "2025-01-01T12:02:30.000000Z"
    windows = [Window.at("ingest", near), Window.at("ingest", time), Window.at("processor", time)]
    one, other = merged([*windows, *windows])
    assert (one.function, one.end - one.start) == ("ingest", timedelta(minutes=5, seconds=30))
    assert other == Window.at("processor", time)


def test_a_log_that_is_too_busy_is_said_to_be(
    counted: Counted, deployed: Settings, request_of: Ask, world: Any
) -> None:
    ingested(deployed, request_of, 1)
    (row,) = world.table("events")
    since = events.format_time(datetime.now(UTC) - timedelta(days=2))
    told = counted.wb.explain(row["event_id"], logs_since=since)
    assert any("not all log lines were read" in note and "more than 20 requests" in note for note in told.notes)
    assert counted.logs.requests == 4 * 20


def test_an_entity_with_a_long_name_has_its_replays(
    counted: Counted, deployed: Settings, request_of: Ask, world: Any
) -> None:
    ingested(deployed, request_of, 1, entity=LONG)
    replayed(deployed, request_of, "rp-1", entity=LONG)
    (row,) = world.table("events")
    told = counted.wb.explain(row["event_id"])
    assert LONG in told.headline
    assert "rp-1" in told.to_text()
    assert not any("no replay" in note for note in told.notes)


@pytest.mark.parametrize(("dead", "named", "hours"), [(0, 0, 1), (2, 2, 3 * 24), (3, 2, 14 * 24)])
def test_the_dead_letter_log_is_read_backwards_until_it_is_enough(
    counted: Counted, dead: int, named: int, hours: int
) -> None:
    now = datetime.now(UTC)
    counted.logs.page = timedelta(hours=6)
    group = counted.wb.outputs["ProcessorLogGroup"]
    for number in range(dead):
        boto3.client("sqs").send_message(QueueUrl=counted.wb.outputs["DeadLetterQueueUrl"], MessageBody=str(number))
    for number in range(named):
        line = {"message": "set aside", "message_id": str(number), "code": "not_json"}
        counted.logs.lines.append((group, now - timedelta(days=2, hours=number), line))

    found = counted.wb.dlq.peek()

    assert len(found) == named
    assert counted.logs.requests <= queues.REQUESTS
    reach = now - min(start for _, start, _ in counted.logs.asked)
    assert abs(reach - timedelta(hours=hours)) < timedelta(minutes=1)
    assert f"the log names {named};" in found.attrs["sentence"]


def test_a_dead_letter_log_that_is_too_long_is_said_to_be(counted: Counted) -> None:
    counted.logs.page = timedelta(minutes=1)
    boto3.client("sqs").send_message(QueueUrl=counted.wb.outputs["DeadLetterQueueUrl"], MessageBody="x")
    sentence = counted.wb.dlq.peek().attrs["sentence"]
    assert counted.logs.requests <= queues.REQUESTS + 1
    assert "60 requests did not reach its end" in sentence


def test_versions_are_read_a_hundred_at_a_time(counted: Counted) -> None:
    wanted = [(f"e{number}", "2025-01-01", "rp-1") for number in range(250)]
    assert StoreReader(counted.wb.environment, counted.wb.outputs).versions(wanted) == dict.fromkeys(wanted)
    assert counted.calls == {"BatchGetItem": 3}


@pytest.mark.parametrize(
    "window",
    [
        {"source": "s", "event_type": "t", "start": "2026-11-27", "end": "9999-12-31"},
        {"ingested": ("0001-01-01", "9999-12-31")},
    ],
)
def test_a_window_without_an_end_is_counted_and_not_built(
    counted: Counted, window: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(times, "days", lambda *_: pytest.fail("every day of the window was made"))
    with pytest.raises(Refused, match="only a scan") as refused:
        counted.wb.events(**window)
    assert "queries of an index, more than 20,000" in refused.value.reason
    assert counted.calls.total() == 0


def test_reconciling_everything_makes_no_list_of_its_days(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "retention_days", lambda _: 365)
    monkeypatch.setattr(times, "days", lambda *_: pytest.fail("every day of the window was made"))
    assert counted.wb.reconcile("0001-01-01", "9999-12-31").clean


class Index:
    """The index by ingest time: rows by partition, oldest first; counts what is read."""

    def __init__(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        self.rows = rows
        self.read = 0

    def get_paginator(self, _: str) -> Index:
        return self

    def paginate(self, **query: Any) -> Iterator[Any]:
        assert (query["IndexName"], query["ScanIndexForward"]) == ("by-ingest-time", False)
        rows = self.rows.get(query["ExpressionAttributeValues"][":pk"]["S"], [])[::-1]
        size = query["PaginationConfig"]["PageSize"]
        for start in range(0, max(len(rows), 1), size):
            self.read += len(rows[start : start + size])
            yield {"Items": [aws.to_item(row) for row in rows[start : start + size]]}


def arrival(number: int, at: datetime, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return where a row is in the index by ingest time, and the row."""
    time = events.format_time(at)
    sk = f"TS#{time}#EID#{number:064d}"
    row = {
        "PK": "p",
        "SK": sk,
        "GSI2SK": time,
        "entity_id": "e",
        "source": "s",
        "event_type": "t",
        "status": "ACCEPTED",
    }
    return events.ingest_pk(time, number % events.INDEX_SHARDS), {**row, "expires_at": 2**40, **more}


@pytest.mark.parametrize("back", [0, 3])
def test_the_latest_event_is_found_from_the_end_of_the_index(deployed: Settings, back: int) -> None:
    noon = datetime.now(UTC).replace(hour=0, minute=30) - timedelta(days=back)
    rows: dict[str, list[dict[str, Any]]] = {}
    seconds = timedelta(milliseconds=1)
    probe = {"source": events.PROBE_SOURCE}
    for number in range(5000):
        pk, row = arrival(number, noon + number * seconds, **(probe if number > 4900 else {}))
        rows.setdefault(pk, []).append(row)
    wb, index = workbench(deployed), Index(rows)
    wb.environment.__dict__["clients"] = {"dynamodb": index}

    assert latest_event(wb) == f"{4900:064d}"
    assert index.read <= 3 * 25 * events.INDEX_SHARDS
    assert latest_event(wb, days=back) == ""
