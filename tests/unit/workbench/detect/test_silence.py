"""Which silence shows in which stream: from one event an hour to a hundred a second, and what comes in batches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pik.events import format_time, parse_time
from pik.notebooks.investigations import base, late, missing
from pik.workbench.detect import gaps
from pik.workbench.detect.baseline import DAY_US, HOUR_US, SECOND_US, Learned, Times
from pik.workbench.detect.gaps import Gaps, _moment, judge
from pik.workbench.detect.lateness import lateness as late_judge

FIRST = int(parse_time("2013-01-01T00:00:00Z").timestamp()) * SECOND_US
MINUTE_US = 60 * SECOND_US
Make = Callable[[np.random.Generator], Times]


def poisson(rng: np.random.Generator, hourly: float, days: int, minutes: int = 24 * 60) -> Times:
    """A stream without memory, all day or so many minutes from noon on."""
    start = 12 * HOUR_US if minutes < 24 * 60 else 0
    found = [
        FIRST + day * DAY_US + start + np.sort(rng.uniform(0, minutes * MINUTE_US, rng.poisson(hourly * minutes / 60)))
        for day in range(days)
    ]
    return np.concatenate(found).astype(np.int64)


def look(times: Times, **options: Any) -> Gaps:
    days = int((times[-1] - FIRST) // DAY_US) + 1
    window = {"start": at(FIRST), "end": at(FIRST + days * DAY_US)}
    return judge(times, source="s", **{**window, **options})


def at(micro: int) -> str:
    return format_time(_moment(micro))


def without(times: Times, start: int, seconds: float) -> tuple[Times, tuple[int, int]]:
    """Drop a stretch; return what is left, and the last event before and the first one after."""
    end = start + int(seconds * SECOND_US)
    kept = times[(times < start) | (times >= end)]
    return kept, (int(kept[kept < start].max()), int(kept[kept >= end].min()))


def edges(found: Gaps) -> list[tuple[int, int]]:
    return [(row["start"].value // 1000, row["end"].value // 1000) for row in found.frame.to_dict("records")]


STREAMS: dict[str, Make] = {
    "1/h": lambda rng: poisson(rng, 1, 28),
    "1/min": lambda rng: poisson(rng, 60, 15),
    "1/s": lambda rng: poisson(rng, 3600, 4),
    "100/s": lambda rng: poisson(rng, 360_000, 6, minutes=5),
}
# An outage of so many seconds shows, or does not because a healthy stream has such pauses too.
POWER = [
    ("1/h", 24 * 3600, True),
    ("1/h", 3 * 3600, False),
    ("1/min", 30 * 60, True),
    ("1/min", 20 * 60, True),
    ("1/min", 5 * 60, False),
    ("1/s", 600, True),
    ("1/s", 60, True),
    ("1/s", 30, True),
    ("1/s", 8, False),
    ("100/s", 60, True),
    ("100/s", 5, True),
    ("100/s", 1, False),
]


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("stream", "seconds", "shows"), POWER)
def test_an_outage_shows_with_its_exact_edges(stream: str, seconds: float, shows: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    times = STREAMS[stream](rng)
    noon = int(times[len(times) // 2]) // DAY_US * DAY_US + 12 * HOUR_US
    kept, hole = without(times, noon + int(rng.uniform(60, 120) * SECOND_US), seconds)

    found = look(kept)

    assert edges(found) == ([hole] if shows else [])
    missed = seconds * {"1/h": 1 / 3600, "1/min": 1 / 60, "1/s": 1, "100/s": 100}[stream]
    assert (found.shortest < missed) == shows


def ticks(rng: np.random.Generator, every: int, count: int, jitter: float, days: int) -> Times:
    """Events that are sent together, ``count`` of them every so many seconds."""
    sent = np.arange(FIRST, FIRST + days * DAY_US, every * SECOND_US)
    sent = sent + (rng.uniform(0, jitter, len(sent)) * SECOND_US).astype(np.int64)
    return np.sort((sent[:, None] + rng.integers(0, 300_000, (len(sent), count))).ravel())


SHAPES: dict[str, Make] = {
    **STREAMS,
    "flushed every minute": lambda rng: ticks(rng, 60, 20, 0.2, 6),
    "flushed about every minute": lambda rng: ticks(rng, 60, 20, 4, 6),
    "flushed every ten seconds": lambda rng: ticks(rng, 10, 5, 1, 3),
    "flushed about every five minutes": lambda rng: ticks(rng, 300, 30, 60, 7),
    "in the first minutes of each hour": lambda rng: ticks(rng, 3600, 60, 120, 14),
    "once a day": lambda rng: ticks(rng, 86_400, 500, 0.1, 14),
    "told to the minute": lambda rng: np.sort(poisson(rng, 60, 14) // MINUTE_US * MINUTE_US),
    "told to the hour": lambda rng: np.sort(poisson(rng, 20, 14) // HOUR_US * HOUR_US),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_healthy_stream_has_no_gap(shape: str) -> None:
    found = [len(look(SHAPES[shape](np.random.default_rng(seed)))) for seed in range(2)]
    assert found == [0] * 2


@pytest.mark.parametrize("shape", ["flushed every minute", "in the first minutes of each hour", "told to the hour"])
def test_an_outage_of_a_stream_in_batches_shows(shape: str) -> None:
    times = SHAPES[shape](np.random.default_rng(1))
    kept, hole = without(times, FIRST + 3 * DAY_US + 10 * HOUR_US - MINUTE_US, 4 * 3600)
    assert edges(look(kept)) == [hole]


def test_what_should_have_come_is_learned_from_the_other_days() -> None:
    """An outage must not lower what is expected of its own day: of three days it would be a third."""
    times = poisson(np.random.default_rng(5), 60, 3)
    kept, _ = without(times, FIRST + DAY_US + 6 * HOUR_US, 6 * 3600)
    (row,) = look(kept).frame.to_dict("records")
    assert row["expected"] == pytest.approx(360, rel=0.12)
    baseline = Learned(kept)
    assert baseline.expected(FIRST + DAY_US + 6 * HOUR_US, FIRST + DAY_US + 12 * HOUR_US) > 330


def test_the_scatter_of_a_day_is_measured_against_the_other_days() -> None:
    """Hours busier or quieter at random, by half of their mean: of four days, their own would excuse a third of it."""
    found = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        counts = rng.poisson(rng.gamma(2, 40, 4 * 24))
        hours = np.repeat(FIRST + np.arange(4 * 24) * HOUR_US, counts)
        found.append(Learned(np.sort(hours + rng.integers(0, HOUR_US, len(hours)))).dispersion)
    assert np.mean(found) == pytest.approx(0.5, abs=0.12)


def test_batches_scatter_within_seconds_and_not_within_minutes() -> None:
    batches = Learned(ticks(np.random.default_rng(1), 60, 60, 0.2, 6))
    assert batches.dispersion_at(15 * SECOND_US) > 2
    assert batches.dispersion_at(300 * SECOND_US) < 0.1


def test_the_bound_is_never_below_what_is_expected() -> None:
    rng = np.random.default_rng(7)
    times = poisson(rng, 30, 6)
    baseline = Learned(times)
    starts = FIRST + rng.integers(0, 5 * DAY_US, 200)
    ends = starts + rng.integers(SECOND_US, DAY_US, 200)
    bounds = baseline.bound(starts, ends)
    expected = [baseline.expected(int(a), int(b)) for a, b in zip(starts, ends, strict=True)]
    assert (bounds >= np.array(expected) * (1 - 1e-9)).all()


class Reads:
    """A workbench that counts what is read."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def events(self, **asked: Any) -> pd.DataFrame:
        self.asked.append(asked)
        times = pd.to_datetime(poisson(np.random.default_rng(1), 20, 14) // 1000, unit="ms", utc=True)
        frame = pd.DataFrame({"event_time": times, "ingest_time": times, "status": "ACCEPTED", "lag_ms": 5})
        for name in ("event_type", "entity_id", "event_id", "producer", "sk"):
            frame[name] = [str(number) for number in range(len(frame))]
        return frame

    def gaps(self, source: str, event_type: str | None, **options: Any) -> Gaps:
        return gaps.gaps(self, source, event_type, **options)

    def lateness(self, source: str, event_type: str | None, **options: Any) -> Any:
        return late_judge(self, source, event_type, **options)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    """Every investigation asks this workbench."""
    wb = Reads()
    monkeypatch.setattr(base, "connect", lambda _: wb)
    monkeypatch.setattr(base, "environment", lambda _: type("E", (), {"name": "dev"}))
    return wb


def test_a_page_about_gaps_reads_a_few_columns_once(reads: Reads) -> None:
    page = missing.MissingWindow("dev", source="s", event_type="", day="2013-01-07", start="", end="", expected=0.0)
    for answer in (page.chart, page.table, page.around, page.result):
        answer()
    (asked,) = reads.asked
    assert len(asked["columns"]) == 5
    assert (asked["start"], asked["limit"]) == ("2012-12-25T00:00:00.000000Z", gaps.MOST)


def test_a_page_about_a_given_baseline_reads_its_window_only(reads: Reads) -> None:
    page = missing.MissingWindow("dev", source="s", event_type="", day="2013-01-07", start="", end="", expected=4.0)
    page.result()
    (asked,) = reads.asked
    assert (asked["start"], asked["end"]) == ("2013-01-07T00:00:00.000000Z", "2013-01-08T00:00:00.000000Z")


@pytest.mark.parametrize(("status", "times"), [("any", 1), ("DUPLICATE", 2)])
def test_a_page_about_lateness_reads_first_arrivals_once(reads: Reads, status: str, times: int) -> None:
    day = {"day": "2013-01-07", "start": "", "end": ""}
    page = late.LateData("dev", source="s", event_type="", status=status, **day)
    for answer in (page.heat_map, page.table, page.latest, page.result):
        answer()
    assert len(reads.asked) == times
