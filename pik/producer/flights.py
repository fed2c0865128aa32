"""Real flights as events: a departure or a cancellation of an aircraft. The data and its source: docs/producer.md."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

FIRST_DAY, LAST_DAY = date(2013, 1, 1), date(2013, 1, 15)
FLIGHT_COLUMNS = ("carrier", "flight", "tailnum", "scheduled_departure", "actual_departure")
_NUMBERS = ("departure_delay_min", "arrival_delay_min", "air_time_min", "distance_miles")
_IN_ENVELOPE = ("carrier", "tailnum", "actual_departure")


def flight_event(row: Mapping[str, str]) -> dict[str, Any]:
    """Return one row of the flights data as an event.

    The carrier is the source and the aircraft the entity. A flight that left is an event at its departure, one that did
    not at the time it should have left. What the row does not know is left out of the payload.
    """
    departed = bool(row["actual_departure"])
    payload: dict[str, Any] = {
        name: _number(value) if name in _NUMBERS else value
        for name, value in row.items()
        if value and name not in _IN_ENVELOPE
    }
    return {
        "source": row["carrier"],
        "event_type": "flight.departed" if departed else "flight.cancelled",
        "entity_id": row["tailnum"] or f"unassigned-{row['carrier']}{row['flight']}",
        "event_time": _with_seconds(_moment(row)),
        "payload": payload,
    }


def event_date(row: Mapping[str, str]) -> str:
    """Return the UTC date (``YYYY-MM-DD``) of the row's event."""
    return _moment(row)[:10]


def _moment(row: Mapping[str, str]) -> str:
    return row["actual_departure"] or row["scheduled_departure"]


def _with_seconds(time: str) -> str:
    # The file says 2013-01-01T10:17Z; RFC 3339 wants the seconds as well.
    return f"{time[:-1]}:00Z" if time.endswith("Z") and time.count(":") == 1 else time


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
