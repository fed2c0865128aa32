"""Times at the two ends of what there is: an event of the year 1 or of the last second of 9999 stops nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from pik import events
from pik.frames import frame
from pik.notebooks import charts
from pik.workbench import times
from pik.workbench.detect import gaps


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("0001-01-01T00:00:00.000000Z", "0001-01-02T00:00:00.000000Z"),
        ("9999-12-31T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"),
        ("0001-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_a_baseline_begins_and_ends_within_what_there_is(start: str, end: str) -> None:
    first, last = gaps.with_baseline(start, end, 28)
    assert events.format_time(times.FIRST) <= first <= start
    assert last >= end


def test_the_last_day_ends_with_the_last_moment() -> None:
    start, end = times.moment("9999-12-31"), times.moment(times.next_day("9999-12-31"))
    assert start < "9999-12-31T23:59:59.000000Z" < end
    assert times.days(start, end) == ["9999-12-31"]
    assert times.moment(times.next_day("2024-02-28")) == "2024-02-29T00:00:00.000000Z"


def test_the_first_moment_has_no_day_before_it() -> None:
    first = events.format_time(times.FIRST)
    assert times.days(first, times.moment("0001-01-02")) == ["0001-01-01"]
    assert times.shifted(times.FIRST, timedelta(microseconds=-1)) == times.FIRST


def test_charts_reach_to_both_ends() -> None:
    happened = [times.FIRST, times.LAST, datetime(2026, 1, 1, tzinfo=UTC)]
    came = [datetime(2026, 11, 27, tzinfo=UTC)] * 3
    arrivals = pd.DataFrame({"event_time": happened, "ingest_time": came, "status": ["ACCEPTED"] * 3})
    assert charts.lag_heat_map(arrivals, "finding").to_dict()
    assert charts.by_time(arrivals, "finding", time="event_time").to_dict()


@pytest.fixture
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine in the zone that the test names."""
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def gap() -> pd.DataFrame:
    """A gap over the night in which Berlin's clocks went forward."""
    edges = {"start": "2026-03-28T23:30:00Z", "end": "2026-03-29T06:00:00.5Z"}
    row = {name: events.parse_time(text) for name, text in edges.items()}
    return frame(gaps.GAPS, [row | {"minutes": 390.0, "expected": 20.0, "seen": 0, "score": 3.0}])


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize(
    ("zone", "told", "columns"),
    [
        ("UTC", "", []),
        (
            "Europe/Berlin",
            " (local time: 2026-03-29 00:30:00+01:00 to 2026-03-29 08:00:00+02:00)",
            ["2026-03-29 00:30:00+01:00"],
        ),
        ("Europe/London", " (local time: 2026-03-28 23:30:00+00:00 to 2026-03-29 07:00:00+01:00)", []),
    ],
    indirect=["zone"],
)
def test_where_a_gap_is_stated_local_time_stands_beside_utc(told: str, columns: list[str]) -> None:
    found = gaps.Gaps(gap(), "UA", None, "", "", 9, 3, 1.0)

    (sentence,) = found.sentences
    assert f"from 2026-03-28 23:30:00 to 2026-03-29 06:00:00 UTC{told}: 20 events" in sentence
    assert found.found[0]["start"] == "2026-03-28T23:30:00.000000Z"
    shown = times.beside(found.frame, ["start", "end"])
    assert list(shown.get("start, local", [])) == columns
    assert list(found.frame.columns) == gaps.GAPS.names  # the frame itself stays as it is


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles"], indirect=True)
def test_local_time_stops_at_nothing(zone: None) -> None:
    assert times.local_window(times.FIRST, times.LAST).startswith(" (local time: 0001-01-01")
