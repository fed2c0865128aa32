"""Aggregators: what an aggregate says about the events of one entity and day.

An aggregator is a commutative monoid: ``lift`` turns an event into a state, ``combine`` joins two states, and neither
order nor grouping changes the result. That, and counting every event exactly once, is why redelivery, batches and
concurrency cannot change an aggregate. To add one: write a class, register it in :data:`AGGREGATORS`; the property test
takes it from there.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Context, Decimal, Inexact
from typing import Any, Protocol

from pik.errors import UsageError
from pik.events import Event

State = dict[str, Any]
# A version is one DynamoDB item, of at most 400 KB: what an aggregate says of ever new names has to end somewhere.
MOST_NAMES = 200
_LONGEST_NAME = 256
# Sums of floats depend on their order; sums of decimals this wide are exact (a double has at most 767 digits).
_EXACT = Context(prec=4000, Emin=-9999, Emax=9999, traps=[Inexact])


class Aggregator(Protocol):
    """A commutative monoid over JSON-able states."""

    def lift(self, event: Event) -> State:
        """Return the state of one event."""

    def combine(self, left: State, right: State) -> State:
        """Join two states; associative and commutative."""


class DailySummary:
    """Counts (in all, by type), first and last event time, and count, sum, minimum and maximum of each number.

    Numbers are the payload's own members (not nested ones), kept as decimal text so that sums are exact. Of more than
    :data:`MOST_NAMES` names (of numbers, or of types) the first in the order of text are kept, and ``names_left_out``
    is true. Which ones are kept does not depend on the order of events: a name that has so many smaller ones beside it
    in a part has them in the whole. Names of more than 256 characters are left out.
    """

    def lift(self, event: Event) -> State:
        """Return the summary of one event."""
        members = event.payload.items() if isinstance(event.payload, dict) else ()
        numbers = {name: _decimal(value) for name, value in members if _is_number(value)}
        short = {name: number for name, number in numbers.items() if len(name) <= _LONGEST_NAME}
        return _bounded(
            {
                "count": 1,
                "by_type": {event.event_type: 1},
                "first": event.exact_time,
                "last": event.exact_time,
                "numbers": {name: {"count": 1, "sum": n, "min": n, "max": n} for name, n in short.items()},
            },
            left_out=len(short) < len(numbers),
        )

    def combine(self, left: State, right: State) -> State:
        """Join two summaries."""
        return _bounded(
            {
                "count": left["count"] + right["count"],
                "by_type": _merge(left["by_type"], right["by_type"], lambda a, b: a + b),
                "first": _earlier(left["first"], right["first"]),
                "last": _later(left["last"], right["last"]),
                "numbers": _merge(left["numbers"], right["numbers"], _join),
            },
            left_out="names_left_out" in left or "names_left_out" in right,
        )


def _bounded(state: State, *, left_out: bool) -> State:
    for part in ("by_type", "numbers"):
        if len(state[part]) > MOST_NAMES:
            state[part] = {name: state[part][name] for name in sorted(state[part])[:MOST_NAMES]}
            left_out = True
    return state | ({"names_left_out": True} if left_out else {})


AGGREGATORS: dict[str, Aggregator] = {"daily-summary": DailySummary()}


def aggregator(name: str) -> Aggregator:
    """Return the aggregator called ``name``; raise UsageError."""
    if name not in AGGREGATORS:
        raise UsageError(f"no such aggregator: {name}", next_step=f"one of {', '.join(AGGREGATORS)}")
    return AGGREGATORS[name]


def fold(name: str, events: Iterable[Event]) -> dict[tuple[str, str], tuple[State, int]]:
    """Aggregate events, each counted once, as the processor would: (entity, day) -> (state, number of inputs)."""
    chosen, result, seen = aggregator(name), dict[tuple[str, str], tuple[State, int]](), set[str]()
    for event in events:
        if event.event_id in seen:
            continue
        seen.add(event.event_id)
        group, state = (event.entity_id, event.date), chosen.lift(event)
        if group in result:
            before, count = result[group]
            result[group] = (chosen.combine(before, state), count + 1)
        else:
            result[group] = (state, 1)
    return result


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _decimal(value: float) -> str:
    return _plain(Decimal(repr(value))) if value else "0"  # one zero: -0.0 is not another number


def _plain(value: Decimal) -> str:
    """The one way to write a number, so that equal sums are equal text: no exponent, no trailing zeros."""
    return format(value.normalize(_EXACT), "f")


def _join(left: State, right: State) -> State:
    return {
        "count": left["count"] + right["count"],
        "sum": _plain(_EXACT.add(Decimal(left["sum"]), Decimal(right["sum"]))),
        "min": min(left["min"], right["min"], key=Decimal),
        "max": max(left["max"], right["max"], key=Decimal),
    }


def _merge(left: dict[str, Any], right: dict[str, Any], join: Any) -> dict[str, Any]:
    both = left.keys() & right.keys()
    return {**left, **right, **{name: join(left[name], right[name]) for name in both}}


# Times of different precision do not compare as text (".5Z" sorts before "Z"): compare without the Z.
def _earlier(left: str, right: str) -> str:
    return min(left, right, key=lambda time: time[:-1])


def _later(left: str, right: str) -> str:
    return max(left, right, key=lambda time: time[:-1])
