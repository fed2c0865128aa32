"""Processor: exactly once, permanent faults aside with their reason, and nothing consumed by a dry run."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import repeat
from typing import Any
from unittest.mock import patch

import boto3
import pytest
from botocore.exceptions import ClientError

from pik import events
from pik.events import Event
from pik.pipeline import aggregates, aws, ingest, processor, replay
from pik.pipeline.aggregators import AGGREGATORS, DailySummary, fold
from pik.pipeline.http import Request
from pik.pipeline.parsing import parse_event
from pik.pipeline.settings import Settings
from tests.unit.world import World

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def bodies(deployed: Settings, request_of: Callable[..., Any], world: World) -> list[str]:
    """Twelve events of two entities and two days, ingested and replayed: the bodies of their messages."""
    for number in range(12):
        time = f"2025-01-0{1 + number % 2}T00:00:{number:02d}Z"
        body = {"source": "s", "event_type": "t", "entity_id": f"e{number % 3 // 2}", "event_time": time}
        ingest.ingest(Request.of(request_of({**body, "payload": {"n": number + 0.1}})), deployed)
    for entity in ("e0", "e1"):
        window = {"entity_id": entity, "start_time": "2025-01-01T00:00:00Z", "end_time": "2025-02-01T00:00:00Z"}
        replay.replay(Request.of(request_of({**window, "replay_id": "rp"})), deployed, lambda: True)
        replay.replay(Request.of(request_of({**window, "replay_id": f"rp-{entity}"})), deployed, lambda: True)
    found = [message["Body"] for message in world.messages(deployed.queue_url)]
    return [body for body in found if json.loads(body)["replay_id"].startswith("rp-")]


class Counted:
    """A DynamoDB client that counts its calls, and how many items each transaction has."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.made: dict[str, int] = {}
        self.written: list[int] = []

    def __getattr__(self, name: str) -> Any:
        def call(**asked: Any) -> Any:
            self.made[name] = self.made.get(name, 0) + 1
            if "TransactItems" in asked:
                self.written.append(len(asked["TransactItems"]))
            return getattr(self.client, name)(**asked)

        return call


@pytest.fixture
def run(deployed: Settings) -> Run:
    """Give the handler a batch of message bodies."""

    class Context:
        function_name = "processor"
        memory_limit_in_mb = 128
        invoked_function_arn = "arn:aws:lambda:us-east-1:1:function:processor"
        aws_request_id = "lambda-1"

        def __init__(self, remaining: Iterable[int]) -> None:
            self.remaining = iter(remaining)

        def get_remaining_time_in_millis(self) -> int:
            return next(self.remaining)

    def call(
        batch: list[str],
        config: Settings = deployed,
        *,
        received: int = 1,
        remaining: Iterable[int] = repeat(30_000),
        **more: Any,
    ) -> dict[str, Any]:
        attributes = {"ApproximateReceiveCount": str(received)}
        records = [
            {"messageId": f"m{number}", "body": body, "attributes": attributes, "messageAttributes": {}}
            for number, body in enumerate(batch)
        ]
        with patch.object(processor, "settings", lambda: config):
            response: dict[str, Any] = processor.handler({"Records": records, **more}, Context(remaining))
            return response

    return call


def written(world: World) -> dict[tuple[str, str], tuple[Any, int]]:
    rows = [row for row in world.table("aggregates") if row["SK"].startswith("V#")]
    return {(row["entity_id"], row["day"]): (json.loads(row["state"]), int(row["input_count"])) for row in rows}


def recomputed(world: World) -> dict[tuple[str, str], tuple[Any, int]]:
    found: list[Event] = [parse_event(body, {}) for body in world.objects("raw/").values()]
    return fold("daily-summary", found)


@pytest.mark.parametrize("seed", range(3))
def test_redelivery_order_and_batches_change_nothing(run: Run, bodies: list[str], world: World, seed: int) -> None:
    chance = random.Random(seed)
    messages = bodies + chance.choices(bodies, k=20)
    chance.shuffle(messages)
    while messages:
        size = chance.choice((1, 3, 10, len(messages)))
        assert run(messages[:size])["batchItemFailures"] == []
        del messages[:size]
    assert written(world) == recomputed(world)
    assert sum(count for _, count in written(world).values()) == 12


