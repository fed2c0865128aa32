"""Which events a replay sent, told apart from those that arrived in its window since.

A window stays open for late events: what the events table lists for it grows after it was replayed. The replay's own
record (:mod:`pik.replays.records`) says how far each request read and how many events of each day it sent; the rows say
when they arrived. Together they name the events that were sent, whenever one asks.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pik import events
from pik.replays.records import Replay, Row


@dataclass(frozen=True)
class SentRows:
    """The rows of the events table that a replay sent, duplicates among them where it included them.

    ``unsure``: days of which one cannot say for certain: an event arrived in the seconds in which the request read that
    day, so that its row may or may not have been there. The first to arrive are taken.
    """

    rows: tuple[Row, ...] = field(repr=False)
    unsure: frozenset[str] = frozenset()


def sent(replay: Replay, arrivals: Iterable[Row]) -> SentRows:
    """Return what ``replay`` sent of ``arrivals``: all rows that its window holds now, in the order of their keys."""
    duplicates = bool(replay.head.get("include_duplicates"))
    wanted = {events.ACCEPTED, events.DUPLICATE} if duplicates else {events.ACCEPTED}
    rows, unsure, begin = list[Row](), set[str](), ""
    matching = [row for row in arrivals if row["status"] in wanted]
    for page in replay.chain:
        read = [row for row in matching if begin < row["SK"] <= page["next"] and _was_there(row, page)]
        surplus = set(_surplus(read, page))
        unsure |= {day for day, _ in surplus}
        rows += [row for row in read if (_day(row), row["SK"]) not in surplus]
        begin = str(page["next"])
    return SentRows(tuple(rows), frozenset(unsure))


def _was_there(row: Row, page: Row) -> bool:
    """Whether a row had arrived, and had not expired, when a request ended."""
    return bool(row["ingest_time"] <= page["finished"] and row["expires_at"] > events.epoch(str(page["finished"])))


def _surplus(read: Iterable[Row], page: Row) -> Iterator[tuple[str, str]]:
    """Yield (day, key) of the first arrivals that are more than the request says it sent: the last to arrive."""
    days = defaultdict[str, list[Row]](list)
    for row in read:
        if row["status"] == events.ACCEPTED:
            days[_day(row)].append(row)
    counted = Counter({day: int(number) for day, number in page["days"].items()})
    for day, rows in days.items():
        by_arrival = sorted(rows, key=lambda row: (row["ingest_time"], row["SK"]))
        yield from ((day, row["SK"]) for row in by_arrival[counted[day] :])


def _day(row: Row) -> str:
    return str(row["event_time"])[:10]
