"""Verification while producers send: windows are fixed, late arrivals are told apart, and nothing is guessed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pik import events, phases, project
from pik.pipeline.settings import Settings
from pik.results import Check, Verdict
from pik.rollout.checks import replaying
from pik.rollout.checks.processor import ProcessorChecks
from pik.rollout.checks.replay import ReplayChecks
from tests.unit.rollout_world import DAY, RolloutWorld, in_place, indexed


@pytest.fixture
def world(deployed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RolloutWorld:
    monkeypatch.setattr(project, "STATE", tmp_path)
    indexed()
    found = RolloutWorld(deployed, phases.REPLAY)
    in_place(found, monkeypatch)
    return found


def wrong(checks: tuple[Check, ...]) -> dict[str, str]:
    return {c.name: f"{c.verdict}: {c.sentence} {c.evidence}" for c in checks if c.verdict is not Verdict.PASSED}


def before(seconds: float) -> str:
    return events.format_time(datetime.now(UTC) - timedelta(seconds=seconds))


def test_events_that_arrive_between_listing_planning_and_sending_close_no_gate(world: RolloutWorld) -> None:
    """One event a request, of the very entity that is replayed, happening now: none is late, none is in the window."""
    world.ingest("busy", 20, day=before(0)[:10])
    world.ingest("busy", 5, at="")
    world.before_replay = lambda: world.ingest("busy", at=events.now())
    checks = ReplayChecks(world.environment, entities=5, patience=30)
    sent = checks.replay()
    assert wrong(checks.all(sent)) == {}
    assert sent.sent == sent.expected == sent.events


def test_late_events_arrive_in_the_window_and_are_told_apart(world: RolloutWorld) -> None:
    world.ingest("late", 20)
    world.before_replay = lambda: world.ingest("late", at=f"{DAY}T00:05:30Z")
    checks = ReplayChecks(world.environment, entities=5, patience=30)
    sent = checks.replay()
    assert wrong(checks.all(sent)) == {}
    busy = next(one for one in sent.replays if one.selection.entity_id == "late")
    assert len(busy.selection.rows) == 20
    assert len(busy.events.rows) == busy.sent > 20
    assert sent.late > 0

    # Phase 3: what the window holds since is not what was sent.
    processing = ProcessorChecks(world.environment, patience=30)
    world.ingest("late", at=f"{DAY}T00:05:31Z")
    world.ingest("late", at=f"{DAY}T00:00:01Z")
    predicted = processing.predict()
    assert predicted.aggregates == sent.predicted
    world.before_replay = lambda: None
    world.enter(phases.PROCESSOR)
    with world.consuming():
        assert wrong(processing.all(predicted, processing.drain())) == {}


def test_the_last_batch_is_the_last_by_aws_clock(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ingest("e", 3)
    checks = ReplayChecks(world.environment, entities=5, patience=30)
    checks.replay()
    monkeypatch.setattr(replaying, "batch_stamp", lambda prefix: f"{prefix}20010101T000000.000000")  # a clock set wrong
    last = {replay.replay_id for replay in checks.replay().replays}
    assert set(replaying.latest_batch(world.stores)) == last


def test_a_window_ends_in_the_past_once_and_never_after_the_last_day(world: RolloutWorld) -> None:
    world.ingest("a", at="9999-12-31T23:59:59Z")
    world.ingest("a", at="0001-01-01T00:00:00Z")
    world.ingest("b", at="9999-12-31T23:59:59Z")
    world.ingest("now", at=events.now())
    (found,) = replaying.busiest(world.stores, 5)
    assert (found.entity_id, found.start_time) == ("a", "0001-01-01T00:00:00.000000Z")
    assert before(60) < found.end_time < before(4)
    assert [str(row["event_time"])[:4] for row in found.rows] == ["0001"]
    assert replaying.busiest(world.stores, 5)[0].rows == found.rows


def test_of_a_very_busy_entity_a_bounded_number_is_replayed(world: RolloutWorld) -> None:
    world.ingest("busy", 30)
    (found,) = replaying.busiest(world.stores, 5, most=10)
    assert len(found.rows) == 10
    assert found.end_time == f"{DAY}T00:10:00.000000Z"
    again = replaying.select(world.stores, found.entity_id, found.start_time, found.end_time)
    assert again.rows == found.rows


def test_an_event_that_vanishes_meanwhile_is_noticed(world: RolloutWorld) -> None:
    world.ingest("gone", 5)
    checks = ReplayChecks(world.environment, entities=5, patience=30)
    table = world.environment.client("dynamodb")

    def lose() -> None:
        world.before_replay = lambda: None
        row = world.stores.arrivals("gone")[0]
        table.delete_item(TableName="events", Key={"PK": {"S": row["PK"]}, "SK": {"S": row["SK"]}})

    world.before_replay = lose
    found = checks.counts(checks.replay())
    assert found.verdict is Verdict.FAILED
    assert "1 no longer listed" in str(found.evidence)
