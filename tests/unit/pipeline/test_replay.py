"""Replay: the whole window, nothing but the window, and never silently part of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.exceptions import ClientError

from pik import events
from pik.pipeline import aws, ingest, queue, replay
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.replays.records import Replay
from tests.unit.world import World

WINDOW = {"entity_id": "e", "start_time": "2025-01-01T00:00:00Z", "end_time": "2025-01-02T00:00:00Z"}
Ask = Callable[..., dict[str, Any]]


@pytest.fixture
def fill(deployed: Settings, request_of: Callable[..., Any]) -> Callable[..., list[str]]:
    """Ingest one event for each time given; return the event ids."""

    def call(*times: str, entity: str = "e", **more: Any) -> list[str]:
        made = []
        for number, time in enumerate(times):
            body = {"source": "s", "event_type": "t", "entity_id": entity, "event_time": time, "payload": {"n": number}}
            answer = ingest.ingest(Request.of(request_of({**body, **more})), deployed)
            made.append(str(json.loads(answer["body"])["event_id"]))
        return made

    return call


@pytest.fixture
def ask(deployed: Settings, request_of: Callable[..., Any]) -> Ask:
    """Send one replay request through the handler; return the answer with its status code as ``http``."""

    class Context:
        function_name = "replay"
        memory_limit_in_mb = 128
        invoked_function_arn = "arn:aws:lambda:us-east-1:1:function:replay"
        aws_request_id = "lambda-1"
        remaining = 29_000

        def get_remaining_time_in_millis(self) -> int:
            return self.remaining

    def call(body: Any = None, *, config: Settings = deployed, remaining: int = 29_000, **query: str) -> dict[str, Any]:
        context = Context()
        context.remaining = remaining
        with patch.object(replay, "settings", lambda: config):
            found = replay.handler(request_of(WINDOW if body is None else body, **query), context)
        return {"http": found["statusCode"], **json.loads(found["body"])}

    return call


def sent(world: World) -> list[str]:
    return [json.loads(message["Body"])["event_id"] for message in world.messages(world.config.queue_url)]


def recorded(world: World) -> list[dict[str, Any]]:
    """Return what the replays table records of replays, without the rows that name an entity's replays."""
    return [row for row in world.table("replays") if not row["PK"].startswith("REPLAYS#")]


def test_the_window_includes_its_start_and_leaves_its_end_out(fill: Any, ask: Ask, world: World) -> None:
    inside = fill("2025-01-01T00:00:00Z", "2025-01-01T12:00:00.5Z", "2025-01-01T23:59:59.999999Z")
    fill("2024-12-31T23:59:59.999999Z", "2025-01-02T00:00:00Z")
    fill("2025-01-01T06:00:00Z", entity="e2")
    answer = ask()
    assert (answer["http"], answer["sent"], answer["matched"], answer["complete"]) == (200, 3, 3, True)
    assert answer["cursor"] is None
    assert sorted(sent(world)) == sorted(inside)


def test_messages_refer_to_raw_objects_and_carry_their_hash(fill: Any, ask: Ask, world: World) -> None:
    fill("2025-01-01T00:00:00Z")
    answer = ask()
    (message,) = world.messages(world.config.queue_url)
    body, (row,) = json.loads(message["Body"]), world.table("events")
    assert body == {
        "v": 1,
        "replay_id": answer["replay_id"],
        "s3_bucket": "raw",
        **{name: row[name] for name in queue.MESSAGE_FIELDS},
    }


def test_windows_of_any_offset_and_precision_select_by_time_not_by_text(fill: Any, ask: Ask) -> None:
    fill("2025-01-01T00:00:00.5Z", "2025-01-01T00:00:00Z", "2025-01-01T01:00:00+01:00")
    window = {"start_time": "2025-01-01T01:00:00+01:00", "end_time": "2025-01-01T00:00:00.5Z"}
    assert ask({**WINDOW, **window})["matched"] == 2


def test_every_page_is_read(deployed: Settings, ask: Ask, world: World) -> None:
    """DynamoDB answers at most 1 MB a page; Limit stands in for it."""
    table = boto3.client("dynamodb")
    for number in range(57):
        time = f"2025-01-01T00:00:00.{number:06d}Z"
        row = {"PK": "ENTITY#e", "SK": f"TS#{time}#EID#{number:02d}", "status": "ACCEPTED", "event_id": f"{number:02d}"}
        row |= {"source": "s", "event_type": "t", "event_time": time, "s3_key": "k", "payload_sha256": "h"}
        table.put_item(TableName="events", Item=aws.to_item({**row, "expires_at": 2**40}))
    client = aws.client("dynamodb")
    real, pages = client.query, []

    def paged(**query: Any) -> Any:
        pages.append(query)
        return real(**query, Limit=5)

    with patch.object(client, "query", paged):
        answer = ask()
    assert len(pages) == 12
    assert (answer["scanned"], answer["sent"], answer["complete"]) == (57, 57, True)
    assert sorted(sent(world)) == [f"{number:02d}" for number in range(57)]


