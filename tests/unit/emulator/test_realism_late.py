"""What AWS's habits show late, the limits, and what is new or expires."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pik.emulator.realism import Realism, RealismSettings, limits
from pik.emulator.realism.dice import Tally
from pik.emulator.realism.lifecycle import Lifecycle
from tests.unit.emulator.rig import Rig, ok, parsed


def counts(rig: Rig) -> str:
    answer = rig.target("AmazonSQS.GetQueueAttributes", QueueUrl="http://x/000000000000/q", AttributeNames=["All"])
    assert answer
    return str(answer.json()["Attributes"]["ApproximateNumberOfMessages"])


def test_a_queues_counts_are_of_the_last_minute() -> None:
    rig = Rig("queue-counts")
    rig.respond = lambda call: ok(
        {"Attributes": {"ApproximateNumberOfMessages": str(rig.world.counts["000000000000/q"][0]), "QueueArn": "a"}}
    )
    rig.world.counts["000000000000/q"] = (0, 0, 0)
    rig.realism.tick()
    rig.now += 100
    rig.world.counts["000000000000/q"] = (20, 0, 0)
    rig.realism.tick()

    assert {counts(rig) for _ in range(20)} == {"0"}
    rig.now += 30
    assert {counts(rig) for _ in range(50)} == {"0", "20"}
    rig.now += 31
    assert {counts(rig) for _ in range(20)} == {"20"}
    assert rig.struck["queue-counts"] > 20


def put(rig: Rig, number: int) -> dict[str, Any]:
    item = {"PK": {"S": "e"}, "SK": {"S": str(number)}}
    condition = "attribute_not_exists(SK)"
    entry = {"Put": {"TableName": "events", "Item": item, "ConditionExpression": condition}}
    rig.target("DynamoDB_20120810.TransactWriteItems", TransactItems=[entry])
    return item


def test_an_index_shows_a_new_item_within_two_seconds_and_the_table_at_once() -> None:
    rig = Rig("index-lag")
    items = [put(rig, number) for number in range(20)]
    rig.respond = lambda call: ok({"Items": items, "Count": 20, "ScannedCount": 20})

    def read(**more: Any) -> int:
        answer = rig.target("DynamoDB_20120810.Query", TableName="events", **more)
        assert answer
        document = answer.json()
        assert document["Count"] == len(document["Items"])
        return int(document["Count"])

    assert read() == 20
    first = read(IndexName="by-source")
    assert first < 20
    rig.now += 1
    second = read(IndexName="by-source")
    assert first < second < 20
    rig.now += 1
    assert read(IndexName="by-source") == 20


@pytest.mark.parametrize("habit", ["late-metrics", "late-logs"])
def test_what_arrives_late_arrives_in_order_and_at_the_end_all_of_it(habit: str) -> None:
    rig = Rig(habit, compress=10)
    late = rig.realism.late(habit)
    assert late
    low, high = {"late-metrics": (6, 18), "late-logs": (0.5, 2)}[habit]
    arrived: list[int] = []
    for number in range(3):
        late.put("one", lambda number=number: arrived.append(number))  # type: ignore[misc]
        rig.now += 0.1
    assert low <= late.delay("one") <= high
    rig.now += late.delay("one") - 0.25
    rig.realism.tick()
    assert arrived == [0]
    rig.now += 0.12
    rig.realism.tick()
    assert arrived == [0, 1]
    rig.realism.flush()
    assert arrived == [0, 1, 2]
    assert rig.struck == {habit: 3}


def test_a_body_that_lambda_cannot_take_is_refused_by_the_api() -> None:
    rig = Rig("lambda-limits")

    def post(size: int) -> int:
        answer = rig.call("POST", "/restapis/abc/local/_user_request_/ingest", {}, b"x" * size)
        assert answer
        return answer.status

    assert post(4_500_000) == 200
    assert len(base64.b64encode(b"x" * 4_800_000)) > limits.REQUEST_BYTES
    assert post(4_800_000) == 413
    large = rig.signed("lambda", "POST", "/2015-03-31/functions/f/invocations", b"x" * 6_300_000)
    assert parsed("lambda", "Invoke", large)["Error"]["Code"] == "RequestTooLargeException"


def test_a_fresh_api_is_not_everywhere_yet() -> None:
    rig = Rig("fresh-apis")
    rig.world.api_ids = {"old"}
    rig.realism = Realism(rig.settings, rig.world, lambda: rig.now)
    rig.app = rig.realism.middleware(rig._serve, rig.cut.append)
    rig.world.api_ids = {"old", "new"}  # and no tick has seen it yet

    def statuses(api: str) -> set[int]:
        answers = [rig.call("POST", f"/restapis/{api}/local/_user_request_/ingest", {}, b"{}") for _ in range(50)]
        return {answer.status for answer in answers if answer}

    assert statuses("new") == {403, 500}
    assert statuses("old") == {200}
    rig.now += 15
    assert statuses("new") == {200}


class FakeS3:
    """A bucket with two objects and a rule."""

    class exceptions:  # noqa: N801  (as boto3 has it)
        ClientError = ClientError

    def __init__(self, rule: dict[str, Any], **objects: datetime) -> None:
        self.rule, self.objects = rule, objects

    def list_buckets(self) -> dict[str, Any]:
        return {"Buckets": [{"Name": "b"}]}

    def get_bucket_lifecycle_configuration(self, Bucket: str) -> dict[str, Any]:  # noqa: N803
        return {"Rules": [self.rule]}

    def get_paginator(self, name: str) -> FakeS3:
        return self

    def paginate(self, **asked: str) -> list[dict[str, Any]]:
        found = [
            {"Key": key, "LastModified": at} for key, at in self.objects.items() if key.startswith(asked["Prefix"])
        ]
        return [{"Contents": found}]

    def delete_object(self, Bucket: str, Key: str) -> None:  # noqa: N803
        del self.objects[Key]


@pytest.mark.parametrize(
    ("rule", "left"),
    [
        ({"Status": "Enabled", "Filter": {"Prefix": "raw"}, "Expiration": {"Days": 3}}, {"raw_new", "other_old"}),
        ({"Status": "Enabled", "Filter": {}, "Expiration": {"Days": 3}}, {"raw_new"}),
        ({"Status": "Disabled", "Filter": {}, "Expiration": {"Days": 3}}, {"raw_new", "raw_old", "other_old"}),
        (
            {"Status": "Enabled", "Filter": {"Tag": {"Key": "a", "Value": "b"}}, "Expiration": {"Days": 3}},
            {"raw_new", "raw_old", "other_old"},
        ),
        ({"Status": "Enabled", "Filter": {}}, {"raw_new", "raw_old", "other_old"}),
    ],
)
def test_s3_deletes_what_a_rule_lets_expire(rule: dict[str, Any], left: set[str]) -> None:
    now = datetime(2026, 1, 10, 12, tzinfo=UTC)
    s3 = FakeS3(rule, raw_new=now - timedelta(days=3), raw_old=now - timedelta(days=4), other_old=now - timedelta(30))
    tally = Tally()

    Lifecycle(RealismSettings(1), tally, lambda: iter([s3])).sweep(now)

    assert s3.objects.keys() == left
    assert tally.counts().get("lifecycle", 0) == 3 - len(left)
