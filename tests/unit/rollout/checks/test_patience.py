"""What comes late, and counts that are a minute old: waited for, and never taken for a verdict."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pik import clock, emulator, phases
from pik.aws import reading
from pik.aws.queues import SETTLE_SECONDS, settling
from pik.aws.reading import Steady, StoreReader
from pik.emulator.instance import Instance
from pik.environments import Environment
from pik.pipeline.settings import METRICS_NAMESPACE
from pik.results import Verdict
from pik.rollout.checks import common
from pik.rollout.checks.processor import Drain, ProcessorChecks
from pik.rollout.checks.replay import ReplayChecks, SentBatch
from pik.rollout.checks.replaying import Raws
from pik.rollout.checks.trials import TrialPrediction
from pik.rollout.checks.verdicts import patience
from pik.rollout.deploy.canary import Limits
from tests.unit.rollout_world import RolloutWorld

AWS = Environment("staging", "eu-west-1")
LOCAL = Environment("local", "us-east-1", "http://127.0.0.1:9")


def counted(world: RolloutWorld) -> tuple[ProcessorChecks, TrialPrediction]:
    """A replay that the processor has counted to its end."""
    world.enter(phases.REPLAY)
    world.ingest("e", 4)
    ReplayChecks(world.environment, patience=30).replay()
    checks = ProcessorChecks(world.environment, patience=30)
    predicted = checks.predict()
    world.enter(phases.PROCESSOR)
    while world.process():
        pass
    return checks, predicted


# --- patience -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["logs exist", "metrics arrive", "redelivery changes nothing"])
def test_on_aws_what_comes_late_is_waited_for_and_a_person_may_ask_for_more(name: str) -> None:
    assert patience(name, AWS, 60) == 300
    assert patience(name, AWS, 900) == 900
    assert patience(name, LOCAL, 60) == 60
    assert patience(name, LOCAL, 900) == 300


@pytest.mark.parametrize(
    ("settings", "late"),
    [("", 0.0), ("7", 1.0), ("7 compress=10", 0.1), ("0 only=partition region=cn-north-1", 0.0), ("7 skew=60", 1.0)],
)
def test_the_embedded_aws_is_as_late_as_its_realism_mode_says(
    settings: str, late: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(emulator.STATE_VARIABLE, str(tmp_path))
    Instance("n", 1, 9, "2026-11-27T00:00:00Z", settings).write(tmp_path)
    assert clock.lateness(LOCAL) == late
    assert settling(LOCAL) == SETTLE_SECONDS * late
    assert patience("metrics arrive", LOCAL, 10) == (max(300 * late, 10) if late else 10)
    assert Limits.of(LOCAL).patience == max(90, 900 * late)
    assert clock.lateness(Environment("local", "us-east-1", "http://127.0.0.1:8")) == 0.0  # another instance's record


def test_a_metric_that_came_too_late_for_one_run_counts_in_the_next(world: RolloutWorld) -> None:
    world.began = datetime.now(UTC) - timedelta(minutes=20)
    dimensions = [{"Name": "service", "Value": "ingest"}, {"Name": "environment", "Value": "local"}]

    def point(minutes_ago: float) -> None:
        moment = datetime.now(UTC) - timedelta(minutes=minutes_ago)
        data = {"MetricName": "Rejected", "Dimensions": dimensions, "Value": 1.0, "Timestamp": moment}
        world.client("cloudwatch").put_metric_data(Namespace=METRICS_NAMESPACE, MetricData=[data])

    point(30)  # before the last deploy: of other code
    none = common.metrics(world.stores, "Rejected", "ingest", 0)
    assert none.verdict is Verdict.INCONCLUSIVE
    assert "-p patience=600" in none.remedy
    point(10)
    assert common.metrics(world.stores, "Rejected", "ingest", 0).verdict is Verdict.PASSED


def test_a_deploy_of_last_year_asks_cloudwatch_for_no_more_than_it_answers(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GetMetricStatistics answers at most 1,440 points."""
    asked: list[dict[str, Any]] = []

    def answered(**query: Any) -> dict[str, Any]:
        asked.append(query)
        return {"Datapoints": []}

    monkeypatch.setattr(world.client("cloudwatch"), "get_metric_statistics", answered, raising=False)
    world.stores.metric_sum("Rejected", "ingest", datetime.now(UTC) - timedelta(days=365))
    (query,) = asked
    assert (query["EndTime"] - query["StartTime"]) / timedelta(seconds=query["Period"]) < 1440


def test_what_takes_minutes_is_not_asked_for_twice_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """FilterLogEvents and CloudWatch answer few questions a second, and everybody in the account shares them."""
    now, looks = [0.0], list[float]()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))

    def look() -> bool:
        looks.append(now[0])
        return now[0] >= 290

    assert reading.eventually(look, bool, 300)
    assert len(looks) < 80
    assert looks[1] == 0.5
    assert max(b - a for a, b in itertools.pairwise(looks)) == pytest.approx(reading.SELDOM)
    looks.clear()
    now[0] = 0.0
    assert not reading.eventually(look, bool, 100)
    assert looks[-1] == pytest.approx(100)  # the last look is at the very end


