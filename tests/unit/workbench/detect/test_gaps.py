"""Missing windows: streams with a baseline, real and made up, with and without a hole."""

from __future__ import annotations

import random

import numpy as np
import pytest

from pik import producer
from pik.errors import UsageError
from pik.events import parse_time
from pik.workbench.detect.baseline import DAY_US, HOUR_US, Given, Learned, Times, silence
from pik.workbench.detect.gaps import GAPS, Gaps, judge

WEEKS = {"start": "2013-01-01T00:00:00.000000Z", "end": "2013-01-16T00:00:00.000000Z"}
FIRST = int(parse_time(WEEKS["start"]).timestamp()) * 1_000_000


@pytest.fixture(scope="module")
def flights() -> dict[str, Times]:
    """Two weeks of real departures by carrier."""
    found: dict[str, list[int]] = {}
    for event in producer.load("flights"):
        found.setdefault(event["source"], []).append(int(parse_time(event["event_time"]).timestamp() * 1e6))
    return {source: np.sort(np.array(times, dtype=np.int64)) for source, times in found.items()}


def made_up(seed: int, *, weekday: float = 20.0, weekend: float = 6.0, days: int = 15) -> Times:
    """A stream that sleeps from 0 to 6 and is quieter at weekends (1 January 2013 was a Tuesday)."""
    rng = random.Random(seed)
    times: list[float] = []
    for day in range(days):
        rate = weekend if (day + 1) % 7 >= 5 else weekday
        at = 6.0
        while (at := at + rng.expovariate(rate)) < 24:
            times.append(FIRST + day * DAY_US + at * HOUR_US)
    return np.array(times, dtype=np.int64)


def look(times: Times, **options: object) -> Gaps:
    return judge(times, source="s", **{**WEEKS, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("source", ["AA", "B6", "DL", "EV", "HA", "MQ", "UA", "US", "WN"])
def test_real_flights_have_no_gap(flights: dict[str, Times], source: str) -> None:
    assert look(flights[source]).found == []


def test_nights_and_weekends_are_no_gaps_and_the_score_means_what_it_says() -> None:
    scores = [item["surprise"] for seed in range(40) for item in look(made_up(seed), min_score=1.0).found]
    assert len(scores) <= 10  # one random stream in ten shows a pause of score 1
    assert max(scores, default=0) < 2.5


@pytest.mark.parametrize("seed", range(20))
def test_a_dropped_window_is_named_exactly(flights: dict[str, Times], seed: int) -> None:
    rng = random.Random(seed)
    times = flights[rng.choice(["AA", "B6", "DL", "EV", "MQ", "UA"])]
    gone = np.zeros(len(times), dtype=bool)
    while gone.sum() < 14:
        start = FIRST + rng.randrange(2 * 24 * 60, 13 * 24 * 60) * 60_000_000
        end = start + rng.randrange(30, 180) * 60_000_000
        gone = (times >= start) & (times < end)
    kept = times[~gone]
    (row,) = look(kept).frame.to_dict("records")
    named = [row[name].value // 1000 for name in ("start", "end")]
    assert named == [kept[kept < start].max(), kept[kept >= end].min()]
    assert row["seen"] == 0
    assert row["score"] >= 1


def test_a_stray_event_does_not_split_an_outage() -> None:
    times = made_up(1)
    noon = FIRST + 3 * DAY_US + 12 * HOUR_US
    kept = times[(times < noon) | (times > noon + 4 * HOUR_US)]
    (row,) = look(np.append(kept, noon + 2 * HOUR_US)).frame.to_dict("records")
    assert (row["seen"], row["minutes"] > 235) == (1, True)


def test_a_whole_missing_day_is_one_gap() -> None:
    times = made_up(2)
    start, end = FIRST + 6 * DAY_US, FIRST + 7 * DAY_US
    (row,) = look(times[(times < start) | (times >= end)]).frame.to_dict("records")
    assert row["minutes"] > 24 * 60
    assert 250 < row["expected"] < 500


def test_only_pauses_that_touch_the_window_are_named() -> None:
    times = made_up(3)
    noon = FIRST + 3 * DAY_US + 12 * HOUR_US
    kept = times[(times < noon) | (times > noon + 3 * HOUR_US)]
    assert len(look(kept)) == 1
    assert len(look(kept, start="2013-01-04T00:00:00.000000Z", end="2013-01-05T00:00:00.000000Z")) == 1
    assert len(look(kept, start="2013-01-07T00:00:00.000000Z", end="2013-01-08T00:00:00.000000Z")) == 0


def test_what_nobody_can_know_is_said() -> None:
    nothing = look(np.array([], dtype=np.int64))
    assert "no events" in nothing.problem
    assert list(nothing.frame.columns) == GAPS.names
    assert "baseline needs 3" in look(made_up(4, days=2)).problem
    assert look(made_up(4)).silent_since.startswith("2013-01-15T23")


def test_a_given_baseline_judges_a_single_day_and_its_ends() -> None:
    times = made_up(5, days=1)
    kept = times[times < FIRST + 18 * HOUR_US]
    day = {"start": WEEKS["start"], "end": "2013-01-02T00:00:00.000000Z"}
    (row,) = look(kept, expected=[0] * 6 + [20] * 18, **day).frame.to_dict("records")
    assert row["end"].hour == 0
    assert row["expected"] == pytest.approx(120, abs=5)
    with pytest.raises(UsageError, match="not a number of events an hour"):
        look(kept, expected=[1, 2], **day)


def test_scattered_counts_make_silence_less_surprising() -> None:
    assert silence(15, 0.5, 100) < silence(15, 0.0, 100)
    rng = random.Random(6)
    bursts = [made_up(seed, weekday=rng.choice([5, 60]), days=1) + seed * DAY_US for seed in range(14)]
    even = [made_up(seed, days=1) + seed * DAY_US for seed in range(14)]
    assert Learned(np.concatenate(bursts)).dispersion > Learned(np.concatenate(even)).dispersion
    assert Given(2.0).expected(0, 90 * 60_000_000) == pytest.approx(3.0)
