"""A command that is killed, or asked to end, before any of its steps: the next one says what is the case and finishes
or undoes it."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from pik import phases
from pik.errors import CheckFailed, PikError, Refused
from pik.ledger import Kind
from pik.notebooks import rollout_step
from pik.rollout.deploy import unfinished
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback
from pik.rollout.gates.deployed import Deployed
from pik.rollout.plan.preconditions import refuse_unless_forward
from pik.signals import Terminated, ended_in_order, undisturbed, unfailing
from tests.unit.killed_world import NEW_CODE, Killed, World

PROMOTION = [
    *("predict", "probe", "record promotion begun", "update", "watch", "record canary", "update"),
    "record promotion done",
]
DEPLOY = ["record deploy begun", "build", "sam", "sam updates", "sam waits", "record deploy done"]
ROLLBACK = ["disable the mapping", "update", "record rollback done"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[[phases.Phase], World]:
    return lambda phase: World(monkeypatch, phase)


Make = Callable[[phases.Phase], World]


def left(here: World) -> unfinished.Unfinished | None:
    return unfinished.look(here.environment, here.stack, here.book)


def test_the_steps_are_these(world: Make) -> None:
    here = world(phases.REPLAY)
    promote(here.environment, "processor")
    assert here.steps == PROMOTION
    here = world(phases.REPLAY)
    deploy(here.environment, "replay")
    assert here.steps == DEPLOY
    here = world(phases.PROCESSOR)
    rollback(here.environment)
    assert here.steps == ROLLBACK


@pytest.mark.parametrize("at", range(len(PROMOTION)), ids=PROMOTION)
def test_a_promotion_that_was_killed_is_finished_by_the_next(world: Make, at: int) -> None:
    here = world(phases.REPLAY)
    here.at = at
    with pytest.raises(Killed):
        promote(here.environment, "processor")
    here.revive()
    found = left(here)
    assert (found is None) == (at <= 2)  # nothing was begun
    if found:
        assert found.finish == "pik promote --env dev --to processor"
    promote(here.environment, "processor")
    assert here.stack.phase is phases.PROCESSOR
    assert not here.stack.canary
    assert here.states(Kind.PROMOTION)[-1] == "done"
    assert here.book.unfinished is None
    assert left(here) is None


@pytest.mark.parametrize("at", range(len(PROMOTION)), ids=PROMOTION)
def test_a_promotion_that_was_killed_can_be_undone(world: Make, at: int) -> None:
    here = world(phases.REPLAY)
    here.at = at
    with pytest.raises(Killed):
        promote(here.environment, "processor")
    here.revive()
    rollback(here.environment)
    assert here.stack.phase is phases.REPLAY
    assert here.stack.parameters["Canary"] == "false"
    assert not here.enabled


@pytest.mark.parametrize(("before", "to"), [(phases.INGEST, "replay"), (phases.REPLAY, "processor")])
def test_the_command_that_undoes_a_promotion_goes_back_to_the_phase_before(
    world: Make, before: phases.Phase, to: str
) -> None:
    here = world(before)
    here.add(Kind.PROMOTION, phase=to, state="begun")
    found = left(here)
    assert found
    assert found.finish == f"pik promote --env dev --to {to}"
    assert found.undo == f"pik rollback --env dev --to {before.name}"


@pytest.mark.parametrize("at", range(4), ids=PROMOTION[:4])
def test_what_was_killed_before_it_changed_anything_voids_no_evidence(world: Make, at: int) -> None:
    here = world(phases.REPLAY)
    here.at = at
    with pytest.raises(Killed):
        promote(here.environment, "processor")
    here.revive()
    promote(here.environment, "processor")  # its gate is open: phase 2 is still proven
    assert here.stack.phase is phases.PROCESSOR


def test_what_cloudformation_refused_voids_no_evidence(world: Make) -> None:
    here = world(phases.REPLAY)
    here.refuses = 2  # the promotion's update, and no more
    with pytest.raises(PikError, match="CloudFormation refuses"):
        promote(here.environment, "processor")
    assert here.entries[-1].predicate["changed"] is False
    assert here.book.verification("replay")
    here.refuses = 0
    assert promote(here.environment, "processor").changed


@pytest.mark.parametrize("at", range(len(PROMOTION)), ids=PROMOTION)
def test_a_promotion_that_is_asked_to_end_takes_the_canary_back_and_records_it(world: Make, at: int) -> None:
    here = world(phases.REPLAY)
    here.at, here.happens = at, here.terminate
    with pytest.raises(KeyboardInterrupt):
        promote(here.environment, "processor")
    here.at = -1
    assert here.states(Kind.PROMOTION)[-1] == ("failed" if at < 7 else "done")
    # It was on and had not passed: it is taken back. Afterwards it is sound, and the next command finishes it.
    assert (here.stack.phase is phases.REPLAY) == (at <= 4)
    if here.states(Kind.ROLLBACK):
        assert PROMOTION[at] == "watch"
        here.add(Kind.VERIFICATION, phase="replay", verdict="passed")
    promote(here.environment, "processor")
    assert here.stack.phase is phases.PROCESSOR
    assert not here.stack.canary
    assert here.book.unfinished is None


def test_a_canary_whose_last_step_fails_is_said_and_finished_by_the_next(world: Make) -> None:
    here = world(phases.REPLAY)
    here.at = 6
    here.happens = lambda: setattr(here, "refuses", 1)
    with pytest.raises(PikError, match="the canary passed, but the limit of two") as failed:
        promote(here.environment, "processor")
    assert "finish it:\npik promote --env dev --to processor\n" in failed.value.next_step
    assert here.stack.canary
    found = left(here)
    assert found
    assert "runs as a canary" in found.sentence
    here.at = -1
    assert promote(here.environment, "processor").canary
    assert not here.stack.canary
    assert here.states(Kind.PROMOTION)[-1] == "done"


def test_a_canary_that_nobody_watched_is_taken_back_when_it_does_not_pass(world: Make) -> None:
    here = world(phases.REPLAY)
    here.at = 4
    with pytest.raises(Killed):
        promote(here.environment, "processor")
    here.revive()
    here.passes = False
    with pytest.raises(CheckFailed, match="the canary failed"):
        promote(here.environment, "processor")
    assert here.stack.phase is phases.REPLAY
    assert here.states(Kind.PROMOTION)[-1] == "failed"


def test_a_runbooks_step_finishes_a_canary_that_was_left(world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pik run --resume last` does after a rollout was killed in it."""
    here = world(phases.REPLAY)
    here.at = 4
    with pytest.raises(Killed):
        promote(here.environment, "processor")
    here.revive()
    there = Deployed(phases.PROCESSOR, *here.digests, "3" * 64)
    monkeypatch.setattr(rollout_step, "environment", lambda _: here.environment)
    monkeypatch.setattr(rollout_step, "deployed", lambda *_: there)

    class Processor(rollout_step.RolloutStep):
        phase = phases.PROCESSOR

    assert Processor("dev").deploy() is not None
    assert (here.stack.phase, here.stack.canary) == (phases.PROCESSOR, False)
    assert here.states(Kind.PROMOTION)[-1] == "done"


