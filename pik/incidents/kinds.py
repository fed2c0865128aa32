"""The ten incidents, and healthy streams to compare with. Pure: a name and a seed give the same, everywhere."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from pik.errors import UsageError
from pik.events import format_time, parse_time
from pik.incidents.model import Arrived, Incident
from pik.incidents.streams import SimulatedStream, moved, one_day, stream
from pik.text import named

MAX_SEED = 999
# A window is only hidden where somebody could miss it: with fewer events gone, silence is the stream's own habit.
FEWEST_DROPPED = 12
WINDOW_MINUTES = (90, 360)
LIVE_EVENTS = 400
POISON = (
    *("not_json", "not_a_replay_message", "bad_message", "foreign_bucket", "foreign_key", "raw_missing"),
    "hash_mismatch",
)
# Before the flights, so that no day of theirs is anybody else's; never in the future, which would be another incident.
_FIRST_DAY = datetime(1995, 1, 1, tzinfo=UTC)
_OWN_DAY = ("conflicting-keys", "raw-deleted", "raw-altered", "metadata-removed", "poison", "half-replay")

Maker = Callable[[SimulatedStream, random.Random, datetime], Incident]


def make(name: str, seed: int) -> Incident:
    """Return the incident ``name`` with every random choice drawn from ``seed`` (0 to 999).

    Each has a source and entities of its own (``UA-sim-dropped-window-7``), so incidents may share an environment;
    those that are found by comparing all stores for a window of time also have a day of their own.

    Raises UsageError when there is no such incident or seed.
    """
    if name not in _MAKERS:
        near = get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(NAMES)}"
        raise UsageError(f"no such incident: {named(name)}", next_step=hint)
    if not 0 <= seed <= MAX_SEED:
        raise UsageError(f"no such seed: {seed}", next_step=f"a number from 0 to {MAX_SEED}")
    rng = random.Random(f"{name}:{seed}")  # noqa: S311 - to be repeated, not to be secret
    number = _OWN_DAY.index(name) if name in _OWN_DAY else 0
    day = _FIRST_DAY + timedelta(days=number * (MAX_SEED + 1) + seed)
    made = _MAKERS[name](stream(f"sim-{name}-{seed}", rng), rng, day)
    return replace(made, name=name, seed=seed, arrivals=tuple(sorted(made.arrivals, key=lambda arrived: arrived.at)))


def _healthy(whole: SimulatedStream, rng: random.Random, _: datetime) -> Incident:
    return _incident(whole, whole.arrive(rng))


def _healthy_live(whole: SimulatedStream, rng: random.Random, _: datetime) -> Incident:
    part = _segment(whole, rng)
    return _incident(part, part.arrive(rng), live=True)


def _dropped_window(whole: SimulatedStream, rng: random.Random, _: datetime) -> Incident:
    while True:
        length = timedelta(minutes=rng.randrange(*WINDOW_MINUTES))
        start = whole.start + timedelta(minutes=rng.randrange(2 * 24 * 60, 13 * 24 * 60))
        inside = [start <= parse_time(event["event_time"]) < start + length for event in whole.events]
        if sum(inside) >= FEWEST_DROPPED:
            break
    kept = [event for event, gone in zip(whole.events, inside, strict=True) if not gone]
    times = [parse_time(event["event_time"]) for event in kept]
    facts: dict[str, Any] = {
        "window": [format_time(start), format_time(start + length)],
        # What can be known from the outside: no event between these two.
        "silence": [
            format_time(max(time for time in times if time < start)),
            format_time(min(time for time in times if time >= start + length)),
        ],
        "dropped": sum(inside),
    }
    return _incident(whole.only(kept), whole.only(kept).arrive(rng), **facts)


def _late_batch(whole: SimulatedStream, rng: random.Random, _: datetime) -> Incident:
    part = _segment(whole, rng)
    first = rng.randrange(50, LIVE_EVENTS - 100)
    late = part.events[first : first + rng.randrange(12, 40)]
    came = parse_time(late[-1]["event_time"]) + timedelta(minutes=rng.randrange(60, 480))
    requests = {f"{part.tag}-{first + number}" for number in range(len(late))}
    arrivals = [
        replace(arrived, at=came + timedelta(seconds=rng.uniform(0, 60)), injected=True)
        if arrived.request in requests
        else arrived
        for arrived in part.arrive(rng)
    ]
    window = [format_time(parse_time(event["event_time"])) for event in (late[0], late[-1])]
    return _incident(part, arrivals, live=True, window=window)


def _clock_skew(whole: SimulatedStream, rng: random.Random, _: datetime) -> Incident:
    part = _segment(whole, rng)
    counts = Counter(event["entity_id"] for event in part.events)
    entity = rng.choice([name for name, count in sorted(counts.items()) if count >= min(4, max(counts.values()))])
    ahead = timedelta(minutes=rng.randrange(15, 120))
    arrivals = [
        replace(arrived, event=moved(arrived.event, ahead), injected=True)
        if arrived.event["entity_id"] == entity
        else arrived
        for arrived in part.arrive(rng)
    ]
    return _incident(part, arrivals, live=True, entity=entity, ahead_seconds=ahead.total_seconds())


def _duplicate_storm(whole: SimulatedStream, rng: random.Random, _: datetime) -> Incident:
    part = _segment(whole, rng)
    arrivals = part.arrive(rng)
    firsts = [arrived for arrived in arrivals if not arrived.repeats]
    begin = rng.randrange(50, LIVE_EVENTS - 60)
    stormed = firsts[begin : begin + rng.randrange(8, 30)]
    same_request = rng.random() < 0.5
    start = max(arrived.at for arrived in stormed) + timedelta(minutes=rng.uniform(1, 30))
    for number in range(rng.randrange(3, 9)):
        for arrived in stormed:
            request = arrived.request if same_request else f"{arrived.request}-again-{number}"
            at = start + timedelta(seconds=rng.uniform(0, 300))
            arrivals.append(Arrived(arrived.event, at, request, repeats=True, injected=True))
    return _incident(part, arrivals, live=True, same_request=same_request)


def _conflicting_keys(whole: SimulatedStream, rng: random.Random, day: datetime) -> Incident:
    part = one_day(whole, rng, day)
    keyed = [{**event, "idempotency_key": f"{part.tag}-{number}"} for number, event in enumerate(part.events)]
    arrivals = part.only(keyed).arrive(rng)
    firsts = [arrived for arrived in arrivals if not arrived.repeats]
    for arrived in rng.sample(firsts, rng.randrange(3, 9)):
        other = {
            **arrived.event,
            "payload": {**arrived.event["payload"], "departure_delay_min": rng.randrange(500, 900)},
        }
        at = arrived.at + timedelta(minutes=rng.uniform(1, 60))
        arrivals.append(Arrived(other, at, f"{arrived.request}-other", repeats=True, injected=True))
    return _incident(part, arrivals)


def _damaged(whole: SimulatedStream, rng: random.Random, day: datetime) -> Incident:
    """A healthy day of which some events are damaged in the stores afterwards."""
    part = one_day(whole, rng, day)
    chosen = set(rng.sample(range(len(part.events)), rng.randrange(3, 11)))
    requests = {f"{part.tag}-{number}" for number in chosen}
    arrivals = [
        replace(arrived, injected=arrived.request in requests and not arrived.repeats) for arrived in part.arrive(rng)
    ]
    return _incident(part, arrivals)


def _metadata_removed(whole: SimulatedStream, rng: random.Random, day: datetime) -> Incident:
    made = _damaged(whole, rng, day)
    return replace(made, facts={"removed": rng.choice([["events"], ["dedupe"], ["events", "dedupe"]])})


def _poison(whole: SimulatedStream, rng: random.Random, day: datetime) -> Incident:
    made = _damaged(whole, rng, day)
    return replace(made, facts={"codes": [rng.choice(POISON) for _ in made.injected]})


def _half_replay(whole: SimulatedStream, rng: random.Random, day: datetime) -> Incident:
    part = one_day(whole, rng, day)
    counts = Counter(event["entity_id"] for event in part.events)
    most = max(counts.values())
    entity = rng.choice(sorted(name for name, count in counts.items() if count == most))
    arrivals = [replace(a, injected=a.event["entity_id"] == entity and not a.repeats) for a in part.arrive(rng)]
    return _incident(part, arrivals, entity=entity, limit=rng.randrange(1, most))


def _segment(whole: SimulatedStream, rng: random.Random) -> SimulatedStream:
    first = rng.randrange(0, len(whole.events) - LIVE_EVENTS)
    return whole.only(whole.events[first : first + LIVE_EVENTS])


def _incident(part: SimulatedStream, arrivals: list[Arrived], *, live: bool = False, **facts: Any) -> Incident:
    times = [parse_time(arrived.event["event_time"]) for arrived in arrivals]  # a clock that is ahead may leave the day
    end = max(part.end, max(times) + timedelta(microseconds=1))
    return Incident("", 0, part.source, part.start, end, tuple(arrivals), live=live, facts=facts)


_MAKERS: dict[str, Maker] = {
    "dropped-window": _dropped_window,
    "late-batch": _late_batch,
    "duplicate-storm": _duplicate_storm,
    "clock-skew": _clock_skew,
    "conflicting-keys": _conflicting_keys,
    "raw-deleted": _damaged,
    "raw-altered": _damaged,
    "metadata-removed": _metadata_removed,
    "poison": _poison,
    "half-replay": _half_replay,
    "healthy": _healthy,
    "healthy-live": _healthy_live,
}
NAMES = tuple(_MAKERS)
