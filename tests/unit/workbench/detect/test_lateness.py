"""Late batches, clocks that are ahead, and healthy streams, with many seeds."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from pik.frames import EVENTS, frame
from pik.workbench.detect.lateness import LATENESS, judge

START = datetime(2026, 3, 2, tzinfo=UTC)


def healthy(seed: int, *, count: int = 400, shift: timedelta = timedelta()) -> list[dict[str, Any]]:
    """Events every two minutes that come some seconds later; ``shift`` is how long ago all of it happened."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        at = START + timedelta(minutes=2 * number)
        lag = shift + timedelta(seconds=min(600.0, 20 * rng.lognormvariate(0, 0.8)))
        rows.append(row(number, at, at + lag, entity=f"N{rng.randrange(40)}"))
    return rows


def row(number: int, at: datetime, came: datetime, *, entity: str) -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "status": "ACCEPTED",
        "entity_id": entity,
        "producer": "ana",
        "event_time": at,
        "ingest_time": came,
        "lag_ms": (came - at) // timedelta(milliseconds=1),
    }


def late(rows: list[dict[str, Any]], numbers: range, came: datetime) -> list[dict[str, Any]]:
    return [
        row(n, r["event_time"], came + timedelta(seconds=n % 60), entity=r["entity_id"]) if n in numbers else r
        for n, r in enumerate(rows)
    ]


@pytest.mark.parametrize("shift", [timedelta(), timedelta(hours=3), timedelta(days=4700)])
@pytest.mark.parametrize("seed", range(10))
def test_a_healthy_stream_is_not_late_whatever_its_usual_lag(seed: int, shift: timedelta) -> None:
    assert judge(frame(EVENTS, healthy(seed, shift=shift))).found == []


def test_a_backfill_of_two_weeks_in_a_minute_is_not_late() -> None:
    rows = [
        row(n, START + timedelta(minutes=20 * n), START + timedelta(days=4700, seconds=n / 20), entity="N1")
        for n in range(1000)
    ]
    assert judge(frame(EVENTS, rows)).found == []


@pytest.mark.parametrize("seed", range(20))
def test_a_late_batch_is_named_event_by_event(seed: int) -> None:
    rng = random.Random(seed)
    rows = healthy(seed)
    first = rng.randrange(50, 300)
    numbers = range(first, first + rng.randrange(12, 40))
    came = rows[numbers[-1]]["event_time"] + timedelta(minutes=rng.randrange(60, 480))
    told = judge(frame(EVENTS, late(rows, numbers, came)))
    (found,) = told.found
    assert found["kind"] == "late"
    assert found["event_ids"] == sorted(f"e{n}" for n in numbers)
    assert len(told.sentences) == 1


def test_two_batches_are_two() -> None:
    rows = late(healthy(3), range(50, 70), START + timedelta(hours=9))
    rows = late(rows, range(200, 230), START + timedelta(hours=20))
    assert [item["events"] for item in judge(frame(EVENTS, rows)).found] == [20, 30]


@pytest.mark.parametrize("seed", range(20))
def test_a_clock_that_is_ahead_is_named_by_entity(seed: int) -> None:
    ahead = timedelta(minutes=random.Random(seed).randrange(15, 120))
    rows = [
        row(n, r["event_time"] + ahead, r["ingest_time"], entity="N7") if r["entity_id"] == "N7" else r
        for n, r in enumerate(healthy(seed))
    ]
    (found,) = judge(frame(EVENTS, rows)).found
    assert (found["kind"], found["entity_id"], found["producer"]) == ("clock ahead", "N7", "ana")
    assert found["events"] == sum(r["entity_id"] == "N7" for r in rows)


def test_too_few_events_say_nothing_and_repeats_are_not_judged() -> None:
    few = judge(frame(EVENTS, healthy(1, count=5)))
    assert "too few" in few.problem
    assert isinstance(few.frame, pd.DataFrame)
    assert list(few.frame.columns) == LATENESS.names
    rows = healthy(2)
    again = {**rows[0], "status": "DUPLICATE", "lag_ms": 10**9}
    assert judge(frame(EVENTS, [*rows, again])).found == []
