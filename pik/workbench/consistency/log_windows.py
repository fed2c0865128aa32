"""Log lines that name an event, from short windows around the times at which something happened to it.

CloudWatch has no index: FilterLogEvents reads every line of the window that it is given. So nothing here asks for "all
since": a window is a few minutes around a time that a store tells, and reading it ends after a number of requests.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pik import clock, events
from pik.errors import AwsError
from pik.workbench import log_lines

if TYPE_CHECKING:
    from pik.aws.connection import Connection

Line = dict[str, Any]
MOST_WINDOWS = 50
REQUESTS = 20  # for one window
_BEFORE, _BEHIND = timedelta(minutes=1), timedelta(minutes=2)  # a request takes half a minute at most
_AFTER = timedelta(hours=1)  # how long after it was sent a message is usually dealt with
_RECENT = timedelta(hours=24)
_STEPS = (timedelta(minutes=5), timedelta(hours=1), timedelta(hours=6), _RECENT)
_PARALLEL = 8


@dataclass(frozen=True, order=True)
class Window:
    """A function's log, from ``start`` to ``end`` (left out)."""

    function: str
    start: datetime
    end: datetime

    @classmethod
    def at(cls, function: str, time: str) -> Window:
        """Return the minutes around a time in the kit's format."""
        moment = events.parse_time(time)
        return cls(function, moment - _BEFORE, moment + _BEHIND)

    @classmethod
    def after(cls, function: str, time: str) -> Window:
        """Return the hour after a time in the kit's format."""
        moment = events.parse_time(time)
        return cls(function, moment - _BEFORE, moment + _AFTER)

    @classmethod
    def until_now(cls, function: str, since: datetime | None = None, *, reach: timedelta = _RECENT) -> Window:
        """Return what is between ``since`` and now; by default ``reach``, the last day."""
        now = datetime.now(UTC)
        return cls(function, since or now - reach, now + clock.AHEAD)  # AWS's clock may be ahead of ours

    def __str__(self) -> str:
        return f"{self.function} log from {self.start:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} UTC"


def backwards(function: str) -> Iterator[Window]:
    """Yield the last minutes, what of the last hour is before them, and so on: a window is read from its beginning."""
    now, end = datetime.now(UTC), Window.until_now(function).end
    for reach in _STEPS:
        yield Window(function, now - reach, end)
        end = now - reach


def merged(windows: Iterable[Window]) -> list[Window]:
    """Return windows with those that overlap made one, by function and time."""
    found: list[Window] = []
    for window in sorted(windows):
        last = found[-1] if found else None
        if last and last.function == window.function and window.start <= last.end:
            found[-1] = Window(last.function, last.start, max(last.end, window.end))
        else:
            found.append(window)
    return found


def naming(aws: Connection, event_id: str, windows: Iterable[Window]) -> tuple[list[Line], list[str]]:
    """Return the lines of some windows that name an event, in the order of time, and what was not read, and why."""
    wanted = merged(windows)
    unread = [f"{len(wanted) - MOST_WINDOWS:,} more times"] if len(wanted) > MOST_WINDOWS else []
    with ThreadPoolExecutor(_PARALLEL) as pool:
        read = list(pool.map(lambda window: _read(aws, event_id, window), wanted[:MOST_WINDOWS]))
    lines = [line for found, _ in read for line in found]
    return sorted(lines, key=lambda line: line["time"]), [why for _, why in read if why] + unread


def _read(aws: Connection, event_id: str, window: Window) -> tuple[list[Line], str]:
    try:
        found, _, complete = log_lines.lines(
            aws, window.function, [event_id], window.start, window.end, requests=REQUESTS
        )
    except AwsError as error:  # the stores are worth telling without the logs
        return [], f"{window}: {error.reason or error.message}"
    return found, "" if complete else f"{window}: more than {REQUESTS} requests read"


def without_repeats(lines: Iterable[Line]) -> Iterator[Line]:
    """Yield lines that were read in two windows once."""
    seen = set[tuple[Any, ...]]()
    for line in lines:
        key = (line["time"], line["log_stream"], line["line"])
        if key not in seen:
            seen.add(key)
            yield line
