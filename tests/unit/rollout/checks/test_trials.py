"""The trials of the processor: its dry run, and a poison message."""

from __future__ import annotations

from typing import Any

import pytest

from pik.results import Verdict
from pik.rollout.checks.processor import ProcessorChecks
from pik.rollout.checks.replay import ReplayChecks
from tests.unit.rollout_world import RolloutWorld
from tests.unit.virtual_time import VirtualTime

# --- the processor's dry run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("raises", "verdict"), [(2, Verdict.PASSED), (99, Verdict.FAILED)])
def test_a_dry_run_that_raises_is_asked_again(
    raises: int, verdict: Verdict, world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dry run reads raw objects: a busy S3 makes it raise."""
    ReplayChecks(world.environment, patience=30).replay()
    VirtualTime(monkeypatch)
    answers, left = world.asked_dry, iter(range(raises))

    def busy(said: dict[str, Any]) -> dict[str, Any]:
        if next(left, None) is not None:
            raise RuntimeError("SlowDown")
        return answers(said)

    world.asked_dry = busy
    checks = ProcessorChecks(world.environment, patience=30)
    found = checks.trials.dry_run(checks.predict())
    assert found.verdict is verdict, found
    assert ("SlowDown" in str(found.evidence)) == (verdict is Verdict.FAILED)


# --- the poison ------------------------------------------------------------------------------------------------------


def test_the_poison_is_found_among_others_and_they_stay(world: RolloutWorld) -> None:
    sqs, url = world.client("sqs"), world.config.dead_letter_queue_url
    for n in range(25):
        sqs.send_message(QueueUrl=url, MessageBody=f"somebody's {n}")
    checks = ProcessorChecks(world.environment, patience=60)
    with world.consuming():
        found = checks.trials.poison()
    assert found.verdict is Verdict.PASSED, found
    bodies: list[str] = []
    while got := sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        bodies += [message["Body"] for message in got]
    assert sorted(bodies) == sorted(f"somebody's {n}" for n in range(25))


def test_a_poison_that_is_nowhere_is_a_failure(world: RolloutWorld) -> None:
    world.count = lambda _: {"batchItemFailures": []}  # the processor swallows it
    checks = ProcessorChecks(world.environment, patience=0.3)
    with world.consuming():
        found = checks.trials.poison()
    assert found.verdict is Verdict.FAILED
