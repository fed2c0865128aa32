from __future__ import annotations

from datetime import timedelta

import pytest

from pik.environments import Environment
from pik.errors import Refused, UsageError
from pik.events import ACCEPTED, CONFLICT, DUPLICATE, format_time, parse_time
from pik.frames import EVENTS
from pik.incidents import NAMES, inject, make, simulate
from pik.incidents.ground_truth import truth
from pik.incidents.kinds import FEWEST_DROPPED, LIVE_EVENTS
from pik.incidents.memory import MemoryWorkbench, events_frame
from pik.incidents.streams import LONGEST_USUAL_LAG

HEALTHY = ("healthy", "healthy-live")
SEEDS = range(5)


@pytest.mark.parametrize("name", NAMES)
def test_a_seed_makes_the_same_incident_and_another_seed_another(name: str) -> None:
    assert make(name, 3) == make(name, 3)
    assert truth(make(name, 3)) == truth(make(name, 3))
    assert make(name, 3).arrivals != make(name, 4).arrivals


@pytest.mark.parametrize("name", NAMES)
def test_incidents_never_meet(name: str) -> None:
    """Nobody else has this source, these entities."""
    made = make(name, 3)
    assert made.source.endswith(f"-sim-{name}-3")
    assert {arrived.event["source"] for arrived in made.arrivals} == {made.source}
    assert all(arrived.event["entity_id"].endswith(f"-sim-{name}-3") for arrived in made.arrivals)


def test_what_is_found_by_comparing_stores_has_a_day_of_its_own() -> None:
    names = [name for name in NAMES if make(name, 0).start.year < 2013]
    assert len(names) == 6
    days = [make(name, seed).start for name in names for seed in (0, 1, 999)]
    assert len(set(days)) == len(days)
    assert all(make(name, 999).end - make(name, 999).start == timedelta(days=1) for name in names)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_injected_arrivals_are_what_the_truth_names(name: str, seed: int) -> None:
    made = make(name, seed)
    told = truth(made)
    assert told["event_ids"] == sorted({arrived.parsed.event_id for arrived in made.injected})
    assert bool(told["event_ids"]) == (name not in (*HEALTHY, "dropped-window"))
    assert all(made.start <= parse_time(arrived.event["event_time"]) < made.end for arrived in made.arrivals)
    assert list(made.arrivals) == sorted(made.arrivals, key=lambda arrived: arrived.at)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_dropped_window_is_silent_and_its_edges_are_events(seed: int) -> None:
    told = truth(make("dropped-window", seed))
    times = {arrived.parsed.event_time for arrived in make("dropped-window", seed).arrivals}
    start, end = told["window"]
    assert not [time for time in times if start <= time < end]
    assert not [time for time in times if told["silence"][0] < time < told["silence"][1]]
    assert set(told["silence"]) <= times
    assert told["silence"][0] < start < end <= told["silence"][1]
    assert told["dropped"] >= FEWEST_DROPPED


@pytest.mark.parametrize("seed", SEEDS)
def test_only_the_late_are_late_and_only_the_skewed_are_ahead(seed: int) -> None:
    late, skewed = make("late-batch", seed), make("clock-skew", seed)
    assert all((arrived.lag >= timedelta(hours=1)) == arrived.injected for arrived in late.arrivals)
    assert all((arrived.lag < timedelta()) == arrived.injected for arrived in skewed.arrivals)
    assert truth(skewed)["entities"] == [skewed.facts["entity"]]
    for name in HEALTHY:
        usual = [arrived.lag for arrived in make(name, seed).arrivals]
        assert timedelta() < min(usual)
        assert max(usual) <= LONGEST_USUAL_LAG + timedelta(seconds=8)


@pytest.mark.parametrize("name", NAMES)
def test_in_memory_the_pipelines_own_rows(name: str) -> None:
    made = make(name, 3)
    frame = events_frame(made)
    assert list(frame.columns) == EVENTS.names
    assert len(frame) == len(made.arrivals)
    assert frame["event_id"].nunique() == (frame["status"] == ACCEPTED).sum()
    statuses = frame["status"].value_counts().to_dict()
    conflicts = truth(made)["arrivals"] if name == "conflicting-keys" else 0
    assert statuses.get(CONFLICT, 0) == conflicts
    if name == "duplicate-storm":
        assert statuses[DUPLICATE] >= truth(made)["arrivals"]
    if made.live:
        assert statuses[ACCEPTED] == LIVE_EVENTS


def test_a_name_that_is_nearly_right() -> None:
    with pytest.raises(UsageError, match="no such incident") as error:
        make("dropped-windows", 1)
    assert error.value.next_step == "did you mean dropped-window?"
    with pytest.raises(UsageError, match="no such seed"):
        make("poison", 1000)


def no_request(*_: object) -> Environment:
    raise AssertionError("nothing may be asked of an environment that is refused")


@pytest.mark.parametrize("env", ["dev", "staging", "prod"])
def test_only_local(env: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pik.environments.environment", no_request)
    with pytest.raises(Refused, match=f"not simulated in {env}"):
        simulate(env, "raw-deleted", 1)
    with pytest.raises(Refused, match="not simulated in local"):
        simulate(Environment("local", "us-east-1"), "raw-deleted", 1)  # not the embedded AWS
    with pytest.raises(UsageError, match="no such environment"):
        simulate("lokal", "raw-deleted", 1)


def test_the_truth_is_kept_below_the_scratch_space() -> None:
    assert inject.truth_path("local", "poison", 4).parts[-4:] == (".pik", "incidents", "local", "poison-4.json")


def test_the_memory_workbench_selects_as_the_real_one() -> None:
    made = make("duplicate-storm", 2)
    wb = MemoryWorkbench(made)
    everything = wb.events(source=made.source)
    assert len(everything) == len(made.arrivals)
    assert everything["event_time"].is_monotonic_increasing
    half = made.start + (made.end - made.start) / 2
    parts = [wb.events(start=made.start, end=half), wb.events(start=format_time(half), end=made.end)]
    assert [len(part) > 0 for part in parts] == [True, True]
    assert sum(map(len, parts)) == len(everything)
    day = str(everything["event_time"].iloc[-1])[:10]
    assert set(wb.events(day=day)["event_time"].dt.strftime("%Y-%m-%d")) == {day}
    assert set(wb.events(status="DUPLICATE")["status"]) == {"DUPLICATE"}
    stormed = truth(made)["event_ids"]
    assert set(wb.events(event_ids=stormed, status=["ACCEPTED"])["event_id"]) == set(stormed)
    assert (wb.events(min_lag="1m")["lag_ms"] >= 60_000).all()
    one = made.arrivals[0]
    came = wb.events(ingested=(one.at, one.at + timedelta(microseconds=1)), entity=one.event["entity_id"])
    assert list(came["event_id"]) == [one.parsed.event_id]
    nobody = wb.events(source="nobody")
    assert len(nobody) == 0
    assert nobody.dtypes.equals(everything.dtypes)
