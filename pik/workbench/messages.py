"""Messages of a queue as rows of a frame, and what the processor would make of a dead letter now."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import events, frames
from pik.aws import queue_peek as looking
from pik.pipeline.queue import CODE_ATTRIBUTE, MESSAGE_ID_ATTRIBUTE, REASON_ATTRIBUTE

if TYPE_CHECKING:
    from pik.aws.connection import Connection

_PARALLEL = 16

#: :data:`pik.frames.MESSAGES`, and how the row is known: ``basis`` is ``expected`` (sent and not counted yet,
#: from the tables), ``logged`` (from the processor's log) or ``received`` (a live look).
MESSAGES = pa.schema([*frames.MESSAGES, ("basis", pa.string()), ("age_s", pa.float64())])
#: :data:`MESSAGES`, the id the message had in the queue, and whether the fault is mended: ``mended`` is true when the
#: processor would take the message now; ``fault_now`` says why it would not. Both null when not looked at.
DEAD_LETTERS = pa.schema(
    [*MESSAGES, ("original_message_id", pa.string()), ("mended", pa.bool_()), ("fault_now", pa.string())]
)


def message_row(message: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return a received message as a row of :data:`DEAD_LETTERS`, without a judgement on its fault."""
    body = _document(message["Body"])
    attributes = {k: v.get("StringValue") for k, v in message.get("MessageAttributes", {}).items()}
    sent = datetime.fromtimestamp(int(message["Attributes"]["SentTimestamp"]) / 1000, UTC)
    return {
        **{name: body.get(name) for name in ("replay_id", "event_id", "entity_id", "s3_key", "payload_sha256")},
        "event_time": _time(body.get("event_time")),
        "message_id": message["MessageId"],
        "sent": sent,
        "age_s": (now - sent).total_seconds(),
        "receive_count": looking.receive_count(dict(message)),
        "code": attributes.get(CODE_ATTRIBUTE),
        "reason": attributes.get(REASON_ATTRIBUTE),
        "original_message_id": attributes.get(MESSAGE_ID_ATTRIBUTE),
        "body": message["Body"],
        "basis": "received",
    }


def judged(aws: Connection, messages: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return received dead letters as rows, each with what the processor would make of it now."""
    stores, now, kept = aws.stores, datetime.now(UTC), list(messages)
    with ThreadPoolExecutor(_PARALLEL) as pool:
        faults = list(pool.map(lambda message: looking.fault(stores, message["Body"]), kept))
    return [
        message_row(message, now) | {"mended": not code, "fault_now": f"{code}: {reason}" if code else None}
        for message, (code, reason) in zip(kept, faults, strict=True)
    ]


def _document(body: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def _time(text: str | None) -> datetime | None:
    try:
        return events.parse_time(text) if text else None
    except ValueError:
        return None
