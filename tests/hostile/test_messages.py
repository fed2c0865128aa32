"""Hostile messages on the queue: each goes to the dead-letter queue with a code and a reason, and can be looked at."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pik
from pik.aws import signed
from pik.environments import Environment
from pik.pipeline.queue import CODE_ATTRIBUTE, REASON_ATTRIBUTE
from tests.hostile import cases
from tests.hostile.conftest import record

Deploy = Callable[[str], dict[str, str]]
SECONDS = 120


def test_every_message_that_cannot_be_processed_says_why(embedded_env: Environment, deployed: Deploy) -> None:
    outputs = deployed("processor")
    sqs = embedded_env.client("sqs")
    sent = cases.event(entity_id="messages")
    answer = signed.request(embedded_env, "POST", outputs["IngestUrl"], sent).json()
    good = {
        "v": 1,
        "replay_id": "rp-hostile",
        "s3_bucket": outputs["RawBucket"],
        **dict.fromkeys(("source", "event_type", "entity_id", "event_time"), "x"),
        **{name: answer[name] for name in ("event_id", "s3_key")},
        "payload_sha256": "0" * 64,
    }
    hostile = dict(cases.messages(json.dumps(good)))
    for name, body in hostile.items():
        assert sqs.send_message(QueueUrl=outputs["QueueUrl"], MessageBody=body)["MessageId"], name
    dead = _dead(sqs, outputs["DeadLetterQueueUrl"], len(hostile))
    assert sorted(message["Body"] for message in dead) == sorted(hostile.values())
    for message in dead:
        said = {name: value["StringValue"] for name, value in message["MessageAttributes"].items()}
        record("messages", said[CODE_ATTRIBUTE])
        assert said[REASON_ATTRIBUTE].isprintable()
        assert len(said[REASON_ATTRIBUTE]) <= 1_100
    looked = pik.connect("local").dlq.peek(live=True, max_messages=len(hostile))
    assert set(looked["code"].dropna()) >= {"not_json", "bad_message", "foreign_bucket"}


def _dead(sqs: Any, url: str, count: int) -> list[dict[str, Any]]:
    """Read the dead-letter queue until it has shown ``count`` messages, and give them all back."""
    found: dict[str, dict[str, Any]] = {}
    deadline = time.monotonic() + SECONDS
    while len(found) < count and time.monotonic() < deadline:
        answer = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=1, VisibilityTimeout=30, MessageAttributeNames=["All"]
        )
        found |= {message["MessageId"]: message for message in answer.get("Messages", [])}
    for message in found.values():
        sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
    return list(found.values())