@pytest.mark.parametrize("limit", [1, 3, 7, 10, 25, 26])
def test_a_limit_counts_matches_and_cursors_lead_to_the_rest(fill: Any, ask: Ask, world: World, limit: int) -> None:
    times = [f"2025-01-01T00:00:{second:02d}Z" for second in range(25)]
    ids = fill(*times)
    fill(*times)  # duplicates must not use the limit up
    found, cursor, replays = [], None, set()
    for _ in range(30):
        answer = ask({**WINDOW, "limit": limit, **({"cursor": cursor} if cursor else {})})
        assert answer["sent"] <= limit
        replays.add(answer["replay_id"])
        found += sent(world)
        cursor = answer["cursor"]
        assert answer["complete"] == (cursor is None)
        if cursor is None:
            break
    assert sorted(found) == sorted(ids)
    assert len(replays) == 1


def test_duplicates_only_when_asked_for_and_conflicts_never(fill: Any, ask: Ask, world: World) -> None:
    for number in range(3):
        fill("2025-01-01T00:00:00Z", idempotency_key="k")
        fill("2025-01-01T00:00:00Z", idempotency_key="k", payload={"other": number})
    assert (ask()["matched"], ask()["scanned"]) == (1, 6)
    answer = ask({**WINDOW, "include_duplicates": True})
    assert (answer["sent"], answer["include_duplicates"]) == (3, True)


@pytest.mark.parametrize("by", ["body", "query", "deployment"])
def test_a_dry_run_counts_what_would_be_sent_and_leaves_no_trace(
    by: str, fill: Any, ask: Ask, world: World, deployed: Settings
) -> None:
    fill("2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z")
    body = {**WINDOW, **({"dry_run": True} if by == "body" else {})}
    query = {"dry_run": "true"} if by == "query" else {}
    answer = ask(body, config=replace(deployed, dry_run=by == "deployment"), **query)
    assert (answer["dry_run"], answer["matched"], answer["sent"]) == (True, 2, 0)
    assert sent(world) == []
    assert world.table("replays") == []


def test_what_the_queue_did_not_take_is_retried_and_never_counted(fill: Any, ask: Ask, world: World) -> None:
    ids = fill(*[f"2025-01-01T00:00:{second:02d}Z" for second in range(12)])
    client = aws.client("sqs")
    real, calls = client.send_message_batch, []

    def partial(QueueUrl: str, Entries: list[Any]) -> Any:  # noqa: N803 - boto3's names
        calls.append(Entries)
        if len(calls) == 1:
            result = real(QueueUrl=QueueUrl, Entries=Entries[:7])
            return {**result, "Failed": [{"Id": entry["Id"], "Code": "InternalError"} for entry in Entries[7:]]}
        return real(QueueUrl=QueueUrl, Entries=Entries)

    with patch.object(client, "send_message_batch", partial):
        answer = ask()
    assert [len(entries) for entries in calls] == [10, 3, 2]
    assert (answer["http"], answer["sent"]) == (200, 12)
    assert sorted(sent(world)) == sorted(ids)


def test_when_the_queue_refuses_for_good_the_answer_says_how_far_it_got(fill: Any, ask: Ask, world: World) -> None:
    ids = fill(*[f"2025-01-01T00:00:{second:02d}Z" for second in range(15)])
    client = aws.client("sqs")
    real, calls = client.send_message_batch, []

    def refuse(QueueUrl: str, Entries: list[Any]) -> Any:  # noqa: N803
        calls.append(Entries)
        if len(calls) > 1:
            return {"Failed": [{"Id": entry["Id"], "Code": "InternalError"} for entry in Entries]}
        return real(QueueUrl=QueueUrl, Entries=Entries)

    with patch.object(client, "send_message_batch", refuse), patch("time.sleep"):
        answer = ask()
    assert (answer["http"], answer["code"], answer["sent"], answer["complete"]) == (503, "queue_unavailable", 10, False)
    rest = ask({**WINDOW, "cursor": answer["cursor"]})
    assert (rest["sent"], rest["complete"]) == (5, True)
    assert sorted(sent(world)) == sorted(ids)


