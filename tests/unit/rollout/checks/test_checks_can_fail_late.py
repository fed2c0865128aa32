"""With AWS's habits a planted defect is still found, and an environment without one is never accused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pik import project
from pik.pipeline.settings import Settings
from pik.results import Verdict
from pik.rollout.checks.catalog import BY_NAME, STEPS
from tests.unit.habits import Habits
from tests.unit.planted_defects import DEFECTS
from tests.unit.planted_steps import Defect, Run, ask, ask_common
from tests.unit.rollout_world import RolloutWorld, in_place, indexed
from tests.unit.virtual_time import VirtualTime

SEEDS = [int(seed) for seed in os.environ.get("PIK_SEEDS", "0").split(",")]
PATIENCE = 80.0  # the latest of what is late comes after forty seconds here


@pytest.fixture(params=SEEDS)
def run(request: Any, deployed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A world without a defect, in which the habits strike from when a step begins."""
    monkeypatch.setattr(project, "STATE", tmp_path)
    indexed()
    world = RolloutWorld(deployed)
    world.virtual = VirtualTime(monkeypatch)
    in_place(world, monkeypatch)
    habits = Habits(world, request.param, monkeypatch)
    found = Run(world, monkeypatch, PATIENCE)
    found.habits = habits
    return found


def verdicts(run: Run, step: str, defect: Defect | None = None) -> dict[str, Verdict]:
    """Go through a step, with habits once the world is ready; return every check's verdict."""

    def plant(run: Run) -> None:
        if defect and defect.plant:
            defect.plant(run)
        run.habits.strike()

    def after(run: Run) -> None:
        if defect and defect.after:
            with run.habits.paused():
                defect.after(run)

    common = bool(defect and defect.common)
    checks = ask_common(run, step, plant) if common else ask(run, step, plant, after)
    run.habits.end()
    return {check.name: check.verdict for check in checks}


@pytest.mark.parametrize("step", STEPS)
def test_a_healthy_environment_is_never_accused(step: str, run: Run) -> None:
    seen = verdicts(run, step)
    assert [name for name, verdict in seen.items() if verdict is Verdict.FAILED] == []


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: f"{one.step}: {one.check}: {one.what}")
def test_a_planted_defect_is_found(defect: Defect, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (defect.check, *defect.also):
        monkeypatch.setitem(BY_NAME, name, replace(BY_NAME[name], patience=0.3))
    seen = verdicts(run, defect.step, defect)
    failed = {name for name, verdict in seen.items() if verdict is Verdict.FAILED}
    assert seen[defect.check] is not Verdict.PASSED
    assert seen[defect.check] is defect.verdict or seen[defect.check] is Verdict.INCONCLUSIVE
    assert failed <= {defect.check, *defect.also}
