"""A whole environment in memory, for the checks of a rollout: the shipped functions on moto's stores.

API Gateway, CloudFormation and Lambda are imitated in a few lines; what answers behind them is the project's own code.
A test plants a defect by replacing one of the world's parts (``answer``, ``count``) or by altering a store.
"""

from __future__ import annotations

import base64
import io
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import boto3
import httpx

from pik import phases
from pik.aws.reading import StoreReader
from pik.config import EnvironmentConfig
from pik.environments import Environment
from pik.pipeline import aws, ingest, processor, replay
from pik.pipeline.http import Request, guarded
from pik.pipeline.settings import METRICS_NAMESPACE, Settings
from tests.unit.virtual_time import VirtualTime

ACCOUNT = "123456789012"
DAY = "2025-01-01"
ENDPOINT = "http://127.0.0.1:9"  # nothing answers there; it makes the environment an embedded one
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
READING = {
    "Version": "2012-10-17",
    "Statement": [{"Sid": "Read", "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["*"]}],
}


@dataclass(frozen=True)
class Clients(Environment):
    """An environment whose clients are moto's, each made once, and imitations where moto has too much."""

    made: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str, **_: Any) -> Any:
        with self._lock:  # making clients is not thread-safe
            if service not in self.made:
                self.made[service] = boto3.client(service)
            return self.made[service]


class Log:
    """A logger and a set of metrics that write where the checks look."""

    def __init__(self, environment: Environment, service: str) -> None:
        self.group, self.service, self._client = f"/pik/{service}", service, environment.client

    def info(self, message: str, **fields: Any) -> None:
        self._write("INFO", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        self._write("ERROR", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        self._write("WARNING", message, fields)

    exception = error

    def _write(self, level: str, message: str, fields: dict[str, Any]) -> None:
        fields.pop("exc_info", None)
        line = json.dumps({"level": level, "message": message, **fields})
        self._client("logs").put_log_events(
            logGroupName=self.group,
            logStreamName="s",
            logEvents=[{"timestamp": int(time.time() * 1000), "message": line}],
        )

    def add_metric(self, name: str, _: Any, value: float) -> None:
        dimensions = [{"Name": "service", "Value": self.service}, {"Name": "environment", "Value": "local"}]
        data = {"MetricName": name, "Dimensions": dimensions, "Value": value, "Timestamp": datetime.now(UTC)}
        self._client("cloudwatch").put_metric_data(Namespace=METRICS_NAMESPACE, MetricData=[data])


@dataclass
class CloudFormation:
    """The stack as CloudFormation describes it."""

    world: RolloutWorld

    def describe_stacks(self, **_: Any) -> Any:
        world = self.world
        stack = {
            "StackName": "pik-local",
            "StackStatus": world.status,
            "StackId": f"arn:aws:cloudformation:us-east-1:{ACCOUNT}:stack/pik-local/1",
            "CreationTime": world.began,
            "Parameters": [{"ParameterKey": k, "ParameterValue": v} for k, v in world.parameters.items()],
            "Outputs": [{"OutputKey": k, "OutputValue": v} for k, v in world.outputs.items()],
            "Tags": [{"Key": "pik:environment", "Value": "local"}],
        }
        return {"Stacks": [stack]}

    def get_template(self, **_: Any) -> Any:
        parameters = {name: {"Type": "String"} for name in self.world.parameters}
        return {"TemplateBody": json.dumps({"Parameters": parameters, "Resources": self.world.declared})}

    def get_paginator(self, _: str) -> Any:
        return _Pages(lambda: {"StackResourceSummaries": self.world.resources()})


@dataclass
class Lambda:
    """The event source mappings, and the processor when it is asked."""

    world: RolloutWorld

    def get_paginator(self, _: str) -> Any:
        return _Pages(lambda: {"EventSourceMappings": self.world.mappings})

    def invoke(self, Payload: bytes, **_: Any) -> Any:  # noqa: N803 - boto3's name
        try:
            answer, raised = self.world.asked_dry(json.loads(Payload)), {}
        except RuntimeError as error:
            answer, raised = {"errorMessage": str(error), "errorType": "RuntimeError"}, {"FunctionError": "Unhandled"}
        return {"Payload": io.BytesIO(json.dumps(answer).encode()), "StatusCode": 200, **raised}


@dataclass
class _Pages:
    page: Callable[[], Any]

    def paginate(self, **_: Any) -> Any:
        return [self.page()]


@dataclass
class RolloutWorld:
    """One environment. ``answer(function, request)`` is what an API does, ``count(record)`` what the processor does."""

    config: Settings
    phase: phases.Phase = phases.PROCESSOR
    status: str = "UPDATE_COMPLETE"
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    more: dict[str, str] = field(default_factory=dict)
    mappings: list[dict[str, Any]] = field(default_factory=list)
    declared: dict[str, Any] = field(default_factory=dict)
    extra: list[tuple[str, str, str]] = field(default_factory=list)
    before_replay: Callable[[], None] = lambda: None
    one_by_one: Any = field(default_factory=threading.RLock)
    virtual: VirtualTime | None = None
    numbers: Any = field(default_factory=lambda: itertools.count(1))

    def __post_init__(self) -> None:
        imitated = {"cloudformation": CloudFormation(self), "lambda": Lambda(self)}
        open_to_all = EnvironmentConfig(protection="open")
        self.environment = Clients("local", "us-east-1", ENDPOINT, open_to_all, made=imitated)
        self.logs = {name: Log(self.environment, name) for name in ("ingest", "replay", "processor")}
        for log in self.logs.values():
            self.client("logs").create_log_group(logGroupName=log.group)
            self.client("logs").create_log_stream(logGroupName=log.group, logStreamName="s")
        for service in ("s3", "dynamodb", "sqs"):
            aws.client(service)
        self.answer: Callable[[str, Request], dict[str, Any]] = self.really
        self.count: Callable[[list[dict[str, Any]]], dict[str, Any]] = lambda records: processor.process_batch(
            {"Records": records}, self.config
        )
        self.asked_dry: Callable[[dict[str, Any]], dict[str, Any]] = lambda said: processor.predict(said, self.config)
        self.enter(self.phase)
        self._policies()

    def client(self, service: str) -> Any:
        return self.environment.client(service)

    # --- the stack ---------------------------------------------------------------------------------------------------

    def enter(self, phase: phases.Phase) -> None:
        """Bring the environment to a phase."""
        self.phase = phase
        reading = {"UUID": "1", "State": "Enabled", "FunctionArn": "arn:aws:lambda:us-east-1:1:function:processor"}
        self.mappings = [reading] if phase.processor else []

    @property
    def parameters(self) -> dict[str, str]:
        return {"Environment": "local", "DryRun": "false", **self.phase.parameters, **self.more}

    @property
    def outputs(self) -> dict[str, str]:
        config = self.config
        found = {
            "EventsTable": config.events_table,
            "DedupeTable": config.dedupe_table,
            "AggregatesTable": config.aggregates_table,
            "ReplaysTable": config.replays_table,
            "RawBucket": config.raw_bucket,
            "QueueUrl": config.queue_url,
            "QueueArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:queue",
            "DeadLetterQueueUrl": config.dead_letter_queue_url,
            "IngestUrl": "https://a1.execute-api.us-east-1.amazonaws.com/local/ingest",
            "IngestApiId": "a1",
            **{f"{name.title()}LogGroup": log.group for name, log in self.logs.items()},
        }
        if self.phase.replay:
            found["ReplayUrl"] = "https://b2.execute-api.us-east-1.amazonaws.com/local/replay"
            found["ReplayApiId"] = "b2"
        if self.phase.processor:
            found["ProcessorFunction"] = "processor"
        return found

    def resources(self) -> list[dict[str, Any]]:
        """Everything in the stack, as CloudFormation lists it."""
        one = [("IngestFunction", "AWS::Lambda::Function", "ingest"), ("IngestApi", "AWS::ApiGateway::RestApi", "a1")]
        two = [("ReplayFunction", "AWS::Lambda::Function", "replay"), ("ReplayApi", "AWS::ApiGateway::RestApi", "b2")]
        three = [
            ("ProcessorFunction", "AWS::Lambda::Function", "processor"),
            ("Mapping", "AWS::Lambda::EventSourceMapping", "1"),
        ]
        named = [(f"Output{n}", "AWS::Any::Thing", value) for n, value in enumerate(self.outputs.values())]
        held = [("Role", "AWS::IAM::Role", "pik-role"), ("DeadLetterQueueAlarm", "AWS::CloudWatch::Alarm", "dlq-alarm")]
        there = [*one, *two * self.phase.replay, *three * self.phase.processor, *named, *held, *self.extra]
        return [
            {"LogicalResourceId": a, "ResourceType": b, "PhysicalResourceId": c, "ResourceStatus": "CREATE_COMPLETE"}
            for a, b, c in there
        ]

    def _policies(self) -> None:
        iam = self.client("iam")
        iam.create_role(RoleName="pik-role", AssumeRolePolicyDocument=json.dumps(TRUST))
        iam.put_role_policy(RoleName="pik-role", PolicyName="own", PolicyDocument=json.dumps(READING))
        properties = {
            "AssumeRolePolicyDocument": TRUST,
            "Policies": [{"PolicyName": "own", "PolicyDocument": READING}],
        }
        self.declared = {"Role": {"Type": "AWS::IAM::Role", "Properties": properties}}
        self.client("cloudwatch").put_metric_alarm(
            AlarmName="dlq-alarm",
            MetricName="m",
            Namespace="n",
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
        )
        self.ring("OK")

    def ring(self, state: str = "ALARM") -> None:
        """Set the dead-letter queue's alarm."""
        self.client("cloudwatch").set_alarm_state(AlarmName="dlq-alarm", StateValue=state, StateReason="a test")

    # --- the APIs ----------------------------------------------------------------------------------------------------

    def request(self, _: Environment, __: str, url: str, body: bytes = b"", **more: Any) -> httpx.Response:
        """Take the place of :func:`pik.aws.signed.request`."""
        parts = urlsplit(url)
        function = parts.path.rpartition("/")[2]
        if not more.get("signed", True):
            return httpx.Response(403, json={"message": "Missing Authentication Token"})
        number = next(self.numbers)
        event = {
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
            "headers": {"Content-Type": "application/json"},
            "queryStringParameters": dict(parse_qsl(parts.query)) or None,
            "requestContext": {"requestId": f"req-{number}", "identity": {"userArn": "arn:aws:iam::1:user/ana"}},
        }
        if function == "replay":
            with self.one_by_one:  # what comes before a replay request is there when it reads
                self.before_replay()
                found = self.answer(function, Request.of(event))
        else:
            found = self.answer(function, Request.of(event))
        self.logs[function].info("answered", request_id=f"req-{number}")
        return httpx.Response(found["statusCode"], content=found["body"].encode())

    def really(self, function: str, request: Request) -> dict[str, Any]:
        """What the shipped functions answer."""
        log: Any = self.logs[function]
        if function == "ingest":
            return guarded(request, lambda: ingest.ingest(request, self.config), log, log)
        return guarded(request, lambda: replay.replay(request, self.config, lambda: True), log, log)

    def ingest(self, entity: str, count: int = 1, *, at: str = "", day: str = DAY) -> None:
        """Have a producer send events of an entity, a minute apart, or one at a moment."""
        for n in range(count):
            event = {
                "source": "s",
                "event_type": "t",
                "entity_id": entity,
                "event_time": at or f"{day}T00:{n % 60:02d}:00Z",
                "payload": {"n": next(self.numbers) + 0.5},
            }
            answered = self.request(self.environment, "POST", self.outputs["IngestUrl"], json.dumps(event).encode())
            assert answered.status_code == 200, answered.text

    # --- the processor -----------------------------------------------------------------------------------------------

    def process(self, most: int = 10) -> int:
        """Receive once and process what comes; return how many messages that were."""
        sqs, url = self.client("sqs"), self.config.queue_url
        received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=most).get("Messages", [])
        attributes = {"ApproximateReceiveCount": "1"}
        records = [{"messageId": one["MessageId"], "body": one["Body"], "attributes": attributes} for one in received]
        back = {one["itemIdentifier"] for one in self.count(records)["batchItemFailures"]}
        for message in received:
            if message["MessageId"] not in back:  # those come back when their visibility timeout ends
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return len(received)

    @contextmanager
    def consuming(self) -> Iterator[None]:
        """Have the processor at work meanwhile."""
        if self.virtual:
            with self.virtual.meanwhile(self.process):
                yield
            return
        done = threading.Event()

        def work() -> None:
            while not done.is_set():
                if not self.process():
                    time.sleep(0.01)

        worker = threading.Thread(target=work, name="processor")
        worker.start()
        try:
            yield
        finally:
            done.set()
            worker.join()

    @property
    def stores(self) -> StoreReader:
        return StoreReader(self.environment)


def in_place(world: RolloutWorld, patch: Any) -> None:
    """Put the world where the checks look for one; ``patch`` is pytest's monkeypatch."""
    from pik.aws import queue_peek, reading, signed

    patch.setattr(signed, "request", world.request)
    patch.setattr(reading, "extract_metrics", lambda _: None)
    patch.setattr(queue_peek, "WAIT_SECONDS", 0)
    for name, module in {"ingest": ingest, "replay": replay, "processor": processor}.items():
        patch.setattr(module, "logger", world.logs[name])
        patch.setattr(module, "metrics", world.logs[name])


def indexed() -> None:
    """Give moto's events table the index by ingest time that the template declares."""
    boto3.client("dynamodb").update_table(
        TableName="events",
        AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("PK", "SK", "GSI2PK", "GSI2SK")],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "by-ingest-time",
                    "KeySchema": [
                        {"AttributeName": "GSI2PK", "KeyType": "HASH"},
                        {"AttributeName": "GSI2SK", "KeyType": "RANGE"},
                    ],
                    "Projection": {"ProjectionType": "ALL"},
                }
            }
        ],
    )