def test_versions_are_replays_and_do_not_touch_each_other(run: Run, bodies: list[str], world: World) -> None:
    run(bodies)
    before = world.table("aggregates")
    run([json.dumps({**json.loads(body), "replay_id": "another"}) for body in bodies])
    after = world.table("aggregates")
    assert [row for row in after if row not in before]
    assert [row for row in before if row not in after] == []


def test_two_workers_adding_to_one_version_lose_nothing(
    run: Run, bodies: list[str], world: World, deployed: Settings
) -> None:
    """Between reading a version and writing it, another worker writes it; every time, for a while."""
    same = [body for body in bodies if json.loads(body)["event_time"].startswith("2025-01-01")]
    first, *others = [body for body in same if json.loads(body)["entity_id"] == "e0"]
    combined = aggregates.Aggregates._combined
    waiting = list(others)

    def raced(self: aggregates.Aggregates, *new: Any) -> Any:
        version = combined(self, *new)
        if waiting:
            other = processor.contribution(waiting.pop(), "other", deployed)
            with patch.object(aggregates.Aggregates, "_combined", combined):
                assert self.add([other])
        return version

    with patch.object(aggregates.Aggregates, "_combined", raced), patch("time.sleep"):
        assert run([first])["batchItemFailures"] == []
    (row,) = [row for row in world.table("aggregates") if row["SK"].startswith("V#")]
    assert row["input_count"] == len(others) + 1


@pytest.mark.parametrize(
    ("damage", "code"),
    [
        (lambda body: "not json", "not_json"),
        (lambda body: "[]", "not_a_replay_message"),
        (lambda body: json.dumps({**json.loads(body), "v": 2}), "not_a_replay_message"),
        (lambda body: json.dumps({**json.loads(body), "s3_key": ""}), "bad_message"),
        (lambda body: json.dumps({**json.loads(body), "s3_bucket": "elsewhere"}), "foreign_bucket"),
        (
            lambda body: json.dumps({**json.loads(body), "s3_key": f"elsewhere/{json.loads(body)['s3_key']}"}),
            "foreign_key",
        ),
        (lambda body: json.dumps({**json.loads(body), "s3_key": "raw/nothing"}), "raw_missing"),
        (lambda body: json.dumps({**json.loads(body), "s3_key": "raw/\x00\uffff"}), "raw_missing"),
        (lambda body: json.dumps({**json.loads(body), "s3_key": "raw/" + "x" * 1021}), "foreign_key"),
        (lambda body: json.dumps({**json.loads(body), "s3_key": "\x1b]52;c;\x07\u202e"}), "foreign_key"),
        (lambda body: json.dumps({**json.loads(body), "s3_key": "raw/\ud800"}), "bad_message"),
        (lambda body: json.dumps({**json.loads(body), "replay_id": "<img src=x onerror=alert(1)>"}), "bad_message"),
        (lambda body: json.dumps({**json.loads(body), "replay_id": "../../etc"}), "bad_message"),
        (lambda body: json.dumps({**json.loads(body), "v": True}), "not_a_replay_message"),
        (lambda body: "[" * 100_000, "not_json"),
        (lambda body: json.dumps({**json.loads(body), "payload_sha256": "0" * 64}), "hash_mismatch"),
        (lambda body: json.dumps({**json.loads(body), "event_id": "0" * 64}), "hash_mismatch"),
    ],
)
def test_poison_goes_to_the_dead_letter_queue_with_its_reason(
    run: Run, bodies: list[str], world: World, damage: Callable[[str], str], code: str
) -> None:
    poison = damage(bodies[0])
    with patch.object(processor.logger, "error") as logged:
        assert run([bodies[1], poison, bodies[2]])["batchItemFailures"] == []
    (dead,) = world.messages(world.config.dead_letter_queue_url)
    attributes = {name: value["StringValue"] for name, value in dead["MessageAttributes"].items()}
    assert dead["Body"] == poison
    assert attributes["pik_code"] == code
    assert attributes["pik_reason"]
    assert attributes["pik_reason"].isprintable()
    assert attributes["pik_message_id"] == "m1"
    assert logged.call_args.kwargs.get("event_id") == (json.loads(poison)["event_id"] if "event_id" in poison else None)
    assert sum(count for _, count in written(world).values()) == 2


