"""Probe events: real requests under a reserved source and entity, so that nobody takes them for data."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from uuid import uuid4

from pik import events
from pik.aws.exchange import Exchange, tried
from pik.environments import Environment

FRESH_SECONDS = 60.0  # an API that was just made answers as it should by then


def answering(environment: Environment, url: str, body: bytes, patience: float | None = None) -> Exchange:
    """Ask one of the stack's APIs for a dry run until it answers 200, or patience is over; return the last exchange.

    An API that was just made answers 403 or 500 for some seconds, until API Gateway and IAM know of it everywhere.
    ``patience``: seconds, by default :data:`FRESH_SECONDS`.
    """
    deadline = time.monotonic() + (FRESH_SECONDS if patience is None else patience)
    while True:
        asked = tried(environment, url, body, dry_run=True)
        if asked.status == HTTPStatus.OK or time.monotonic() >= deadline:
            return asked
        time.sleep(1.0)


def until_answered(ask: Callable[[], Iterable[Exchange]], patience: float | None = None) -> None:
    """Ask again, anew from the start, until every request is answered or patience is over.

    For requests that can't be repeated one by one: what got no answer may have been stored all the same.
    """
    deadline, pause = time.monotonic() + (FRESH_SECONDS if patience is None else patience), 0.2
    while not all(one.answered for one in ask()) and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 3.0)


def all_answered(asked: Iterable[Exchange]) -> bool | None:
    """Return whether requests were dealt with: None when only some were, which is no fault of what they were to show.

    None of them: the API is down.
    """
    seen = {one.answered for one in asked}
    return None if len(seen) > 1 else seen == {True}


@dataclass(frozen=True)
class Probe:
    """One probe entity, new each time."""

    id: str = field(default_factory=lambda: uuid4().hex[:12])
    event_time: str = field(default_factory=events.now)

    @property
    def entity_id(self) -> str:
        """The entity all events of this probe belong to."""
        return f"{events.PROBE_ENTITY_PREFIX}{self.id}"

    def body(self, number: int, idempotency_key: str = "") -> bytes:
        """Return an event's bytes, written as no JSON library would, so that a re-encoded body shows.

        Odd white space, a number with a trailing zero, an escaped and an unescaped character, two spellings of é.
        """
        key = f'"idempotency_key":{json.dumps(idempotency_key)} ,' if idempotency_key else ""
        text = (
            f'\r\n {{"source" : "{events.PROBE_SOURCE}",\t"event_type":"probe", {key}\n'
            f'  "entity_id":"{self.entity_id}","event_time" :"{self.event_time}",\n'
            f'"payload":{{ "number":{number}, "tenths": 1.50,'
            f'"text":"na\u00efve \\u2603 \u2603 \u00e9 e\u0301" }}}} \n\n'
        )
        return text.encode()

    def broken(self) -> bytes:
        """Return a body that is no event: cut off, and not even UTF-8."""
        return (
            f'{{"source": "{events.PROBE_SOURCE}", "entity_id": "{self.entity_id}", "payload": "'.encode() + b"\xff\xfe"
        )