@pytest.mark.parametrize("operation", ["query", "put_item"])
def test_a_store_that_fails_half_way_does_not_start_another_replay(
    fill: Any, ask: Ask, world: World, operation: str
) -> None:
    ids = fill(*[f"2025-01-01T00:00:{second:02d}Z" for second in range(25)])
    client = aws.client("dynamodb")
    real, calls = getattr(client, operation), []

    def fail(**call: Any) -> Any:
        calls.append(call)
        if len(calls) > 1:
            raise ClientError({"Error": {"Code": "InternalServerError"}}, operation)
        return real(**call, **({"Limit": 20} if operation == "query" else {}))

    with patch.object(client, operation, fail):
        first = ask()
    assert (first["http"], first["code"]) == (503, "store_unavailable")
    assert "replay_id" in first["do_this"]
    rest = ask({**WINDOW, "replay_id": first["replay_id"], "cursor": first["cursor"]})
    assert (rest["http"], rest["complete"], rest["replay_id"]) == (200, True, first["replay_id"])
    assert set(sent(world)) == set(ids)
    head, *pages = recorded(world)
    assert {row["PK"] for row in pages} == {head["PK"]}
    assert sum(page["matched"] for page in pages) == sum(page["days"]["2025-01-01"] for page in pages) == 25


def test_a_repeat_with_a_smaller_limit_does_not_break_the_chain_of_requests(fill: Any, ask: Ask, world: World) -> None:
    fill(*[f"2025-01-01T00:00:{second:02d}Z" for second in range(25)])
    named = {**WINDOW, "replay_id": "rp-1"}
    far = ask({**named, "limit": 20})
    again = ask({**named, "limit": 5})
    assert again["cursor"] == far["cursor"]
    assert ask({**named, "cursor": again["cursor"]})["complete"]
    _, *pages = recorded(world)
    assert sum(page["days"]["2025-01-01"] for page in pages) == 25


def test_a_repeat_that_comes_further_does_not_move_what_others_went_on_from(fill: Any, ask: Ask, world: World) -> None:
    fill(*[f"2025-01-01T00:00:0{second}Z" for second in range(5)])
    named = {**WINDOW, "replay_id": "rp-1"}
    cursor = ask({**named, "limit": 2})["cursor"]
    assert ask({**named, "cursor": cursor})["complete"]
    assert ask({**named, "limit": 3})["cursor"] == cursor
    head, *pages = recorded(world)
    assert Replay("rp-1", head, {page["SK"].removeprefix("PAGE#"): page for page in pages}).complete


def test_the_end_of_a_replay_is_recorded_although_nothing_was_left_to_send(fill: Any, ask: Ask, world: World) -> None:
    client = aws.client("dynamodb")
    real, failed = client.put_item, list[Any]()

    def fail(**call: Any) -> Any:
        if "#next" in call.get("ConditionExpression", "") and not failed:
            failed.append(call)
            raise ClientError({"Error": {"Code": "InternalServerError"}}, "PutItem")
        return real(**call)

    with patch.object(client, "put_item", fail):
        answer = ask({**WINDOW, "replay_id": "rp-1"})
    assert (answer["http"], answer["complete"]) == (503, True)
    _, page = recorded(world)
    assert page["complete"] is True


def test_what_arrived_before_a_request_was_repeated_is_written_down_as_well(fill: Any, ask: Ask, world: World) -> None:
    named = {**WINDOW, "replay_id": "rp-1"}
    fill("2025-01-01T00:00:00Z", "2025-01-01T00:00:02Z")
    ask(named)
    fill("2025-01-01T00:00:01Z")
    assert ask(named)["sent"] == 3
    _, page = recorded(world)
    assert (page["complete"], page["days"]) == (True, {"2025-01-01": 3})


def test_when_time_runs_out_the_answer_is_partial_and_says_so(fill: Any, ask: Ask) -> None:
    fill(*[f"2025-01-01T00:00:{second:02d}Z" for second in range(25)])
    answer = ask(remaining=1_000)
    assert (answer["sent"], answer["complete"]) == (10, False)
    assert ask({**WINDOW, "cursor": answer["cursor"]})["sent"] == 15


def test_expired_rows_are_not_replayed(fill: Any, ask: Ask) -> None:
    fill("2025-01-01T00:00:00Z")
    with patch.object(events, "now", lambda: "2099-01-01T00:00:00.000000Z"):
        answer = ask()
    assert (answer["scanned"], answer["matched"]) == (1, 0)


def test_a_replay_is_written_down_before_and_after_it_is_sent(fill: Any, ask: Ask, world: World) -> None:
    fill("2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z")
    answer = ask({**WINDOW, "replay_id": "rp-1", "limit": 1})
    ask({**WINDOW, "cursor": answer["cursor"]})
    head, *pages = recorded(world)
    assert (head["SK"], head["replay_id"], head["requested_by"]) == ("HEAD", "rp-1", "arn:aws:iam::1:user/ana")
    (index,) = (row for row in world.table("replays") if row not in [head, *pages])
    assert (index["PK"], index["SK"]) == (events.entity_replays_pk("e"), head["PK"])
    by_key = {page["SK"]: page for page in pages}
    start = by_key["PAGE#START"]
    rest = by_key[f"PAGE#{start['next']}"]
    assert (start["complete"], rest["complete"]) == (False, True)
    assert start["days"] == rest["days"] == {"2025-01-01": 1}


