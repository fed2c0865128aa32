"""One search over every source: ranked, with the scores that a search of each source gives, within bounds."""

from __future__ import annotations

import shlex
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pik import frames
from pik.errors import Refused, UsageError
from pik.events import parse_time
from pik.notebooks.investigations import base, conflicts, drift, health, late, queues, stores, storms
from pik.notebooks.investigations.missing import MissingWindow
from pik.results import Verdict
from pik.workbench.detect import gap_search, gaps
from pik.workbench.detect.baseline import DAY_US, HOUR_US, Times
from pik.workbench.detect.gaps import Gaps
from tests.unit.workbench.detect.test_gaps import FIRST, WEEKS, made_up

NOON = FIRST + 9 * 24 * HOUR_US + 12 * HOUR_US


def without(times: Times, hours: float) -> Times:
    """The stream, silent from noon of the tenth day."""
    return times[(times < NOON) | (times > NOON + hours * HOUR_US)]


class Streams:
    """A workbench over made-up sources, which refuses to read more rows than it is allowed."""

    def __init__(self, sources: dict[str, Times], types: int = 1) -> None:
        self.times, self.types = sources, types
        self.read: list[str] = []
        self.environment = SimpleNamespace(name="dev")

    def sources(self) -> pd.DataFrame:
        rows = [
            {
                "source": name,
                "event_type": f"t{number}",
                "first_day": str(pd.Timestamp(times[0], unit="us").date()),
                "last_day": str(pd.Timestamp(times[-1], unit="us").date()),
            }
            for name, times in self.times.items()
            for number in range(self.types)
        ]
        return frames.frame(frames.SOURCES, rows, complete=True)

    def events(self, *, source: str, limit: int, start: str, end: str, **_: Any) -> pd.DataFrame:
        times = self.times.get(source, np.array([], np.int64))
        low, high = (int(parse_time(text).timestamp()) * 1_000_000 for text in (start, end))
        times = times[(times >= low) & (times < high)]
        if len(times) > limit:
            raise Refused(f"more than {limit:,} rows answer this")
        self.read.append(source)
        moments = pd.to_datetime(pd.Series(times), unit="us", utc=True)
        frame = pd.DataFrame({"event_time": moments, "ingest_time": moments})
        for name in ("event_type", "entity_id", "event_id"):
            frame[name] = f"{source}-{name}"
        return frame

    def gaps(self, source: str, event_type: str | None = None, **options: Any) -> Gaps:
        return gaps.gaps(self, source, event_type, **options)


def search(wb: Streams, source: str | None = None, **window: str) -> gap_search.GapSearch:
    return gap_search.search(wb, source, **{**WEEKS, **window})  # type: ignore[arg-type]


def page(wb: Streams, monkeypatch: pytest.MonkeyPatch, **given: Any) -> MissingWindow:
    monkeypatch.setattr(base, "connect", lambda _: wb)
    monkeypatch.setattr(base, "environment", lambda _: wb.environment)
    inputs = {"source": "", "event_type": "", "day": "", **WEEKS, "expected": 0.0, **given}
    return MissingWindow("dev", **inputs)


@pytest.fixture
def shops() -> Streams:
    """Two silent sources of three: the one that comes last by name lost most."""
    return Streams({"A": without(made_up(1), 4), "B": made_up(2), "C d": without(made_up(3), 8)})


def test_every_source_is_searched_and_the_highest_score_comes_first(shops: Streams) -> None:
    found = search(shops)

    assert found.frame["source"].tolist() == ["C d", "A"]
    assert found.frame["score"].is_monotonic_decreasing
    assert shops.read == ["A", "B", "C d"]
    assert set(found.arrivals["entity_id"]) == {"C d-entity_id"}
    assert found.edges.groupby("source").size().to_dict() == {"A": 2, "C d": 2}


@pytest.mark.parametrize("source", ["A", "C d"])
def test_a_gap_has_the_same_score_whether_one_source_or_all_are_searched(shops: Streams, source: str) -> None:
    one, every = search(shops, source).frame, search(shops).frame

    assert one.to_dict("records") == every[every["source"] == source].to_dict("records")


