"""A live look at a few of the queue's messages, each returned at once.

Looking is not free: SQS counts every receipt and moves a message to the dead-letter queue once the count passes
maxReceiveCount. So a look stops at the first message that is over half way there, and says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from pik.environments import Environment

HOLD_SECONDS = 30  # how long a look may take; afterwards SQS returns the messages by itself
BATCH = 10


@dataclass(frozen=True)
class Look:
    """What was seen: message bodies, the highest receive count among them, and whether the look was cut short."""

    bodies: tuple[str, ...]
    receive_count: int
    max_receive_count: int
    cut_short: bool


def look(environment: Environment, queue_url: str, limit: int = 30) -> Look:
    """Receive up to ``limit`` different messages and return every one to the queue before this function returns."""
    client = environment.client("sqs")
    most = _max_receive_count(environment, queue_url)
    held: dict[str, dict[str, Any]] = {}
    cut_short = False
    try:
        while len(held) < limit and not cut_short:
            found = client.receive_message(
                QueueUrl=queue_url,
                MaxNumberOfMessages=min(BATCH, limit - len(held)),
                VisibilityTimeout=HOLD_SECONDS,
                WaitTimeSeconds=1,
                MessageSystemAttributeNames=["ApproximateReceiveCount"],
            ).get("Messages", [])
            if not found:
                break
            held |= {message["MessageId"]: message for message in found}
            cut_short = any(_count(message) > most // 2 for message in found)
    finally:
        _give_back(environment, queue_url, list(held.values()))
    return Look(
        bodies=tuple(message["Body"] for message in held.values()),
        receive_count=max(map(_count, held.values()), default=0),
        max_receive_count=most,
        cut_short=cut_short,
    )


def _give_back(environment: Environment, queue_url: str, messages: list[dict[str, Any]]) -> None:
    for start in range(0, len(messages), BATCH):
        environment.client("sqs").change_message_visibility_batch(
            QueueUrl=queue_url,
            Entries=[
                {"Id": str(n), "ReceiptHandle": message["ReceiptHandle"], "VisibilityTimeout": 0}
                for n, message in enumerate(messages[start : start + BATCH])
            ],
        )


def _count(message: dict[str, Any]) -> int:
    return int(message["Attributes"]["ApproximateReceiveCount"])


def _max_receive_count(environment: Environment, queue_url: str) -> int:
    attributes = environment.client("sqs").get_queue_attributes(QueueUrl=queue_url, AttributeNames=["RedrivePolicy"])
    policy = json.loads(attributes.get("Attributes", {}).get("RedrivePolicy", "{}"))
    return int(policy.get("maxReceiveCount", 1000))
