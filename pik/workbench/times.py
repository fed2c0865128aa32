"""Times and lags as people write them, in the kit's own format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from pik import events
from pik.errors import UsageError
from pik.text import named

if TYPE_CHECKING:
    import pandas as pd

_LAG = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)\s*")
FIRST, LAST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
_MILLISECONDS = {"ms": 1, "s": 1000, "m": 60_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def moment(value: str | date | datetime, name: str = "time") -> str:
    """Return a time in the kit's format: an RFC 3339 time, a day (its midnight, UTC), or an aware datetime.

    Raises:
        UsageError: it is none of them.

    >>> moment("2013-01-01")
    '2013-01-01T00:00:00.000000Z'
    """
    try:
        if isinstance(value, datetime):
            return events.format_time(value)
        text = str(value)
        return events.parse_instant(f"{text}T00:00:00Z" if len(text) == 10 else text).text
    except ValueError as error:
        raise UsageError(
            f"{name}: not a time: {named(value)}", reason=str(error), next_step="2013-01-01, or 2013-01-01T10:17:00Z"
        ) from None


def day(value: str | date, name: str = "day") -> str:
    """Return a day as ``YYYY-MM-DD``; raise UsageError when it is none.

    >>> day("2013-01-01")
    '2013-01-01'
    """
    try:
        return date.fromisoformat(str(value)[:10] if isinstance(value, datetime) else str(value)).isoformat()
    except ValueError:
        raise UsageError(f"{name}: not a day: {named(value)}", next_step="as in 2013-01-01") from None


def next_day(value: str) -> str:
    """Return the day after ``YYYY-MM-DD``; after the last one there is, the last moment there is.

    >>> next_day("2012-12-31"), next_day("9999-12-31")
    ('2013-01-01', '9999-12-31T23:59:59.999999Z')
    """
    if value == date.max.isoformat():
        return events.format_time(LAST)
    return (date.fromisoformat(value) + timedelta(days=1)).isoformat()


def shifted(time: datetime, by: timedelta) -> datetime:
    """Return a time in UTC moved by a duration, at the most to the first or the last moment there is.

    >>> shifted(FIRST, timedelta(days=-14)) == FIRST, shifted(LAST, timedelta(days=1)) == LAST
    (True, True)
    """
    try:
        return time + by
    except OverflowError:
        return LAST if by > timedelta() else FIRST


def days(start: str, end: str) -> list[str]:
    """Return every UTC day that the half-open window [start, end) of kit times touches.

    >>> days("2013-01-01T23:00:00.000000Z", "2013-01-03T00:00:00.000000Z")
    ['2013-01-01', '2013-01-02']
    """
    if end <= start:
        return []
    last = shifted(events.parse_time(end), timedelta(microseconds=-1))
    first = date.fromisoformat(start[:10])
    return [(first + timedelta(days=n)).isoformat() for n in range((last.astimezone(UTC).date() - first).days + 1)]


def count_days(start: str, end: str) -> int:
    """Return how many UTC days the half-open window [start, end) of kit times touches.

    >>> count_days("2013-01-01T23:00:00.000000Z", "9999-12-31T00:00:00.000000Z")
    2917190
    """
    if end <= start:
        return 0
    last = events.parse_time(end) - timedelta(microseconds=1)
    return (last.date() - date.fromisoformat(start[:10])).days + 1


def milliseconds(value: str | float | timedelta, name: str = "min_lag") -> int:
    """Return a duration in milliseconds: ``"90s"``, ``"15m"``, ``"1h"``, ``"2d"``, a timedelta, or a number of seconds.

    >>> milliseconds("1.5h"), milliseconds(2)
    (5400000, 2000)
    """
    if isinstance(value, timedelta):
        return value // timedelta(milliseconds=1)
    if isinstance(value, int | float):
        return round(value * 1000)
    match = _LAG.fullmatch(value)
    if match is None:
        raise UsageError(f"{name}: not a duration: {named(value)}", next_step="as in 500ms, 90s, 15m, 1h or 2d")
    return round(float(match[1]) * _MILLISECONDS[match[2]])


def span(milliseconds: int) -> str:
    """Return a duration as a person says it.

    >>> span(90_000)
    '1.5 min'
    """
    for size, unit in ((86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")):
        if abs(milliseconds) >= size:
            return f"{milliseconds / size:,.1f} {unit}"
    return f"{milliseconds} ms"


def local_window(*moments: datetime) -> str:
    """Return what follows times in UTC: the same in this machine's zone (``TZ``), in brackets; empty where that is UTC.

    In Berlin `` (local time: 2013-01-01 13:00:00+01:00 to 2013-01-01 14:30:00+01:00)``.
    """
    local = [_local(moment) for moment in moments]
    return f" (local time: {' to '.join(local)})" if any(map(_is_elsewhere, local)) else ""


def _local(moment: datetime) -> str:
    utc = datetime(*moment.utctimetuple()[:6], tzinfo=UTC)  # also of what pandas calls a time
    try:
        return utc.astimezone().isoformat(" ", "seconds")
    except (OverflowError, ValueError, OSError):  # the first and the last hours there are have no other zone
        return utc.isoformat(" ", "seconds")


def _is_elsewhere(local: str) -> bool:
    return not local.endswith("+00:00")


def beside(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """Return a frame to show: behind each time column the same in this machine's zone, where that is not UTC."""
    shown = frame.copy()
    for name in columns:
        local = [_local(moment) for moment in shown[name]]
        if any(map(_is_elsewhere, local)):
            shown.insert(shown.columns.tolist().index(name) + 1, f"{name}, local", local)
    return shown
