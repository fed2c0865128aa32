"""Stores that are compared and rebuilt while producers send: what is only on its way is not named, or made an event."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from pik import clock, events
from pik.pipeline import ingest
from pik.pipeline.http import Request
from pik.pipeline.parsing import parse_event
from pik.pipeline.rows import Arrival
from pik.pipeline.settings import Settings
from pik.pipeline.stores import Stores
from pik.workbench import Workbench, replays
from pik.workbench.consistency import reconcile, reindex, snapshot
from pik.workbench.consistency.reindex import Reindexed
from tests.unit.moto_workbench import ingested, replayed, workbench
from tests.unit.world import World

Ask = Callable[..., dict[str, Any]]
MONTH = ("2025-01-01", "2025-02-01")


def body(day: int = 3, **more: Any) -> dict[str, Any]:
    event = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": f"2025-01-{day:02d}T10:00:00Z"}
    return {**event, "payload": {"n": 1}, **more}


@pytest.fixture
def send(deployed: Settings, request_of: Ask) -> Callable[[Any], dict[str, Any]]:
    """Ingest a body; return the answer."""

    def sent(what: Any) -> dict[str, Any]:
        answer = ingest.ingest(Request.of(request_of(what)), deployed)
        return {"status_code": answer["statusCode"], **json.loads(answer["body"])}

    return sent


@pytest.fixture
def wb(deployed: Settings, monkeypatch: pytest.MonkeyPatch) -> Workbench:
    """The workbench over the stores of the test."""
    monkeypatch.setattr(snapshot, "retention_days", lambda _: 365)
    return workbench(deployed)


@pytest.fixture
def strays(send: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Eight events at once with one key, on the days 3 to 10; the days that were answered with a conflict."""
    looked = set[str]()

    def known(stores: Stores, event_id: str, look: Any = Stores.known) -> Any:
        first = request not in looked  # every request looks before the first one has written
        looked.add(request)
        return None if first else look(stores, event_id)

    answers = []
    with monkeypatch.context() as patch:
        patch.setattr(Stores, "known", known)
        for day in range(3, 11):
            request = f"day {day}"
            answers.append(send(body(day, idempotency_key="k")))
    assert [answer["status"] for answer in answers] == ["ACCEPTED"] + ["CONFLICT"] * 7
    assert [answer["status_code"] for answer in answers] == [200] + [409] * 7
    return [f"2025-01-{day:02d}" for day in range(4, 11)]


def accepted(world: World) -> list[str]:
    return [row["SK"] for row in world.table("events") if row["status"] == "ACCEPTED"]


def next_day(day: str) -> str:
    return f"{day[:8]}{int(day[8:]) + 1:02d}"


def test_strays_are_told_and_are_no_disagreement(wb: Workbench, strays: list[str], world: World) -> None:
    assert len(world.objects("raw/")) == 8

    for window in (MONTH, *((day, next_day(day)) for day in strays[:2])):
        found = wb.reconcile(*window)
        assert found.counts == {"stray": 7 if window == MONTH else 1}
        assert found.clean
        assert {item["remedy"] for item in found.found} == {"none: keep it"}
        assert "All stores agree" in found.sentences[0]
        assert "stray: none" in found.sentences[1]


@pytest.mark.parametrize("lost", [(), ("dedupe",), ("dedupe", "events")])
def test_a_conflict_never_becomes_an_accepted_event(
    wb: Workbench, strays: list[str], world: World, lost: tuple[str, ...]
) -> None:
    before = world.table("events"), world.table("dedupe")
    for table, key in (("dedupe", ("event_id",)), ("events", ("PK", "SK"))):
        for row in world.table(table) if table in lost else ():
            boto3.client("dynamodb").delete_item(TableName=table, Key={name: {"S": row[name]} for name in key})

    for day in strays[:3]:
        alone = reindex.reindex(wb, day, next_day(day), apply=True)
        assert (alone.events, alone.dedupe, alone.written) == ([], [], 0)
    reindex.reindex(wb, *MONTH, apply=True)

    assert (world.table("events"), world.table("dedupe")) == before


