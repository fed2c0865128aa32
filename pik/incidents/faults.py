"""What incidents do to the stores of the embedded AWS, directly: nothing of this can be done through the pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from pik import events, producer
from pik.aws.exchange import exchange
from pik.environments import Environment
from pik.errors import AwsError
from pik.incidents.model import Arrived, Incident

Outputs = Mapping[str, str]
Act = Callable[[Environment, Outputs, Incident], dict[str, Any]]


def nothing(where: Environment, outputs: Outputs, incident: Incident) -> dict[str, Any]:
    """Damage nothing; what the truth says beside the stream itself is empty."""
    return {}


def _delete_raw(where: Environment, outputs: Outputs, incident: Incident) -> dict[str, Any]:
    keys = [events.raw_key(arrived.parsed) for arrived in incident.injected]
    for key in keys:
        where.client("s3").delete_object(Bucket=outputs["RawBucket"], Key=key)
    return {"s3_keys": sorted(keys)}


def _alter_raw(where: Environment, outputs: Outputs, incident: Incident) -> dict[str, Any]:
    s3, bucket = where.client("s3"), outputs["RawBucket"]
    keys = [events.raw_key(arrived.parsed) for arrived in incident.injected]
    for arrived, key in zip(incident.injected, keys, strict=True):
        found = s3.get_object(Bucket=bucket, Key=key)
        payload = {**arrived.event["payload"], "flight": "altered"}
        s3.put_object(
            Bucket=bucket,
            Key=key,
            Body=producer.encode({**arrived.event, "payload": payload}),
            ContentType=found["ContentType"],
            Metadata=found["Metadata"],
        )
    return {"s3_keys": sorted(keys)}


def _remove_metadata(where: Environment, outputs: Outputs, incident: Incident) -> dict[str, Any]:
    dynamodb = where.client("dynamodb")
    for event in (arrived.parsed for arrived in incident.injected):
        if "events" in incident.facts["removed"]:
            key = {"PK": {"S": events.entity_pk(event.entity_id)}, "SK": {"S": events.event_sk(event)}}
            dynamodb.delete_item(TableName=outputs["EventsTable"], Key=key)
        if "dedupe" in incident.facts["removed"]:
            dynamodb.delete_item(TableName=outputs["DedupeTable"], Key={"event_id": {"S": event.event_id}})
    return {}


def _poison(where: Environment, outputs: Outputs, incident: Incident) -> dict[str, Any]:
    """Put messages on the queue that can never be processed; a running processor sets them aside, with the code."""
    messages = []
    for arrived, code in zip(incident.injected, incident.facts["codes"], strict=True):
        body = _bad_message(arrived, code, outputs["RawBucket"], f"sim-{incident.name}-{incident.seed}")
        sent = where.client("sqs").send_message(QueueUrl=outputs["QueueUrl"], MessageBody=body)
        messages.append({"message_id": sent["MessageId"], "code": code, "body": body})
    return {"messages": messages, "replay_id": f"sim-{incident.name}-{incident.seed}"}


def _bad_message(arrived: Arrived, code: str, bucket: str, replay_id: str) -> str:
    event = arrived.parsed
    message = {
        "v": 1,
        "replay_id": replay_id,
        "entity_id": event.entity_id,
        "s3_bucket": bucket,
        "event_id": event.event_id,
        "source": event.source,
        "event_type": event.event_type,
        "event_time": event.event_time,
        "s3_key": events.raw_key(event),
        "payload_sha256": event.payload_sha256,
    }
    without_key = {name: value for name, value in message.items() if name != "s3_key"}
    bodies: dict[str, Any] = {
        "not_a_replay_message": {"event_id": event.event_id, "replay": "please"},
        "bad_message": without_key,
        "foreign_bucket": {**message, "s3_bucket": "somebody-else"},
        "foreign_key": {**message, "s3_key": f"nowhere/{events.raw_key(event)}"},
        "raw_missing": {**message, "s3_key": f"{events.raw_key(event)}.gone"},
        "hash_mismatch": {**message, "payload_sha256": "0" * 64},
    }
    return json.dumps(bodies[code]) if code in bodies else json.dumps(message)[:-1]


def _replay_half(where: Environment, outputs: Outputs, incident: Incident) -> dict[str, Any]:
    """Replay an entity's events up to a limit, and never continue."""
    asked = {
        "entity_id": incident.facts["entity"],
        "start_time": events.format_time(incident.start),
        "end_time": events.format_time(incident.end),
        "replay_id": f"sim-{incident.name}-{incident.seed}",
        "limit": incident.facts["limit"],
    }
    answer = exchange(where, outputs["ReplayUrl"], json.dumps(asked).encode())
    if answer.status != 200 or answer["complete"]:
        raise AwsError("the replay API did not do half of it", reason=f"{answer.summary} {answer.answer}")
    order = sorted(incident.injected, key=lambda arrived: events.event_sk(arrived.parsed))
    ids = [arrived.parsed.event_id for arrived in order]
    return {
        "replay_id": asked["replay_id"],
        "sent": answer["sent"],
        "expected": len(ids),
        "event_ids": sorted(ids[incident.facts["limit"] :]),  # those that were never sent
        "replayed": sorted(ids[: incident.facts["limit"]]),
    }


ACTS: dict[str, Act] = {
    "raw-deleted": _delete_raw,
    "raw-altered": _alter_raw,
    "metadata-removed": _remove_metadata,
    "poison": _poison,
    "half-replay": _replay_half,
}
