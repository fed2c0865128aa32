"""Messages: references to raw objects, sent in batches; what the queue did not take is never counted as sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pik.pipeline import aws
from pik.pipeline.backoff import backoff

BATCH = 10  # SQS takes at most ten messages a call
MESSAGE_FIELDS = ("event_id", "entity_id", "source", "event_type", "event_time", "s3_key", "payload_sha256")
# What a message in the dead-letter queue carries: why it was moved there, and the id it had in the queue.
CODE_ATTRIBUTE, REASON_ATTRIBUTE, MESSAGE_ID_ATTRIBUTE = "pik_code", "pik_reason", "pik_message_id"
_ATTEMPTS = 4


def message(row: Mapping[str, Any], *, replay_id: str, entity_id: str, bucket: str) -> dict[str, Any]:
    """Return the message that refers to an events row's raw object."""
    fields = {name: row[name] for name in MESSAGE_FIELDS if name != "entity_id"}
    return {"v": 1, "replay_id": replay_id, "entity_id": entity_id, "s3_bucket": bucket, **fields}


class Sent(NamedTuple):
    """What came of sending: positions of messages ``refused``; ``late``: whether a request may still arrive."""

    refused: set[int]
    late: bool


def send(queue_url: str, bodies: Sequence[str]) -> Sent:
    """Send at most ten messages; what the queue did not take after several tries is refused.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessageBatch.html: the call succeeds
    although some of its entries failed.
    """
    waiting, late = set(range(len(bodies))), False
    for attempt in range(_ATTEMPTS):
        entries = [{"Id": str(position), "MessageBody": bodies[position]} for position in sorted(waiting)]
        result = aws.client("sqs").send_message_batch(QueueUrl=queue_url, Entries=entries)
        # The client sent it again, so an earlier request of it may be under way still.
        late = late or result.get("ResponseMetadata", {}).get("RetryAttempts", 0) > 0
        waiting -= {int(entry["Id"]) for entry in result.get("Successful", [])}
        if not waiting:
            break
        backoff(attempt, first=0.05, longest=0.5)
    return Sent(waiting, late)


def dumps(body: Mapping[str, Any]) -> str:
    """Return a message body as text."""
    return json.dumps(body, separators=(",", ":"))