def test_of_objects_that_no_row_and_no_conflict_tells_apart_none_becomes_the_event(
    wb: Workbench, send: Callable[[Any], Any], world: World
) -> None:
    """A request that stored its object and got no further leaves no conflict."""
    first = send(body(9, idempotency_key="k"))
    store(body(4, idempotency_key="k"))

    # The row of the first one stands on another day: it decides also where the dedupe row is lost.
    boto3.client("dynamodb").delete_item(TableName="dedupe", Key={"event_id": {"S": first["event_id"]}})
    assert reindex.reindex(wb, "2025-01-04", "2025-01-05", apply=True).written == 0
    (row,) = world.table("events")
    boto3.client("dynamodb").delete_item(TableName="events", Key={name: {"S": row[name]} for name in ("PK", "SK")})

    assert wb.reconcile(*MONTH).counts == {"orphan_raw": 2}
    found = reindex.reindex(wb, *MONTH, apply=True)
    assert (found.written, sorted(found.skipped)) == (0, sorted(world.objects("raw/")))
    assert all("no row says" in why for why in found.skipped.values())

    assert send(body(9, idempotency_key="k"))["status"] == "DUPLICATE"  # and not a conflict with the other one
    assert accepted(world) == [row["SK"]]
    assert wb.reconcile(*MONTH).counts == {"stray": 1}


