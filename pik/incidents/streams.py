"""Streams with a real rhythm: one carrier's flights, under names of their own so that no two incidents ever meet."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

from pik import producer
from pik.events import format_time, parse_time
from pik.incidents.model import Arrived

# Enough flights a day to have a rhythm that an hour or two of silence breaks.
CARRIERS = ("AA", "B6", "DL", "EV", "MQ", "UA")
TYPICAL_LAG_SECONDS = 20.0
LAG_SPREAD = 0.8  # of the logarithm: one in a thousand takes four minutes
LONGEST_USUAL_LAG = timedelta(minutes=10)
JITTER_SECONDS = 600  # flights leave a little earlier or later, so that each seed's stream is another one
RETRIED = 0.005  # of a healthy stream's events come twice, because an answer was lost


@dataclass(frozen=True)
class SimulatedStream:
    """One seed's stream: its events in the order of time, and the names they go by."""

    tag: str
    source: str
    events: tuple[dict[str, Any], ...]

    @property
    def start(self) -> datetime:
        """Midnight before the first event."""
        return _midnight(self.events[0])

    @property
    def end(self) -> datetime:
        """Midnight after the last event."""
        return _midnight(self.events[-1]) + timedelta(days=1)

    def only(self, events: Sequence[dict[str, Any]]) -> SimulatedStream:
        """Return the same stream with fewer events."""
        return SimulatedStream(self.tag, self.source, tuple(events))

    def arrive(self, rng: random.Random) -> list[Arrived]:
        """Let every event arrive a little after it happened; a few of them twice, as a retry does."""
        arrivals = []
        for number, event in enumerate(self.events):
            first = Arrived(event, parse_time(event["event_time"]) + usual_lag(rng), f"{self.tag}-{number}")
            arrivals.append(first)
            if rng.random() < RETRIED:
                again = first.at + timedelta(seconds=rng.uniform(1, 8))
                arrivals.append(Arrived(event, again, first.request, repeats=True))
        return arrivals


def stream(tag: str, rng: random.Random) -> SimulatedStream:
    """Return two weeks of one carrier's flights; ``tag`` becomes part of the source's and every entity's name."""
    carrier = rng.choice(CARRIERS)
    source = f"{carrier}-{tag}"
    named = [
        moved(
            {**event, "source": source, "entity_id": f"{event['entity_id']}-{tag}"},
            timedelta(seconds=rng.randint(-JITTER_SECONDS, JITTER_SECONDS)),
        )
        for event in _flights()[carrier]
    ]
    return SimulatedStream(tag, source, tuple(sorted(named, key=_when)))


def one_day(whole: SimulatedStream, rng: random.Random, day: datetime) -> SimulatedStream:
    """Return one of the stream's full days, moved to ``day``."""
    chosen = whole.start + timedelta(days=rng.randrange(1, 13))
    move = day - chosen
    events = [moved(event, move) for event in whole.events if _midnight(event) == chosen]
    return whole.only(events)


def moved(event: Mapping[str, Any], by: timedelta) -> dict[str, Any]:
    """Return the event at another time."""
    return {**event, "event_time": format_time(parse_time(event["event_time"]) + by)}


def usual_lag(rng: random.Random) -> timedelta:
    """Return how late a healthy event comes: seconds, seldom minutes."""
    return min(LONGEST_USUAL_LAG, timedelta(seconds=TYPICAL_LAG_SECONDS * rng.lognormvariate(0, LAG_SPREAD)))


@cache
def _flights() -> dict[str, tuple[dict[str, Any], ...]]:
    found: dict[str, list[dict[str, Any]]] = {carrier: [] for carrier in CARRIERS}
    for event in producer.load("flights"):
        if event["source"] in found:
            found[event["source"]].append(event)
    return {carrier: tuple(sorted(events, key=_when)) for carrier, events in found.items()}


def _when(event: Mapping[str, Any]) -> str:
    return str(event["event_time"])


def _midnight(event: Mapping[str, Any]) -> datetime:
    return parse_time(event["event_time"]).replace(hour=0, minute=0, second=0, microsecond=0)