def test_an_altered_raw_object_is_poison(run: Run, bodies: list[str], world: World) -> None:
    key = json.loads(bodies[0])["s3_key"]
    kept = boto3.client("s3").get_object(Bucket="raw", Key=key)
    altered = kept["Body"].read().replace(b'"n": ', b'"n": 9')
    boto3.client("s3").put_object(Bucket="raw", Key=key, Body=altered, Metadata=kept["Metadata"])
    run([bodies[0]])
    (dead,) = world.messages(world.config.dead_letter_queue_url)
    assert dead["MessageAttributes"]["pik_code"]["StringValue"] == "hash_mismatch"
    assert written(world) == {}


@pytest.mark.parametrize("operation", ["get_object", "transact_write_items", "get_item", "send_message"])
def test_what_may_succeed_later_goes_back_to_the_queue(
    run: Run, bodies: list[str], world: World, operation: str
) -> None:
    service = {"get_object": "s3", "send_message": "sqs"}.get(operation, "dynamodb")
    batch = [bodies[0]] if operation != "send_message" else ["not json"]
    failure = ClientError({"Error": {"Code": "InternalError"}}, operation)
    with patch.object(aws.client(service), operation, side_effect=failure):
        assert run(batch)["batchItemFailures"] == [{"itemIdentifier": "m0"}]
    assert written(world) == {}
    assert world.messages(world.config.dead_letter_queue_url) == []


def test_what_the_last_receive_cannot_process_goes_aside_with_its_reason(
    run: Run, bodies: list[str], world: World
) -> None:
    failure = ClientError({"Error": {"Code": "InternalError"}}, "GetObject")
    with patch.object(aws.client("s3"), "get_object", side_effect=failure):
        assert run([bodies[0]], received=19)["batchItemFailures"] == [{"itemIdentifier": "m0"}]
        assert run([bodies[0]], received=20)["batchItemFailures"] == []
    (dead,) = world.messages(world.config.dead_letter_queue_url)
    attributes = {name: value["StringValue"] for name, value in dead["MessageAttributes"].items()}
    assert attributes["pik_code"] == "retries_exhausted"
    assert attributes["pik_reason"] == "not processed in 20 receives; the last time: InternalError"
    assert written(world) == {}


def _of_one_version(bodies: list[str]) -> list[str]:
    """Four events of one entity and day."""
    return [body for body in bodies if (_get(body, "entity_id"), _day(body)) == ("e0", "2025-01-01")]


def test_events_of_one_version_share_one_read_and_one_transaction(
    run: Run, bodies: list[str], world: World, deployed: Settings
) -> None:
    calls = Counted(aws.client("dynamodb"))
    with patch.object(aws, "client", lambda service: calls if service == "dynamodb" else boto3.client(service)):
        assert run(bodies)["batchItemFailures"] == []
    versions = len(written(world))
    assert calls.made == {"get_item": versions, "transact_write_items": versions}
    assert written(world) == recomputed(world)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_transaction_takes_no_more_than_its_limit(run: Run, bodies: list[str], world: World, most: int) -> None:
    calls = Counted(aws.client("dynamodb"))
    with (
        patch.object(processor, "MOST_CONTRIBUTIONS", most),
        patch.object(aws, "client", lambda service: calls if service == "dynamodb" else boto3.client(service)),
    ):
        assert run(bodies)["batchItemFailures"] == []
    assert max(calls.written) == most + 1
    assert written(world) == recomputed(world)


def test_the_limit_of_a_transaction_is_that_of_dynamodb() -> None:
    assert aggregates.MOST_CONTRIBUTIONS + 1 == 100


