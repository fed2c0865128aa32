"""Times at the two ends of what there is: an event of the year 1 or of the last second of 9999 stops nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from pik import events
from pik.workbench import charts, gaps, times


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
