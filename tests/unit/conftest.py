"""Fixtures of the unit tests: the pipeline's stores in moto, and requests as API Gateway sends them."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import pytest
from moto import mock_aws

from pik.pipeline import aws, settings
from tests.stores import KEYS, SETTINGS
from tests.unit.api_world import Api
from tests.unit.world import World


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch) -> Iterator[settings.Settings]:
    """The stores as the template makes them, in moto, and the settings that name them."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "POWERTOOLS_TRACE_DISABLED": "true",
        "POWERTOOLS_SERVICE_NAME": "test",
        settings.ENVIRONMENT: "unit",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    with mock_aws():
        aws.client.cache_clear()
        dynamodb, sqs = boto3.client("dynamodb"), boto3.client("sqs")
        for table, keys in KEYS.items():
            dynamodb.create_table(
                TableName=table,
                KeySchema=[{"AttributeName": k, "KeyType": t} for k, t in zip(keys, ("HASH", "RANGE"), strict=False)],
                AttributeDefinitions=[{"AttributeName": k, "AttributeType": "S"} for k in keys],
                BillingMode="PAY_PER_REQUEST",
            )
        boto3.client("s3").create_bucket(Bucket="raw")
        urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("queue", "dlq")]
        yield replace(SETTINGS, queue_url=urls[0], dead_letter_queue_url=urls[1])
        aws.client.cache_clear()


@pytest.fixture
def request_of() -> Callable[..., dict[str, Any]]:
    """Make an API Gateway proxy event: body (bytes or JSON-able), headers, query; each with its own request id."""
    numbers = itertools.count(1)

    def make(body: Any, headers: dict[str, str] | None = None, **query: str) -> dict[str, Any]:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return {
            "body": base64.b64encode(raw).decode(),
            "isBase64Encoded": True,
            "headers": {"Content-Type": "application/json", **(headers or {})},
            "queryStringParameters": query or None,
            "requestContext": {"requestId": f"req-{next(numbers)}", "identity": {"userArn": "arn:aws:iam::1:user/ana"}},
        }

    return make


@pytest.fixture
def world(deployed: settings.Settings) -> World:
    """The stores' contents."""
    return World(deployed)


@pytest.fixture
def api(deployed: settings.Settings, request_of: Callable[..., dict[str, Any]], world: World) -> Api:
    """The APIs over the stores."""
    return Api(deployed, request_of, world)
