"""Duplicate storms and ordinary retries, with many seeds."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pik.frames import EVENTS, frame
from pik.workbench.detect.duplicates import STORMS, judge

START = datetime(2026, 3, 2, tzinfo=UTC)


def arrival(number: int, at: datetime, request: str, status: str = "ACCEPTED") -> dict[str, Any]:
    return {
        "event_id": f"e{number}",
        "status": status,
        "source": "UA",
        "producer": "ana",
        "entity_id": f"N{number % 40}",
        "event_time": START + timedelta(minutes=number),
        "ingest_time": at,
        "client_request_id": request,
        "sk": f"{number}#{at.isoformat()}#{status}",
    }


def healthy(seed: int, every: timedelta, count: int = 400) -> list[dict[str, Any]]:
    """Events, and for one in two hundred of them a retry some seconds later."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        at = START + every * number
        rows.append(arrival(number, at, f"r{number}"))
        if rng.random() < 0.005:
            rows.append(arrival(number, at + timedelta(seconds=rng.uniform(1, 8)), f"r{number}", "DUPLICATE"))
    return rows


@pytest.mark.parametrize("every", [timedelta(milliseconds=10), timedelta(minutes=2)], ids=["backfill", "live"])
@pytest.mark.parametrize("seed", range(10))
def test_ordinary_retries_are_no_storm(seed: int, every: timedelta) -> None:
    assert judge(frame(EVENTS, healthy(seed, every, 2000))).found == []


@pytest.mark.parametrize("every", [timedelta(milliseconds=10), timedelta(minutes=2)], ids=["backfill", "live"])
@pytest.mark.parametrize("seed", range(20))
def test_a_storm_is_named_event_by_event(seed: int, every: timedelta) -> None:
    rng = random.Random(seed)
    rows = healthy(seed, every)
    begin = rng.randrange(50, 340)
    numbers = range(begin, begin + rng.randrange(8, 30))
    same, repeats = rng.random() < 0.5, rng.randrange(3, 9)
    start = START + every * numbers[-1] + timedelta(minutes=10)
    for again in range(repeats):
        for n in numbers:
            request = f"r{n}" if same else f"r{n}-{again}"
            rows.append(arrival(n, start + timedelta(seconds=rng.uniform(0, 300)), request, "DUPLICATE"))
    (found,) = judge(frame(EVENTS, rows)).found
    assert found["event_ids"] == sorted(f"e{n}" for n in numbers)
    assert found["same_request"] == (found["duplicates"] if same else 0)
    assert found["surprise"] >= 3


def test_a_whole_file_sent_again_is_a_storm_of_single_repeats() -> None:
    rows = healthy(1, timedelta(minutes=2))
    rows += [arrival(n, START + timedelta(days=2, seconds=n), f"again-{n}", "DUPLICATE") for n in range(100)]
    told = judge(frame(EVENTS, rows))
    assert [(item["events"], item["new_requests"]) for item in told.found] == [(100, 100)]
    assert "each a new request" in told.sentences[0]


def test_nothing_gives_an_empty_frame_of_the_same_columns() -> None:
    told = judge(frame(EVENTS, []))
    assert list(told.frame.columns) == STORMS.names
    assert told.found == []