# --- clocks ---------------------------------------------------------------------------------------------------------


def test_what_aws_dates_is_compared_with_its_own_clock(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = {"ResponseMetadata": {"HTTPHeaders": {"date": "Tue, 24 Nov 2026 12:00:00 GMT"}}}
    monkeypatch.setattr(world.client("sts"), "get_caller_identity", lambda: answer, raising=False)
    assert clock.now(world.environment) == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert clock.settled(world.environment) == datetime(2026, 11, 24, 11, 59, 55, tzinfo=UTC)
    assert clock.skew(AWS) == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("settings", "seconds"), [("", 5), ("0 only=partition", 5), ("0 only=clock-skew skew=-60", 90), ("7", 90)]
)
def test_the_embedded_awss_clock_is_off_only_when_it_is_told_to(
    settings: str, seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(emulator.STATE_VARIABLE, str(tmp_path))
    Instance("n", 1, 9, "2026-11-27T00:00:00Z", settings).write(tmp_path)
    assert clock.skew(LOCAL) == timedelta(seconds=seconds)


# --- approximate counts ---------------------------------------------------------------------------------------------


def sequence(*values: int) -> Callable[..., int]:
    """Counts as they are seen, the last one for ever."""
    left: Iterator[int] = iter(values)
    last = [0]

    def look(*_: Any) -> int:
        last[0] = next(left, last[0])
        return last[0]

    return look


@pytest.fixture
def slow_counts(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only waiting moves, and counts that are as old as on AWS."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    monkeypatch.setattr("time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(reading, "settling", lambda _: SETTLE_SECONDS)
    return now


def test_a_count_is_believed_once_it_has_lasted(slow_counts: list[float]) -> None:
    assert Steady(AWS, sequence(0, 0, 0, 7)).count() == (7, True)
    assert slow_counts[0] >= 1000 + SETTLE_SECONDS
    moving = iter(range(1000))
    assert Steady(AWS, lambda: next(moving)).count()[1] is False


def test_one_count_of_zero_is_not_an_empty_dead_letter_queue(
    monkeypatch: pytest.MonkeyPatch, slow_counts: list[float]
) -> None:
    monkeypatch.setattr(StoreReader, "outputs", {"DeadLetterQueueUrl": "dead"})
    monkeypatch.setattr(StoreReader, "dead_letters", sequence(0, 0, 2))
    stores = StoreReader(LOCAL)
    assert common.dead_letters_empty(stores).verdict is Verdict.FAILED
    monkeypatch.setattr(StoreReader, "dead_letters", sequence(1, 1, 0))
    assert common.dead_letters_empty(stores).verdict is Verdict.PASSED  # the 1 was old
    moving = iter(range(1000))
    monkeypatch.setattr(StoreReader, "dead_letters", lambda _: next(moving))
    assert common.dead_letters_empty(stores).verdict is Verdict.INCONCLUSIVE

    monkeypatch.setattr(StoreReader, "dead_letters", lambda _: 0)
    watched, began = Steady(LOCAL, stores.dead_letters), slow_counts[0]
    slow_counts[0] += SETTLE_SECONDS
    assert common.dead_letters_empty(stores, watched).verdict is Verdict.PASSED
    assert slow_counts[0] == began + SETTLE_SECONDS  # it was watched since the step began: nothing is waited for


def test_a_message_that_is_missing_by_a_count_that_moves_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, slow_counts: list[float]
) -> None:
    monkeypatch.setattr(StoreReader, "outputs", {})
    checks = ReplayChecks(LOCAL, patience=0)
    checks.stores = StoreReader(LOCAL, {})
    sent = three_sent()
    moving = iter([0, 1, 2] * 100)
    monkeypatch.setattr(StoreReader, "waiting", lambda _: next(moving))
    found = checks.queued(sent)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "-p patience=" in found.remedy
    monkeypatch.setattr(StoreReader, "waiting", lambda _: 2)
    assert checks.queued(sent).verdict is Verdict.FAILED  # it lasts: a message is gone
    monkeypatch.setattr(StoreReader, "waiting", sequence(0, 9))
    assert checks.queued(sent).verdict is Verdict.PASSED  # others send, too


def three_sent() -> SentBatch:
    from tests.unit.rollout.checks.test_checks import a_replay

    return a_replay(3, 3, 3)


def test_redelivery_is_not_proven_by_an_empty_queue(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is old: nothing was delivered yet, whatever the processor does with it."""
    checks, predicted = counted(world)
    checks.trials.asked = 0.2
    monkeypatch.setattr(StoreReader, "waiting", lambda _: 0)
    found = checks.trials.redelivery(predicted)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "names 0 as delivered" in found.sentence
    assert "-p patience=600" in found.remedy
    checks.trials.asked = 60
    with world.consuming():
        assert checks.trials.redelivery(predicted).verdict is Verdict.PASSED


def test_what_is_not_counted_yet_is_not_taken_for_a_redelivery(world: RolloutWorld) -> None:
    world.enter(phases.REPLAY)
    world.ingest("e", 4)
    ReplayChecks(world.environment, patience=30).replay()
    checks = ProcessorChecks(world.environment, patience=0)
    found = checks.trials.redelivery(checks.predict())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "not counted yet" in found.sentence


def test_a_queue_is_empty_when_its_counts_say_so_for_long_enough(
    monkeypatch: pytest.MonkeyPatch, slow_counts: list[float]
) -> None:
    monkeypatch.setattr("pik.rollout.checks.processor.settling", lambda _: SETTLE_SECONDS)
    monkeypatch.setattr(ProcessorChecks, "dry", False)
    monkeypatch.setattr(StoreReader, "outputs", {"AggregatesTable": "aggregates"})
    monkeypatch.setattr(StoreReader, "versions", lambda *_: {})
    monkeypatch.setattr(StoreReader, "dead_letters", lambda _: 0)
    monkeypatch.setattr(StoreReader, "waiting", sequence(9, 0, 0, 9, 4, 0))
    checks = ProcessorChecks(LOCAL, patience=300)
    drained = checks.drain()
    assert drained.left == 0
    assert drained.empty_for >= SETTLE_SECONDS
    assert [count for _, count in drained.timeline[:6]] == [9, 0, 0, 9, 4, 0]

    nothing = TrialPrediction({}, Raws({}, {}), 9, {})
    assert checks.drains(nothing, drained).verdict is Verdict.PASSED
    early = checks.drains(nothing, Drain(1.0, 0, [(0, 9), (1, 0), (40, 0)]))
    assert early.verdict is Verdict.INCONCLUSIVE
    assert "-p patience=" in early.remedy


def test_an_empty_queue_with_events_that_were_never_counted_is_not_called_drained(world: RolloutWorld) -> None:
    world.enter(phases.REPLAY)
    world.ingest("e", 4)
    ReplayChecks(world.environment, patience=30).replay()
    checks = ProcessorChecks(world.environment, patience=0)
    predicted = checks.predict()
    world.client("sqs").purge_queue(QueueUrl=world.config.queue_url)
    found = checks.drains(predicted, checks.drain())
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "6 predicted events are not counted" in found.sentence


# --- mappings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("phase", "states", "dry", "passes"),
    [
        (phases.REPLAY, [], False, True),
        (phases.REPLAY, ["Deleting"], False, True),  # it is going, and reads no more
        (phases.REPLAY, ["Disabled"], False, False),
        (phases.PROCESSOR, ["Enabled"], False, True),
        (phases.PROCESSOR, ["Disabled"], False, False),  # a rollback that was interrupted
        (phases.PROCESSOR, ["Disabled"], True, True),
        (phases.PROCESSOR, ["Enabled"], True, False),
        (phases.PROCESSOR, ["Enabled", "Enabled"], False, False),
        (phases.PROCESSOR, ["Enabled", "Deleting"], False, True),
    ],
)
def test_the_mappings_are_as_the_phase_says(
    phase: phases.Phase, states: list[str], dry: bool, passes: bool, world: RolloutWorld
) -> None:
    world.enter(phase)
    world.more = {"DryRun": "true"} if dry else {}
    world.mappings = [{"UUID": str(n), "State": s, "FunctionArn": "a:b:c:d:e:f:p"} for n, s in enumerate(states)]
    assert (common.components(world.stores).verdict is Verdict.PASSED) is passes


# --- the alarm that a verification's own poison rings ---------------------------------------------------------------


def alarms(monkeypatch: pytest.MonkeyPatch, *states: str) -> list[str]:
    """Have the dead-letter queue's alarm be in these states, one at each look; return what is left of them."""
    left = list(states)
    monkeypatch.setattr(StoreReader, "alarms", lambda _: {"DeadLetterQueueAlarm": left.pop(0) if left[1:] else left[0]})
    monkeypatch.setattr("time.sleep", lambda _: None)
    return left


def set_aside(world: RolloutWorld, replay_id: str) -> None:
    world.logs["processor"].error("set aside", message_id="m", replay_id=replay_id)


def test_an_alarm_of_our_own_poison_is_waited_for(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    set_aside(world, "poison-1a2b3c")
    alarms(monkeypatch, "ALARM", "ALARM", "OK")
    assert common.no_alarm(world.stores, 60).verdict is Verdict.PASSED


def test_an_alarm_that_does_not_fall_silent_fails(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    set_aside(world, "poison-1a2b3c")
    alarms(monkeypatch, "ALARM")
    assert common.no_alarm(world.stores, 0.05).verdict is Verdict.FAILED


@pytest.mark.parametrize("others", [[], ["rollout-1"], ["poison-1", "rollout-1"]])
def test_an_alarm_of_somebody_elses_message_fails_at_once(
    others: list[str], world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for replay_id in others:
        set_aside(world, replay_id)
    left = alarms(monkeypatch, "ALARM", "OK")
    assert common.no_alarm(world.stores, 60).verdict is Verdict.FAILED
    assert left == ["OK"]
