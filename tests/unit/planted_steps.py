"""The steps of a rollout, gone through in a world in memory, with a defect planted before or after a step acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from pik import phases
from pik.notebooks.rollout_steps import _all_safe
from pik.producer import Summary
from pik.results import Check, Verdict
from pik.rollout.checks import common, verdicts
from pik.rollout.checks.ingest import IngestChecks
from pik.rollout.checks.intact import Comparison
from pik.rollout.checks.processor import ProcessorChecks
from pik.rollout.checks.replay import ReplayChecks
from pik.rollout.checks.verdicts import completed
from pik.rollout.deploy.rollback import Rollback
from pik.rollout.deploy.rollback_checks import RollbackChecks
from tests.unit.rollout_world import RolloutWorld

ENTITIES = {"busy": 3, "quiet": 2}


@dataclass
class Run:
    """A step in a world: what a defect may get hold of. ``patch`` is pytest's monkeypatch."""

    world: RolloutWorld
    patch: Any
    patience: float
    drain_patience: float | None = None
    checks: Any = None
    habits: Any = None
    summary: Summary = field(default_factory=lambda: summary())  # noqa: PLW0108 - it is defined below
    done: Rollback = field(default_factory=lambda: rolled_back())  # noqa: PLW0108 - it is defined below


Plant = Callable[[Run], None]


@dataclass(frozen=True)
class Defect:
    """One defect.

    Attributes:
        step: the step of the rollout in which it is planted.
        check: the check that must notice it.
        what: the defect in a few words, for the documentation.
        plant: puts it into the world; called before the step begins.
        after: the same, called when the step has acted and nothing has been asked yet.
        verdict: what the check must come to.
        also: checks that notice it too, because what they ask is damaged as well.
        common: the check looks at the stack alone, not at what the step did; then only those that do are asked.
    """

    step: str
    check: str
    what: str
    plant: Plant | None = None
    after: Plant | None = None
    verdict: Verdict = Verdict.FAILED
    also: tuple[str, ...] = ()
    common: bool = False


# --- the steps ------------------------------------------------------------------------------------------------------


def nothing(_: Run) -> None:
    """Plant no defect."""


def ask_common(run: Run, step: str, plant: Plant) -> tuple[Check, ...]:
    """Ask what every phase is asked about the stack, with a defect planted."""
    run.world.enter(phases.phase(step))
    plant(run)
    return verdicts.ask(common.questions(run.world.stores, run.patience), "local")


def ask(run: Run, step: str, plant: Plant = nothing, after: Plant = nothing) -> tuple[Check, ...]:
    """Go through a step of the rollout in a world and return all its checks."""
    return {"ingest": _ingest, "replay": _replay, "processor": _processor, "rollback": _rollback}[step](
        run, plant, after
    )


def _ingest(run: Run, plant: Plant, after: Plant) -> tuple[Check, ...]:
    run.world.enter(phases.INGEST)
    plant(run)
    run.checks = IngestChecks(run.world.environment, run.patience)
    after(run)
    return (completed(_all_safe(run.summary), "local"), *run.checks.all())


def _replay(run: Run, plant: Plant, after: Plant) -> tuple[Check, ...]:
    run.world.enter(phases.REPLAY)
    for entity, count in ENTITIES.items():
        run.world.ingest(entity, count)
    plant(run)
    run.checks = ReplayChecks(run.world.environment, entities=5, patience=run.patience)
    sent = run.checks.replay()
    after(run)
    return tuple(run.checks.all(sent))


def _processor(run: Run, plant: Plant, after: Plant) -> tuple[Check, ...]:
    world = run.world
    world.enter(phases.REPLAY)
    for entity, count in ENTITIES.items():
        world.ingest(entity, count)
    ReplayChecks(world.environment, entities=5, patience=run.patience).replay()
    plant(run)
    run.checks = ProcessorChecks(world.environment, patience=run.drain_patience or run.patience)
    predicted = run.checks.predict()
    world.enter(phases.PROCESSOR)
    with world.consuming():
        drained = run.checks.drain()
        after(run)
        return tuple(run.checks.all(predicted, drained))


def _rollback(run: Run, plant: Plant, after: Plant) -> tuple[Check, ...]:
    world = run.world
    world.enter(phases.REPLAY)
    world.ingest("busy", 2)
    ReplayChecks(world.environment, entities=5, patience=run.patience).replay()
    world.process()
    plant(run)
    after(run)
    return RollbackChecks(world.environment, "replay").all(run.done)


def summary(**change: Any) -> Summary:
    """What a producer says of three events, all of them accepted unless ``change`` says something else."""
    counts = {"total": 3, "accepted": 3, "duplicate": 0, "conflict": 0, "rejected": 0, "failed": 0, "retried": 0}
    flags = {"dry_run": False, "dry_run_asked": False, "interrupted": False, "stopped": "", "failed_file": None}
    figures = {"latency_ms": {}, "seconds": 1.0, "events_per_second": 3.0, "by_status": {}, "by_code": {}}
    return Summary(**{**counts, **flags, **figures, **change})


def rolled_back(**change: Any) -> Rollback:
    """A rollback after which everything is as it was, unless ``change`` says something else."""
    said = Rollback(
        changed=True,
        environment="local",
        phase="replay",
        previous="processor",
        seconds=2,
        stopped_after=0.4,
        queue_before=2,
        queue_after=2,
        dead_letters=0,
        stack_status="UPDATE_COMPLETE",
        mappings_left=0,
        stores=(Comparison("Queue", "AWS::SQS::Queue", same=True, sampled=2), a_table()),
    )
    return replace(said, **change)


def a_table(**change: Any) -> Comparison:
    return Comparison("EventsTable", "AWS::DynamoDB::Table", **{"same": True, "sampled": 10, **change})
