"""Whether the stores are still the same ones, on stores in moto: what a loss looks like, and what is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import boto3
import pytest
from botocore.client import BaseClient
from botocore.exceptions import ClientError

from pik import phases
from pik.aws import stack
from pik.aws.stack import Stack
from pik.environments import Environment
from pik.pipeline import settings
from pik.rollout.checks import intact
from pik.rollout.checks.intact import Comparison
from tests.stack.rehearsal import calls

ENV = Environment("dev", region="us-east-1")
STACK = Stack("pik-dev", "UPDATE_COMPLETE", "", datetime.now(UTC), {**phases.REPLAY.parameters, "RetentionDays": "1"})


@pytest.fixture
def ids(deployed: settings.Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, tuple[str, str]]]:
    """The stack's stores: three tables, a bucket and a queue with something in each."""
    boto3.client("s3").put_bucket_versioning(Bucket="raw", VersioningConfiguration={"Status": "Enabled"})
    found = {
        "EventsTable": ("AWS::DynamoDB::Table", "events"),
        "AggregatesTable": ("AWS::DynamoDB::Table", "aggregates"),
        "RawBucket": ("AWS::S3::Bucket", "raw"),
        "Queue": ("AWS::SQS::Queue", deployed.queue_url),
        "IngestLogGroup": ("AWS::Logs::LogGroup", "/pik/ingest"),
        "IngestFunction": ("AWS::Lambda::Function", "pik-dev-ingest"),
    }
    for table in ("events", "aggregates"):
        for n in range(40):
            put(table, n)
    boto3.client("s3").put_object(Bucket="raw", Key="raw/a.json", Body=b"{}")
    boto3.client("sqs").send_message(QueueUrl=deployed.queue_url, MessageBody="{}")
    monkeypatch.setattr(stack, "typed_resources", lambda _: dict(found))
    yield found
    ENV._clients.clear()


def put(table: str, n: int, **more: Any) -> None:
    item = {"PK": {"S": f"E{n}"}, "SK": {"S": "S"}, **more}
    boto3.client("dynamodb").put_item(TableName=table, Item=item)


def found_after(change: Callable[[], Any]) -> dict[str, Comparison]:
    before = intact.stores(ENV, STACK)
    change()
    return {one.store: one for one in intact.compare(ENV, before)}


def alter_rows() -> None:
    for n in range(40):
        put("events", n, other={"S": "x"})


def delete_rows(table: str) -> None:
    for n in range(40):
        boto3.client("dynamodb").delete_item(TableName=table, Key={"PK": {"S": f"E{n}"}, "SK": {"S": "S"}})


def made_anew() -> None:
    client = boto3.client("dynamodb")
    old = client.describe_table(TableName="events")["Table"]
    client.delete_table(TableName="events")
    client.create_table(
        TableName="events",
        KeySchema=old["KeySchema"],
        AttributeDefinitions=old["AttributeDefinitions"],
        BillingMode="PAY_PER_REQUEST",
    )


def test_stores_that_nobody_touched_are_intact_and_what_is_no_store_is_not_looked_at(ids: dict[str, Any]) -> None:
    found = found_after(lambda: put("events", 99))
    assert set(found) == {"EventsTable", "AggregatesTable", "RawBucket", "Queue", "IngestLogGroup"}
    assert all(one.intact for one in found.values()), found
    assert found["EventsTable"].sampled == intact.SAMPLE
    assert found["RawBucket"].sampled == 1


@pytest.mark.parametrize(
    ("store", "change"),
    [
        ("EventsTable", lambda: delete_rows("events")),
        ("AggregatesTable", lambda: delete_rows("aggregates")),
        ("EventsTable", alter_rows),
        ("EventsTable", made_anew),
        ("EventsTable", lambda: boto3.client("dynamodb").delete_table(TableName="events")),
        ("Queue", lambda: boto3.client("sqs").delete_queue(QueueUrl=boto3.client("sqs").list_queues()["QueueUrls"][0])),
    ],
    ids=["rows deleted", "aggregates deleted", "rows altered", "table made anew", "table deleted", "queue deleted"],
)
def test_a_loss_is_seen(ids: dict[str, Any], store: str, change: Callable[[], Any]) -> None:
    found = found_after(change)
    assert found[store].intact is False, found[store]


def test_an_object_that_is_gone_is_seen(ids: dict[str, Any]) -> None:
    s3 = boto3.client("s3")
    version = s3.list_object_versions(Bucket="raw")["Versions"][0]["VersionId"]
    assert not found_after(lambda: s3.delete_object(Bucket="raw", Key="raw/a.json", VersionId=version))[
        "RawBucket"
    ].intact


def test_a_store_that_left_the_stack_is_seen(ids: dict[str, Any]) -> None:
    found = found_after(lambda: ids.update(EventsTable=("AWS::DynamoDB::Table", "another")))
    assert found["EventsTable"].intact is False


def test_what_expired_and_what_grew_is_no_loss(ids: dict[str, Any]) -> None:
    for n in range(40):
        put("events", n, expires_at={"N": str(int(time.time()) - 60)})

    def meanwhile() -> None:
        delete_rows("events")
        for n in range(40):
            put("aggregates", n, input_count={"N": "2"})

    found = found_after(meanwhile)
    assert (found["EventsTable"].intact, found["EventsTable"].expired) == (True, intact.SAMPLE)
    assert (found["AggregatesTable"].intact, found["AggregatesTable"].changed) == (True, intact.SAMPLE)


def test_a_store_that_cannot_be_read_is_not_proven_and_stops_nothing(
    ids: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = BaseClient._make_api_call

    def refuse(self: Any, operation: str, arguments: Any) -> Any:
        if operation == "Scan" and arguments["TableName"] == "events":
            raise ClientError({"Error": {"Code": "ThrottlingException", "Message": "slower"}}, operation)
        return call(self, operation, arguments)

    monkeypatch.setattr(BaseClient, "_make_api_call", refuse)
    found = found_after(lambda: None)
    assert found["EventsTable"].intact is None
    assert "slower" in found["EventsTable"].sentence
    assert found["AggregatesTable"].intact


def test_a_store_that_hangs_does_not_hold_up_the_rollback(ids: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intact, "BUDGET", 0.2)
    release, answered = threading.Event(), threading.Event()

    def hang(*_: Any) -> tuple[str, None]:
        release.wait(60)
        answered.set()
        return "", None

    monkeypatch.setitem(intact._READERS, "AWS::S3::Bucket", intact._Reader(hang, lambda *_: (), lambda *_: []))
    found = found_after(lambda: None)
    assert not answered.is_set(), "it waited for the store that hangs"
    release.set()
    assert found["RawBucket"].intact is None


def test_the_reads_do_not_grow_with_the_stores(ids: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(100, 400):
        put("events", n)
    with calls(monkeypatch) as made:
        found_after(lambda: None)
    assert made.count("Scan") == 2  # a page of each table
    assert len(made) < 25, made
