"""Messages that were sent and whose event is not counted yet, known from the tables: nothing is received for it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pik import events
from pik.aws.reading import Row, StoreReader
from pik.replays import reading
from pik.replays.records import Replay
from pik.replays.sent import sent
from pik.replays.versions import contributions

RETENTION = timedelta(days=14)  # of both queues


def outstanding(stores: StoreReader, limit: int) -> tuple[list[Row], bool]:
    """Return messages sent in the last 14 days whose event is not counted, newest replay first; and whether all.

    Each is the row of the events table that the message refers to, with the ``replay_id``.
    """
    since = events.format_time(datetime.now(UTC) - RETENTION)
    found = reading.every(stores).values()
    recent = [replay for replay in found if replay.total("sent") and replay.row()["finished"] >= since]
    versions = stores.versions((r.head["entity_id"], day, r.replay_id) for r in recent for day in r.expected)
    rows: list[Row] = []
    for replay in reversed(recent):
        counted = {
            day: (versions[replay.head["entity_id"], day, replay.replay_id] or {"input_count": 0})["input_count"]
            for day in replay.expected
        }
        if all(counted[day] >= expected for day, expected in replay.expected.items()):
            continue
        rows += _of(stores, replay)
        if len(rows) > limit:
            return rows[:limit], False
    return rows, True


def _of(stores: StoreReader, replay: Replay) -> list[Row]:
    """The messages of one replay whose event is not counted: what was dealt with, less the contributions."""
    entity, head = str(replay.head["entity_id"]), replay.head
    counted = {
        row["event_id"] for day in replay.expected for row in contributions(stores, entity, day, replay.replay_id)
    }
    finished = replay.row()["finished"]
    window = stores.arrivals(entity, str(head["start_time"]), str(head["end_time"]))
    return [
        {**row, "replay_id": replay.replay_id, "sent": finished, "basis": "expected", "age_s": None}
        for row in sent(replay, window).rows
        if row["event_id"] not in counted
    ]