def test_no_more_is_read_than_a_search_may(shops: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    days = 15  # the window, and none around it: it is longer than what a baseline is learned from
    monkeypatch.setattr(gap_search, "MOST_QUERIES", 2 * days * 8 - 1)
    found = search(shops)
    assert shops.read == ["A"]
    assert list(found.unsearched) == ["B", "C d"]

    monkeypatch.undo()
    monkeypatch.setattr(gap_search, "MOST", len(shops.times["A"]))
    found = search(shops)
    assert [one.source for one in found.streams] == ["A"]
    assert list(found.unsearched) == ["B", "C d"]
    assert "more than 0 rows" in found.unsearched["B"]


def test_sources_of_another_time_are_not_read(shops: Streams) -> None:
    assert search(shops, start="2014-01-01T00:00:00.000000Z", end="2014-01-02T00:00:00.000000Z").streams == ()
    assert shops.read == []


def test_the_page_searches_every_source_when_none_is_chosen(shops: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = page(shops, monkeypatch)
    result = asked.result()

    assert [check.verdict for check in result.checks] == [Verdict.FAILED, Verdict.FAILED, Verdict.PASSED]
    assert result.headline.startswith("C d was silent from 2013-01-10 1")
    assert result.checks[2].sentence.startswith("1 of 3 sources have no silence")
    assert [item["source"] for item in result.facts["found"]] == ["C d", "A"]
    assert "C d was silent" in str(asked.chart().to_dict()["title"])
    assert list(asked.table().frame["source"]) == ["C d", "A"]
    assert shops.read == ["A", "B", "C d"]


def test_the_score_is_explained_where_it_is_shown(shops: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = page(shops, monkeypatch)

    assert "a healthy stream shows such a silence in " in asked.result().checks[0].sentence
    assert asked.table().caption == gaps.SCORE
    assert "without a unit" in gaps.SCORE
    assert "\n" not in gaps.SCORE


def test_what_could_not_be_judged_is_never_passed(shops: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    shops.times["young d"] = made_up(4, days=2)
    result = page(shops, monkeypatch, start="2013-01-02", end="2013-01-03").result()

    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.checks[-1].sentence.startswith("1 source cannot be judged; the first: Gaps of young d cannot be")
    given = shlex.split(result.checks[-1].remedy)
    assert given[:5] == ["pik", "run", "missing-window", "--env", "dev"]
    assert "source=young d" in given

    monkeypatch.setattr(gap_search, "MOST_QUERIES", 1)
    (check,) = page(shops, monkeypatch, start="2013-01-02", end="2013-01-03").result().checks
    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.sentence == "4 sources were not searched."


def test_a_window_without_any_event_says_when_there_are_some(shops: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    (check,) = page(shops, monkeypatch, start="2026-01-01", end="2026-01-02").result().checks

    assert check.verdict is Verdict.INCONCLUSIVE
    assert check.remedy == "pik run missing-window --env dev -p start=2013-01-02 -p end=2013-01-16"
    (check,) = page(Streams({}), monkeypatch).result().checks
    assert check.sentence == "There is nothing yet: no event of any source."


def test_nothing_else_is_said_when_every_source_was_silent(shops: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    del shops.times["B"]
    result = page(shops, monkeypatch).result()

    assert [check.verdict for check in result.checks] == [Verdict.FAILED, Verdict.FAILED]
    assert not [check for check in result.checks if "There is nothing yet" in check.sentence]


def test_a_rate_is_that_of_one_source(shops: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="expected needs a source"):
        page(shops, monkeypatch, expected=4.0).result()


@pytest.mark.parametrize(("day", "which"), [("2013-01-20", "last"), ("2012-12-24", "first")])
def test_a_window_without_a_pause_is_not_judged(
    shops: Streams, monkeypatch: pytest.MonkeyPatch, day: str, which: str
) -> None:
    end = f"{day}T23:00:00Z"
    (check,) = page(shops, monkeypatch, source="B", start=day, end=end).result().checks

    assert check.verdict is Verdict.INCONCLUSIVE
    assert f"its {which} event is at 2013-01-" in check.sentence


OTHERS: tuple[type[base.Investigation], ...] = (
    late.LateData,
    storms.DuplicateStorm,
    conflicts.ConflictingPayloads,
    queues.QueueAndDlq,
    drift.AggregateDrift,
    stores.StoresReconciliation,
)


def test_a_day_is_not_healthy_when_nothing_came_of_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    day = FIRST + 9 * DAY_US
    silent = made_up(1)
    wb = Streams({"A": silent[(silent < day) | (silent >= day + DAY_US)], "B": made_up(2), "gone": made_up(3, days=5)})
    monkeypatch.setattr(base, "connect", lambda _: wb)
    monkeypatch.setattr(base, "environment", lambda _: wb.environment)
    monkeypatch.setattr(health.DailyHealth, "_arrivals", lambda _: pd.DataFrame({"source": ["B"]}))
    for other in OTHERS:
        monkeypatch.setattr(other, "findings", lambda _: [])

    found = health.DailyHealth("dev", day="2013-01-10", most=1).answers["Missing window"]

    assert [(one.verdict, one.blocking) for one in found] == [
        (Verdict.FAILED, True),
        (Verdict.PASSED, True),
        (Verdict.INCONCLUSIVE, False),
    ]
    assert found[0].sentence.startswith("A was silent from 2013-01-09 2")
    assert "its last event is at 2013-01-05" in found[2].sentence