def test_a_replay_id_stands_for_one_selection(fill: Any, ask: Ask) -> None:
    assert ask({**WINDOW, "replay_id": "rp-1"})["http"] == 200
    assert ask({**WINDOW, "replay_id": "rp-1"})["http"] == 200  # the same again is a retry
    answer = ask({**WINDOW, "replay_id": "rp-1", "end_time": "2025-01-03T00:00:00Z"})
    assert (answer["http"], answer["code"]) == (409, "replay_id_taken")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"entity_id": ""}, "bad_entity_id"),
        ({"entity_id": 5}, "bad_entity_id"),
        ({"start_time": "soon"}, "bad_time"),
        ({"start_time": None}, "bad_start_time"),
        ({"end_time": "2025-01-01T00:00:00Z"}, "empty_window"),
        ({"limit": 0}, "bad_limit"),
        ({"limit": True}, "bad_limit"),
        ({"dry_run": "yes"}, "bad_dry_run"),
        ({"replay_id": "a b"}, "bad_replay_id"),
        ({"cursor": "???"}, "bad_cursor"),
        ({"cursor": 5}, "bad_cursor"),
        ({"entity_id": "\ud800"}, "bad_entity_id"),
        ({"start_time": "2025-01-01T00:00:59.9999995Z"}, "bad_time"),
        ({"replay_id": ".."}, "bad_replay_id"),
        ({"x" * 4_000_000: 1}, "unknown_field"),
        ({"entity": "e"}, "unknown_field"),
    ],
)
def test_bad_requests_are_refused_with_a_next_step(ask: Ask, change: dict[str, Any], code: str) -> None:
    answer = ask({**WINDOW, **change})
    assert (answer["http"], answer["code"]) == (400, code)
    assert answer["do_this"]


SK = f"TS#2025-01-01T00:00:00.000000Z#EID#{'a' * 64}"


@pytest.mark.parametrize(
    "change",
    [
        lambda digest, _, after: [digest, "<img src=x onerror=alert(1)>", after],
        lambda digest, _, after: [digest, "", after],
        lambda digest, _, after: [digest, "../../etc", after],
        lambda digest, _, after: [digest, "x" * 65, after],
        lambda digest, _, after: [digest, 5, after],
        lambda digest, replay_id, _: [digest, replay_id, 5],
        lambda digest, replay_id, _: [digest, replay_id, "HEAD"],
        lambda digest, replay_id, _: [digest, replay_id, "x" * 3000],
        lambda digest, replay_id, _: [digest, replay_id, SK.replace("2025", "2024")],
        lambda digest, replay_id, _: [digest, replay_id, SK.replace("01-01", "01-02")],
        lambda digest, replay_id, _: [digest, replay_id, f"{SK}\ud800"],
        lambda digest, replay_id, after: [digest, replay_id, after, ""],
        lambda digest, replay_id, after: {"digest": digest},
        lambda digest, replay_id, after: [[digest], replay_id, after],
    ],
)
def test_a_cursor_that_we_did_not_write_is_refused(fill: Any, ask: Ask, world: World, change: Any) -> None:
    fill("2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z")
    ours = json.loads(base64.urlsafe_b64decode(ask({**WINDOW, "limit": 1})["cursor"]))
    before = world.table("replays")
    world.messages(world.config.queue_url)
    cursor = base64.urlsafe_b64encode(json.dumps(change(*ours)).encode()).decode()
    answer = ask({**WINDOW, "cursor": cursor})
    assert (answer["http"], answer["code"]) == (400, "bad_cursor")
    assert (world.table("replays"), sent(world)) == (before, [])


def test_a_cursor_nested_deeper_than_python_reads_is_refused(ask: Ask) -> None:
    cursor = base64.urlsafe_b64encode(b"[" * 1_400).decode()
    assert ask({**WINDOW, "cursor": cursor})["code"] == "bad_cursor"
    assert ask({**WINDOW, "cursor": base64.urlsafe_b64encode(b"[" * 100_000).decode()})["code"] == "bad_cursor"


def test_a_cursor_of_another_selection_is_refused(fill: Any, ask: Ask) -> None:
    fill("2025-01-01T00:00:00Z", "2025-01-01T00:00:01Z")
    cursor = ask({**WINDOW, "limit": 1})["cursor"]
    assert ask({**WINDOW, "end_time": "2025-01-03T00:00:00Z", "cursor": cursor})["code"] == "bad_cursor"
    assert ask({**WINDOW, "replay_id": "other", "cursor": cursor})["code"] == "bad_cursor"