def test_those_counted_before_leave_the_others_to_be_counted(run: Run, bodies: list[str], world: World) -> None:
    same = _of_one_version(bodies)
    run(same[:2])
    with (
        patch("time.sleep"),
        patch.object(processor.metrics, "add_metric", wraps=processor.metrics.add_metric) as metric,
    ):
        assert run([*same, same[3]])["batchItemFailures"] == []
    told = [call.args[0] for call in metric.call_args_list]
    assert (told.count("Counted"), told.count("CountedBefore")) == (len(same) - 2, 3)
    (version,) = [found for found in written(world).items() if found[0] == ("e0", "2025-01-01")]
    assert version == next(found for found in recomputed(world).items() if found[0] == ("e0", "2025-01-01"))


def test_one_event_that_the_aggregator_cannot_add_is_no_others_harm(
    run: Run, bodies: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = _of_one_version(bodies)
    bad, usual = json.loads(same[1])["event_time"], DailySummary()

    class Picky(DailySummary):
        def combine(self, left: Any, right: Any) -> Any:
            if bad in (left["first"], left["last"], right["first"], right["last"]):
                raise ZeroDivisionError
            return usual.combine(left, right)

    monkeypatch.setitem(AGGREGATORS, "daily-summary", Picky())
    run(same[:1])
    answer = run(same[1:])
    assert answer["batchItemFailures"] == [{"itemIdentifier": "m0"}]
    assert written(world)["e0", "2025-01-01"][1] == len(same) - 1


def test_an_event_that_the_aggregator_cannot_read_is_no_others_harm(
    run: Run, bodies: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    same = _of_one_version(bodies)
    bad = json.loads(same[1])["event_time"]

    class Picky(DailySummary):
        def lift(self, event: Event) -> Any:
            if event.event_time == bad:
                raise ZeroDivisionError
            return super().lift(event)

    monkeypatch.setitem(AGGREGATORS, "daily-summary", Picky())
    assert run(same)["batchItemFailures"] == [{"itemIdentifier": "m1"}]
    assert run(same[1:2], received=20)["batchItemFailures"] == []
    (dead,) = world.messages(world.config.dead_letter_queue_url)
    reason = dead["MessageAttributes"]["pik_reason"]["StringValue"]
    assert reason == "not processed in 20 receives; the last time: ZeroDivisionError"
    assert written(world)["e0", "2025-01-01"][1] == len(same) - 1


def test_what_makes_an_aggregate_too_large_goes_aside_and_the_rest_is_counted(
    run: Run, bodies: list[str], world: World
) -> None:
    same = _of_one_version(bodies)
    with patch.object(aggregates, "MAX_STATE", 215):  # of one event, whatever it is; not of two
        assert run(same)["batchItemFailures"] == []
    dead = world.messages(world.config.dead_letter_queue_url)
    assert [one["MessageAttributes"]["pik_code"]["StringValue"] for one in dead] == ["aggregate_too_large"] * len(dead)
    assert len(dead) + written(world)["e0", "2025-01-01"][1] == len(same)
    assert written(world)["e0", "2025-01-01"][1] >= 1


@pytest.mark.parametrize(("begin", "back"), [(30_000, 2), (20_000, 7), (16_000, 11)])
def test_a_slow_store_keeps_no_batch_from_being_counted_bit_by_bit(
    run: Run, bodies: list[str], world: World, begin: int, back: int
) -> None:
    """A second for each message. A function that reads all of them first is out of time, again and again."""
    with patch.object(processor.logger, "error") as failed:
        answer = run(bodies, remaining=range(begin, 0, -1_000))
    left = [f"m{number}" for number in range(len(bodies) - back, len(bodies))]
    assert sorted(one["itemIdentifier"] for one in answer["batchItemFailures"]) == sorted(left)
    assert sum(count for _, count in written(world).values()) == len(bodies) - back
    failed.assert_not_called()  # it is no failure: a canary counts those


def test_whose_turn_never_came_goes_aside_with_the_reason(run: Run, bodies: list[str], world: World) -> None:
    assert run(bodies[:1], received=20, remaining=repeat(9_000))["batchItemFailures"] == []
    (dead,) = world.messages(world.config.dead_letter_queue_url)
    reason = dead["MessageAttributes"]["pik_reason"]["StringValue"]
    assert reason == "not processed in 20 receives; the last time: its turn did not come in time"


def test_the_reserve_is_as_long_as_one_call_may_take() -> None:
    """Like the test of the clients' limits: S3 takes 15 s at most."""
    assert processor.RESERVE >= 15


def test_an_aggregator_that_changes_its_arguments_does_no_harm(
    run: Run, bodies: list[str], world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first transaction is cancelled, as one event is counted already: the others are joined again."""

    class Sloppy(DailySummary):
        def combine(self, left: Any, right: Any) -> Any:
            left["count"] += right["count"]
            return left

    monkeypatch.setitem(AGGREGATORS, "daily-summary", Sloppy())
    same = _of_one_version(bodies)
    run(same[2:3])
    with patch("time.sleep"):
        run(same)
    assert written(world)["e0", "2025-01-01"][0]["count"] == len(same)


def test_an_answer_that_is_lost_leaves_each_event_counted_once(run: Run, bodies: list[str], world: World) -> None:
    """The transaction went through, and its answer did not come: the messages return."""
    same, transact = _of_one_version(bodies), aws.client("dynamodb").transact_write_items

    def lost(**asked: Any) -> Any:
        transact(**asked)
        raise ClientError({"Error": {"Code": "InternalServerError"}}, "TransactWriteItems")

    with patch.object(aws.client("dynamodb"), "transact_write_items", lost):
        assert len(run(same)["batchItemFailures"]) == len(same)
    assert run(same)["batchItemFailures"] == []
    assert written(world)["e0", "2025-01-01"] == recomputed(world)["e0", "2025-01-01"]


def test_an_aggregate_that_fits_no_row_goes_aside_with_its_reason(run: Run, bodies: list[str], world: World) -> None:
    with patch.object(aggregates, "MAX_STATE", 100):
        assert run(bodies[:1])["batchItemFailures"] == []
    (dead,) = world.messages(world.config.dead_letter_queue_url)
    assert dead["MessageAttributes"]["pik_code"]["StringValue"] == "aggregate_too_large"
    assert written(world) == {}


def test_access_denied_is_not_taken_for_a_missing_object(run: Run, bodies: list[str], world: World) -> None:
    failure = ClientError({"Error": {"Code": "AccessDenied"}}, "GetObject")
    with patch.object(aws.client("s3"), "get_object", side_effect=failure):
        assert run([bodies[0]])["batchItemFailures"] == [{"itemIdentifier": "m0"}]
    assert world.messages(world.config.dead_letter_queue_url) == []


@pytest.mark.parametrize("by", ["deployment", "request"])
def test_a_dry_run_predicts_consumes_nothing_and_writes_nothing(
    run: Run, bodies: list[str], world: World, deployed: Settings, by: str
) -> None:
    batch = [*bodies, "not json"]
    more = {"dry_run": True} if by == "request" else {}
    answer = run(batch, replace(deployed, dry_run=by == "deployment"), **more)
    assert [item["itemIdentifier"] for item in answer["batchItemFailures"]] == [f"m{n}" for n in range(len(batch))]
    predicted = {(p["entity_id"], p["day"]): (p["state"], p["input_count"]) for p in answer["predicted"]}
    assert [item["code"] for item in answer["poison"]] == ["not_json"]
    assert world.table("aggregates") == []
    assert world.messages(world.config.dead_letter_queue_url) == []
    run(bodies)
    assert written(world) == predicted == recomputed(world)


def test_a_version_is_not_continued_by_another_aggregator(run: Run, bodies: list[str], world: World) -> None:
    run(bodies[:1])
    key = {name: world.table("aggregates")[-1][name] for name in ("PK", "SK")}
    assert key["SK"].startswith("V#")
    boto3.client("dynamodb").update_item(
        TableName="aggregates",
        Key=aws.to_item(key),
        UpdateExpression="SET aggregator = :other",
        ExpressionAttributeValues={":other": {"S": "other"}},
    )
    before = world.table("aggregates")
    same_day = [body for body in bodies[1:] if events.aggregate_pk(_get(body, "entity_id"), _day(body)) == key["PK"]]
    with patch("time.sleep"):
        assert len(run(same_day[:1])["batchItemFailures"]) == 1
    assert world.table("aggregates") == before


def _get(body: str, name: str) -> str:
    return str(json.loads(body)[name])


def _day(body: str) -> str:
    return _get(body, "event_time")[:10]