def test_rows_are_not_written_where_another_first_arrival_was_since_the_reading(
    wb: Workbench, send: Callable[[Any], Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = send(body(3, idempotency_key="k"))
    for table, key in (("dedupe", ("event_id",)), ("events", ("PK", "SK"))):
        (row,) = world.table(table)
        boto3.client("dynamodb").delete_item(TableName=table, Key={name: {"S": row[name]} for name in key})
    take = snapshot.take

    def meanwhile(*args: Any) -> Any:
        seen = take(*args)
        assert send(body(7, idempotency_key="k"))["event_id"] == told["event_id"]
        return seen

    monkeypatch.setattr(reindex, "take", meanwhile)
    assert reindex.reindex(wb, "2025-01-03", "2025-01-04", apply=True).written == 0
    assert len(accepted(world)) == 1


@pytest.mark.parametrize("table", ["EventsTable", "DedupeTable", "objects"])
@pytest.mark.parametrize("what", ["new", "again", "conflict"])
def test_what_is_ingested_while_the_stores_are_read_is_not_named(
    wb: Workbench, send: Callable[[Any], Any], table: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(body(3, idempotency_key="a"))
    later = {"new": {"entity_id": "new"}, "again": {"idempotency_key": "a"}}.get(
        what, {"idempotency_key": "a", "payload": {"n": 2}}
    )
    scan, objects = snapshot.scan, snapshot._objects

    def after(name: str, *args: Any) -> Any:
        found = scan(*args) if name != "objects" else list(objects(*args))
        if name == table:
            send(body(3, **later))
        return found

    monkeypatch.setattr(snapshot, "scan", lambda wb, name, *args: after(name, wb, name, *args))
    monkeypatch.setattr(snapshot, "_objects", lambda *args: after("objects", *args))
    assert wb.reconcile(*MONTH).counts == {}


def test_what_is_older_than_the_reading_and_written_between_is_looked_at_again(
    wb: Workbench, send: Callable[[Any], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that is behind ours, or a slow request: its times are older than the beginning."""
    scan, now = snapshot.scan, "2026-01-01T00:00:00.000000Z"

    def between(wb: Workbench, name: str, *args: Any) -> Any:
        found = scan(wb, name, *args)
        if name == "EventsTable":
            monkeypatch.setattr("pik.events.now", lambda: now)
            send(body(3))
        return found

    monkeypatch.setattr(snapshot, "scan", between)
    assert wb.reconcile(*MONTH).counts == {}


def test_what_expires_while_the_stores_are_read_is_not_named_when_our_clock_is_behind(
    wb: Workbench, send: Callable[[Any], Any], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AWS deletes a conflict's body by its own clock; by ours, its row has still four minutes."""
    send(body(3, idempotency_key="k"))
    conflict = send(body(3, idempotency_key="k", payload={"n": 2}))
    (ends,) = {int(row["expires_at"]) for row in world.table("events")}
    times = iter([ends - 30])
    monkeypatch.setattr(clock, "now", lambda _: datetime.fromtimestamp(next(times, ends + 10), UTC))
    monkeypatch.setattr("pik.events.now", lambda: events.format_time(datetime.fromtimestamp(ends - 240, UTC)))
    find = snapshot._objects

    def deleted(*args: Any) -> Any:
        boto3.client("s3").delete_object(Bucket="raw", Key=conflict["s3_key"])
        return find(*args)

    monkeypatch.setattr(snapshot, "_objects", deleted)
    assert wb.reconcile(*MONTH).counts == {}


def store(what: dict[str, Any]) -> str:
    """Store a body as ingest does, and no rows; return its key."""
    raw = json.dumps(what).encode()
    arrival = Arrival.of(raw, {}, ingest_time="2026-11-01T00:00:00.000000Z", request_id="r", producer="ana")
    key = events.raw_key(parse_event(raw, {}))
    boto3.client("s3").put_object(
        Bucket="raw", Key=key, Body=raw, Metadata=arrival.to_metadata(), ContentType=arrival.content_type
    )
    return key


def test_an_object_that_cannot_become_rows_is_skipped_and_the_rest_is_written(wb: Workbench, world: World) -> None:
    long = store(body(3, event_time=f"2025-01-03T10:00:00.{'1' * 450_000}Z"))
    store(body(4))
    store(body(5))

    done: Reindexed = reindex.reindex(wb, *MONTH, apply=True)

    assert done.written == 4
    ((key, why),) = done.skipped.items()
    assert key == long
    assert "DynamoDB takes 409,600" in why
    assert "left alone" in done.to_text()
    assert wb.reconcile(*MONTH).counts == {"unusable_raw": 1}
    assert len(accepted(world)) == 2


def test_an_object_whose_record_of_the_arrival_is_no_record_is_named(wb: Workbench, world: World) -> None:
    key = "raw/source=s/event_type=t/event_date=2025-01-03/hour=10/event_id=ab.json"
    metadata = {"ingest-time": "yesterday", "request-id": "r", "body-sha256": "0"}
    boto3.client("s3").put_object(Bucket="raw", Key=key, Body=b"{}", Metadata=metadata)

    assert wb.reconcile(*MONTH).counts == {"hash_mismatch": 1}
    assert list(reindex.reindex(wb, *MONTH, apply=True).skipped) == [key]


@pytest.mark.parametrize(("further", "named"), [({}, True), ({"limit": 1}, False), ({"limit": 9}, False)])
def test_a_replay_that_is_under_way_did_not_stop_halfway(
    wb: Workbench, deployed: Settings, request_of: Ask, monkeypatch: pytest.MonkeyPatch, further: Any, named: bool
) -> None:
    ingested(deployed, request_of, 4)
    cursor = json.loads(replayed(deployed, request_of, "rp-1", limit=1)["body"])["cursor"]
    known = replays.known

    def later(wb: Workbench, **options: Any) -> Any:
        if options and further:  # the second look
            replayed(deployed, request_of, "rp-1", cursor=cursor, **further)
        return known(wb, **options)

    monkeypatch.setattr(replays, "known", later)
    assert wb.reconcile(*MONTH).counts == {}  # a request that is under way is not recorded yet
    monkeypatch.setattr(clock, "lateness", lambda _: 0.0)
    assert wb.reconcile(*MONTH).counts == ({"half_replay": 1} if named else {})


@pytest.mark.parametrize("redriven", [True, False])
def test_an_aggregate_is_called_partial_once_the_count_of_the_queue_knows_of_a_redrive(
    wb: Workbench, deployed: Settings, request_of: Ask, monkeypatch: pytest.MonkeyPatch, redriven: bool
) -> None:
    """SQS's counts may take a minute; meanwhile the queue seems empty, and the aggregate lacks what waits in it."""
    ingested(deployed, request_of, 2)
    replayed(deployed, request_of, "rp-1")
    counts, slept = iter([0, 2 if redriven else 0]), list[float]()
    monkeypatch.setattr(reconcile, "messages", lambda *_: next(counts))
    monkeypatch.setattr(reconcile, "SETTLED", timedelta(minutes=-1))
    monkeypatch.setattr("time.sleep", slept.append)
    assert wb.reconcile(*MONTH).counts == ({} if redriven else {"aggregate_partial": 1})
    assert slept == [90.0]
