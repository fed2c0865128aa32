"""What an incident consists of: arrivals in the order in which they come, and which of them are its doing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from pik.events import Event, parse_instant, parse_time


@dataclass(frozen=True)
class Arrived:
    """One arrival: the event as its producer sends it, and when it comes in.

    ``repeats`` says that the event (or its idempotency key) was there before; ``injected`` that the arrival is the
    incident's doing; ``request`` is the producer's own request id, the same when it only retries.
    """

    event: Mapping[str, Any]
    at: datetime
    request: str
    repeats: bool = False
    injected: bool = False

    @property
    def lag(self) -> timedelta:
        """How late it comes; negative when the producer's clock is ahead."""
        return self.at - parse_time(self.event["event_time"])

    @cached_property
    def parsed(self) -> Event:
        """The event as the pipeline understands it."""
        when = parse_instant(self.event["event_time"])
        names = {name: self.event[name] for name in ("source", "event_type", "entity_id", "payload")}
        return Event(
            **names,
            event_time=when.text,
            exact_time=when.exact,
            idempotency_key=self.event.get("idempotency_key"),
            assumed_utc=when.assumed_utc,
        )


@dataclass(frozen=True)
class Incident:
    """A stream with something wrong in it (or nothing: ``healthy``).

    ``start`` and ``end`` are the event times to look at, half-open. ``live``: on the embedded AWS, where ingest time is
    now, event times are moved so that every lag stays as it is; otherwise event times stay and lags are of no meaning.
    ``facts`` is what the truth says beside the injected events, such as a dropped window.
    """

    name: str
    seed: int
    source: str
    start: datetime
    end: datetime
    arrivals: tuple[Arrived, ...] = field(repr=False)
    live: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def injected(self) -> tuple[Arrived, ...]:
        """The arrivals that are the incident's doing."""
        return tuple(arrived for arrived in self.arrivals if arrived.injected)