def test_a_canary_of_something_else_is_not_finished(world: Make) -> None:
    here = world(phases.REPLAY)
    here.at = 4
    with pytest.raises(Killed):
        promote(here.environment, "processor")
    here.revive()
    here.digests = ("9" * 64, "9" * 64)
    with pytest.raises(Refused, match="a canary that no promotion of the deployed code started"):
        promote(here.environment, "processor")
    assert here.stack.canary


def test_a_deploy_does_not_go_past_a_canary_that_is_not_finished(world: Make) -> None:
    here = world(phases.PROCESSOR)
    here.parameters["Canary"] = "true"
    with pytest.raises(Refused, match="not finished") as refused:
        refuse_unless_forward(here.environment, phases.PROCESSOR, here.stack)
    assert "pik promote --env dev --to processor" in refused.value.next_step


@pytest.mark.parametrize("at", range(len(DEPLOY)), ids=DEPLOY)
def test_a_deploy_that_was_killed_is_recorded_by_the_next_and_can_be_taken_back(world: Make, at: int) -> None:
    here = world(phases.REPLAY)
    here.at = at
    with pytest.raises(Killed):
        deploy(here.environment, "replay")
    here.revive()
    assert (left(here) is None) == (at == 0)
    begun = here.book.unfinished
    if at:
        assert begun
        assert begun.predicate["before"]  # what it can be taken back to
    deploy(here.environment, "replay")
    assert here.digests == (NEW_CODE.target.template, NEW_CODE.target.code)
    assert here.states(Kind.DEPLOY)[-1] == "done"
    assert here.book.unfinished is None


@pytest.mark.parametrize("at", range(1, len(DEPLOY) - 1), ids=DEPLOY[1:-1])
def test_a_deploy_that_is_asked_to_end_says_how_far_it_got(world: Make, at: int) -> None:
    here = world(phases.REPLAY)
    here.at, here.happens = at, here.terminate
    with pytest.raises(Terminated):
        deploy(here.environment, "replay")
    last = here.entries[-1]
    assert (last.kind, last.predicate["state"]) == (Kind.DEPLOY, "failed")
    assert last.predicate["changed"] == (DEPLOY[at] == "sam waits")
    assert bool(here.book.verification("replay")) is not last.predicate["changed"]


@pytest.mark.parametrize("happens", ["kill", "terminate"])
@pytest.mark.parametrize("at", range(len(ROLLBACK)), ids=ROLLBACK)
def test_a_rollback_that_ended_too_early_is_finished_by_the_next(world: Make, at: int, happens: str) -> None:
    here = world(phases.PROCESSOR)
    here.at, here.happens = at, getattr(here, happens)
    with pytest.raises((Killed, Terminated)):
        rollback(here.environment)
    if at and not here.dead:
        assert not here.enabled or here.stack.phase is phases.REPLAY  # consumption stopped first
    here.revive()
    rollback(here.environment)
    assert here.stack.phase is phases.REPLAY
    assert not here.enabled


def test_a_closed_terminal_is_no_reason_to_stop() -> None:
    def closed(_: str) -> None:
        raise OSError(5, "Input/output error")

    unfailing(closed)("anything")


def test_what_takes_back_reaches_its_end_first_and_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    reached = []

    def take_back() -> None:
        with undisturbed(), ended_in_order():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGHUP)
            reached.append("the end")

    with pytest.raises(Terminated), ended_in_order():
        take_back()
    assert reached
    with pytest.raises(Terminated), ended_in_order():
        signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGTERM) is before
