"""Which events a replay sent, told apart from those that arrived in its window since.

A window stays open for late events: what the events table lists for it grows after it was replayed. The replay's own
record (:mod:`pik.replays.records`) says how far each request read and how many events of each day it sent; the rows say
when they arrived. Together they name the events that were sent, whenever one asks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
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
    rows, unsure, begin = list[Row](), set[str](), ""
    every = list(arrivals)
    for recorded in replay.chain:
        page = recorded
        if replay.of_run:  # its parts are sent side by side; and what it sends was there when it was begun
            begin = str(recorded["SK"]).removeprefix("PAGE#").removeprefix("START")
            page = {**recorded, "finished": replay.head["created"]}
        read = [row for row in every if begin < row["SK"] <= page["next"] and _is_kept(row, page)]
        for day, firsts in _by_day(row for row in read if row["status"] == events.ACCEPTED).items():
            counted, present = int(page["days"].get(day, 0)), sum(_was_there(row, page) for row in firsts)
            rows += firsts[:counted]
            # More, or fewer, had arrived by the request's clock than it counted, and others are there to choose from.
            if present > counted or present < min(counted, len(firsts)):
                unsure.add(day)
        if duplicates:
            rows += [row for row in read if row["status"] == events.DUPLICATE and _was_there(row, page)]
        begin = str(page["next"])
    return SentRows(tuple(sorted(rows, key=lambda row: str(row["SK"]))), frozenset(unsure))


def _was_there(row: Row, page: Row) -> bool:
    """Whether a row had arrived when a request ended, as far as the clocks of two functions agree."""
    return bool(row["ingest_time"] <= page["finished"])


def _is_kept(row: Row, page: Row) -> bool:
    """Whether a row had not expired when a request ended."""
    return bool(row["expires_at"] > events.epoch(str(page["finished"])))


def _by_day(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """First arrivals by the day of the event, in the order in which they came."""
    days = defaultdict[str, list[Row]](list)
    for row in rows:
        days[_day(row)].append(row)
    return {day: sorted(found, key=lambda row: (row["ingest_time"], row["SK"])) for day, found in days.items()}


def _day(row: Row) -> str:
    return str(row["event_time"])[:10]
