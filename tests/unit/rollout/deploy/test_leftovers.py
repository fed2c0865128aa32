"""What failed creates leave behind: only what is empty goes, only of stacks that never were complete."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pik import project
from pik.aws import stack
from pik.environments import Environment
from pik.rollout.deploy import leftovers

NAME = "pik-dev"
NEVER, ONCE = (f"arn:aws:cloudformation:eu-west-1:1:stack/{NAME}/{n}" for n in ("never", "once"))
TABLE, BUCKET, QUEUE, LOGS = "AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::Logs::LogGroup"


class CloudFormation:
    """Two deleted stacks of our name, one of which was complete once; and one of another name."""

    def __init__(self) -> None:
        self.resources: dict[str, list[tuple[str, str, str]]] = {NEVER: [], ONCE: []}
        self.events = {
            NEVER: ["DELETE_COMPLETE", "ROLLBACK_COMPLETE", "ROLLBACK_IN_PROGRESS", "CREATE_IN_PROGRESS"],
            ONCE: ["DELETE_COMPLETE", "CREATE_COMPLETE", "CREATE_IN_PROGRESS"],
        }
        self.asked: list[str] = []

    def get_paginator(self, operation: str) -> Any:
        return SimpleNamespace(paginate=getattr(self, operation))

    def list_stacks(self, **_: Any) -> list[dict[str, Any]]:
        found = [{"StackName": NAME, "StackId": one, "StackStatus": "DELETE_COMPLETE"} for one in (NEVER, ONCE)]
        other = {"StackName": "other", "StackId": "other", "StackStatus": "ROLLBACK_COMPLETE"}
        return [{"StackSummaries": found[:1]}, {"StackSummaries": [*found[1:], other]}]

    def describe_stack_events(self, *, StackName: str) -> list[dict[str, Any]]:  # noqa: N803
        own = [{"LogicalResourceId": NAME, "ResourceStatus": status} for status in self.events[StackName]]
        return [{"StackEvents": [{"LogicalResourceId": "EventsTable", "ResourceStatus": "CREATE_COMPLETE"}, *own]}]

    def list_stack_resources(self, *, StackName: str) -> list[dict[str, Any]]:  # noqa: N803
        self.asked.append(StackName)
        rows = [
            {"LogicalResourceId": "L", "ResourceType": kind, "PhysicalResourceId": name, "ResourceStatus": status}
            for kind, name, status in self.resources[StackName]
        ]
        return [{"StackResourceSummaries": rows}]


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[CloudFormation]:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.setattr(project, "STATE", tmp_path)
    monkeypatch.setattr(leftovers, "guard", lambda _: None)
    monkeypatch.setattr(leftovers, "_PAUSE", 0.0)
    monkeypatch.setattr(stack, "read", lambda _: None)
    found = CloudFormation()
    with mock_aws():
        made = {name: boto3.client(name, region_name="eu-west-1") for name in ("dynamodb", "s3", "sqs", "logs", "sts")}
        clients: dict[str, Any] = {"cloudformation": found, **made}
        monkeypatch.setattr(Environment, "client", lambda _, service: clients[service])
        yield found


DEV = Environment("dev", region="eu-west-1")


def _table(name: str, *, item: bool = False, protected: bool = False) -> tuple[str, str, str]:
    client = DEV.client("dynamodb")
    client.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "PK", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        DeletionProtectionEnabled=protected,
    )
    if item:
        client.put_item(TableName=name, Item={"PK": {"S": "a"}})
    return TABLE, name, "DELETE_SKIPPED"


def _bucket(name: str, *, item: bool = False) -> tuple[str, str, str]:
    client = DEV.client("s3")
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    if item:  # deleted, and still there as a version
        client.put_object(Bucket=name, Key="k", Body=b"x")
        client.delete_object(Bucket=name, Key="k")
    return BUCKET, name, "DELETE_SKIPPED"


def _queue(name: str, *, item: bool = False) -> tuple[str, str, str]:
    url = DEV.client("sqs").create_queue(QueueName=name)["QueueUrl"]
    if item:
        DEV.client("sqs").send_message(QueueUrl=url, MessageBody="x")
    return QUEUE, url, "DELETE_SKIPPED"


def _log_group(name: str, *, item: bool = False) -> tuple[str, str, str]:
    DEV.client("logs").create_log_group(logGroupName=name)
    if item:
        DEV.client("logs").create_log_stream(logGroupName=name, logStreamName="s")
    return LOGS, name, "DELETE_SKIPPED"


MAKE = {"t": _table, "b": _bucket, "q": _queue, "l": _log_group}


def test_only_what_is_empty_goes_and_that_is_recorded(cloud: CloudFormation, tmp_path: Path) -> None:
    empty = [make(f"empty-{name}") for name, make in MAKE.items()]
    full = [make(f"full-{name}", item=True) for name, make in MAKE.items()]
    cloud.resources[NEVER] = [*empty, *full, _table("protected", protected=True)]
    found = leftovers.leftovers(DEV)
    assert [one.id for one in found if one.empty] == [*(name for _, name, _ in empty), "protected"]
    assert DEV.client("dynamodb").list_tables()["TableNames"] == ["empty-t", "full-t", "protected"]  # nothing is done
    done = leftovers.remove(DEV, found)
    assert {one.id for one in done if one.removed} == {*(name for _, name, _ in empty), "protected"}
    assert DEV.client("dynamodb").list_tables()["TableNames"] == ["full-t"]
    assert [one["Name"] for one in DEV.client("s3").list_buckets()["Buckets"]] == ["full-b"]
    assert len(DEV.client("sqs").list_queues()["QueueUrls"]) == 1
    assert [one["logGroupName"] for one in DEV.client("logs").describe_log_groups()["logGroups"]] == ["full-l"]
    (record,) = (tmp_path / "deploys").glob("*leftovers.json")
    assert len(json.loads(record.read_text())["stores"]) == 9


@pytest.mark.parametrize(
    "events",
    [
        ["DELETE_COMPLETE", "CREATE_COMPLETE", "CREATE_IN_PROGRESS"],
        ["DELETE_COMPLETE", "DELETE_IN_PROGRESS"],  # its beginning is too long ago for CloudFormation
        ["UPDATE_ROLLBACK_COMPLETE", "ROLLBACK_IN_PROGRESS", "CREATE_IN_PROGRESS"],
    ],
)
def test_a_stack_that_was_or_may_have_been_complete_is_never_looked_into(
    cloud: CloudFormation, events: list[str]
) -> None:
    cloud.resources[ONCE], cloud.events[ONCE] = [_table("events")], events
    assert leftovers.leftovers(DEV) == ()
    assert ONCE not in cloud.asked
    assert "other" not in cloud.asked


def test_what_is_filled_after_the_preview_stays(cloud: CloudFormation) -> None:
    cloud.resources[NEVER] = [_table("events")]
    seen = leftovers.leftovers(DEV)
    DEV.client("dynamodb").put_item(TableName="events", Item={"PK": {"S": "a"}})
    (one,) = leftovers.remove(DEV, seen)
    assert (one.removed, one.empty) == (False, False)


def test_what_cannot_be_looked_at_or_is_in_use_stays(cloud: CloudFormation, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.resources[NEVER] = [(TABLE, "gone", "DELETE_SKIPPED"), _table("taken-over"), (TABLE, "x", "DELETE_COMPLETE")]
    monkeypatch.setattr(stack, "read", lambda _: "a new stack")
    monkeypatch.setattr(stack, "resources", lambda _: {"EventsTable": "taken-over"})
    (one,) = leftovers.leftovers(DEV)
    assert (one.id, one.empty) == ("gone", None)
    assert not leftovers.remove(DEV, (one,))[0].removed
