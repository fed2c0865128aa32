"""Requests to the HTTP API with their answers, for its documentation. A test sends them to the handlers, in this order.

What differs from run to run (the times of arrival, request ids) is made up; :data:`VOLATILE` names it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from pik import events
from pik.pipeline.parsing import parse_event
from pik.pipeline.selection import parse_selection
from pik.pipeline.strict_json import Rejected
from scripts.api_codes import INGEST, REPLAY

VOLATILE = {"ingest_time", "ingest_lag_ms", "request_id", "first_ingest_time", "rejected_id", "cursor"}
REQUEST_ID = "0f8fad5b-d9cb-469f-a165-70867728950e"
INGEST_TIME, LATER = "2026-11-20T09:00:01.250000Z", "2026-11-20T09:00:31.250000Z"
REPLAY_ID = "rp-customer-9-november"

EVENT: dict[str, Any] = {
    "source": "shop",
    "event_type": "order.paid",
    "entity_id": "customer-9",
    "event_time": "2026-11-20T10:00:00.5+01:00",
    "payload": {"order": 1001, "amount": 12.5},
    "idempotency_key": "order-1001-paid",
}
CLOUDEVENT: dict[str, Any] = {
    "specversion": "1.0",
    "id": "order-1002-paid",
    "source": "/shop",
    "type": "order.paid",
    "subject": "customer-9",
    "time": "2026-11-20T11:00:00Z",
    "datacontenttype": "application/json",
    "data": {"order": 1002, "amount": 7},
}
BINARY = {
    "ce-specversion": "1.0",
    "ce-id": "order-1003-note",
    "ce-source": "/shop",
    "ce-type": "order.noted",
    "ce-subject": "customer%209",
    "ce-time": "2026-11-20T12:00:00Z",
}
WINDOW: dict[str, Any] = {
    "entity_id": "customer-9",
    "start_time": "2026-11-20T00:00:00Z",
    "end_time": "2026-11-21T00:00:00Z",
}


@dataclass(frozen=True)
class Example:
    """A request and its answer; a body that is text is sent as it is."""

    name: str
    summary: str
    operation: str
    body: Any
    status: int
    answer: dict[str, Any]
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def sent(self) -> bytes:
        """The bytes of the body."""
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


def examples() -> list[Example]:
    """Return every example, in an order in which the answers come true."""
    unkeyed = {name: value for name, value in EVENT.items() if name != "idempotency_key"}
    changed = {**EVENT, "payload": {"order": 1001, "amount": 12}}
    misspelt = {**unkeyed, "idempotencyKey": "order-1001-paid"}
    header, text = {"Idempotency-Key": '"order-1001-paid"'}, "Deliver on Monday, please."
    structured = "application/cloudevents+json"
    again = _repeated(EVENT)
    first = {name: again[name] for name in ("first_ingest_time", "first_s3_key")}
    return [
        Example("event", "An event", INGEST, EVENT, 200, _stored(EVENT)),
        Example("again", "The same, sent again", INGEST, EVENT, 200, again),
        Example("header", "The same, with its key in a header", INGEST, unkeyed, 200, again, headers=header),
        Example("conflict", "The same key for another payload", INGEST, changed, 409, _conflict(changed, first)),
        Example("rejected", "A misspelt field", INGEST, misspelt, 400, _refused(misspelt)),
        Example("cloudevent", "A CloudEvent", INGEST, CLOUDEVENT, 200, _stored(CLOUDEVENT), structured),
        Example(
            "binary",
            "A CloudEvent in binary mode, with text as data",
            INGEST,
            text,
            200,
            _stored(text, {**BINARY, "content-type": "text/plain"}),
            "text/plain",
            BINARY,
        ),
        *_replays(),
    ]


def _replays() -> list[Example]:
    page, rest = {**WINDOW, "replay_id": REPLAY_ID, "limit": 1}, {**WINDOW, "replay_id": REPLAY_ID}
    key = events.event_sk(parse_event(json.dumps(EVENT).encode(), {}))
    cursor = parse_selection(page, dry_run=False).cursor(key)
    other = {**rest, "end_time": "2026-11-22T00:00:00Z"}
    taken = {
        "error": f"{REPLAY_ID} replays another selection",
        "code": "replay_id_taken",
        "do_this": "leave replay_id out for a new one, or repeat the selection it was made for",
    }
    dry = {**_answer(rest, 5, 2, 0, None), "dry_run": True}
    return [
        Example("dry", "What would be sent", REPLAY, {**rest, "dry_run": True}, 200, dry),
        Example("limited", "One event of a window", REPLAY, page, 200, _answer(page, 4, 1, 1, cursor)),
        Example("rest", "The rest of it", REPLAY, {**rest, "cursor": cursor}, 200, _answer(rest, 1, 1, 1, None)),
        Example("taken", "The same id for another window", REPLAY, other, 409, taken),
    ]


def _stored(body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
    event = parse_event(body.encode() if isinstance(body, str) else json.dumps(body).encode(), headers or {})
    return {
        "status": events.ACCEPTED,
        "event_id": event.event_id,
        "event_time": event.event_time,
        "ingest_time": INGEST_TIME,
        "ingest_lag_ms": events.lag_ms(event.event_time, INGEST_TIME),
        "s3_key": events.raw_key(event),
        "request_id": REQUEST_ID,
        "dry_run": False,
    }


def _repeated(body: dict[str, Any]) -> dict[str, Any]:
    first = _stored(body)
    lag = events.lag_ms(first["event_time"], LATER)
    more = {"first_ingest_time": INGEST_TIME, "first_s3_key": first["s3_key"]}
    return {**first, "status": events.DUPLICATE, "ingest_time": LATER, "ingest_lag_ms": lag, **more}


def _conflict(body: dict[str, Any], first: dict[str, Any]) -> dict[str, Any]:
    sent = json.dumps(body).encode()
    key = events.conflict_key(parse_event(sent, {}), hashlib.sha256(sent).hexdigest())
    return {
        "error": "the idempotency key is taken by an event that differs in payload",
        "code": "conflict",
        "do_this": "use a new key, or send what was sent first; this body is kept",
        **_repeated(body),
        "status": events.CONFLICT,
        "s3_key": key,
        **first,
        "differs": ["payload"],
    }


def _refused(body: dict[str, Any]) -> dict[str, Any]:
    sent = json.dumps(body).encode()
    try:
        parse_event(sent, {}, new=True)
    except Rejected as reason:
        said = {"error": reason.message, "code": reason.code, "do_this": reason.do_this}
    identifier = events.rejected_id(INGEST_TIME, hashlib.sha256(sent).hexdigest())
    more = {"status": events.REJECTED, "rejected_id": identifier, "request_id": REQUEST_ID, "dry_run": False}
    return {**said, **more}


def _answer(asked: dict[str, Any], scanned: int, matched: int, sent: int, cursor: str | None) -> dict[str, Any]:
    selection = parse_selection(asked, dry_run=False)
    return {
        "replay_id": selection.replay_id,
        "entity_id": selection.entity_id,
        "start_time": selection.start_time,
        "end_time": selection.end_time,
        "scanned": scanned,
        "matched": matched,
        "sent": sent,
        "complete": cursor is None,
        "cursor": cursor,
        "include_duplicates": False,
        "dry_run": False,
    }
