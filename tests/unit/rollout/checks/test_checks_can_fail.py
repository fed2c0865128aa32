"""Each check of the catalogue fails for a defect that was planted, and for that alone; and passes without it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pik import project
from pik.pipeline.settings import Settings
from pik.results import Check, Verdict
from pik.rollout.checks.catalog import BY_NAME, STEPS, of_step
from tests.unit.planted_defects import DEFECTS, WITHOUT
from tests.unit.planted_steps import Defect, Run, ask, ask_common, nothing
from tests.unit.rollout_world import RolloutWorld, in_place, indexed
from tests.unit.virtual_time import VirtualTime

HEALTHY_PATIENCE, SHORT_PATIENCE = 60.0, 0.3


@pytest.fixture
def run(deployed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """A world without a defect."""
    monkeypatch.setattr(project, "STATE", tmp_path)
    indexed()
    world = RolloutWorld(deployed)
    world.virtual = VirtualTime(monkeypatch)
    in_place(world, monkeypatch)
    return Run(world, monkeypatch, HEALTHY_PATIENCE)


def not_passed(checks: tuple[Check, ...]) -> dict[str, Any]:
    return {check.name: (check.verdict, check.sentence) for check in checks if check.verdict is not Verdict.PASSED}


@pytest.mark.parametrize("step", STEPS)
def test_every_check_passes_without_a_defect(step: str, run: Run) -> None:
    found = ask(run, step)
    assert not_passed(found) == {}
    assert {check.name for check in found} == {spec.name for spec in of_step(step)}


@pytest.mark.parametrize("defect", DEFECTS, ids=lambda one: f"{one.step}: {one.check}: {one.what}")
def test_a_planted_defect_makes_its_check_fail_and_no_other(
    defect: Defect, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (defect.check, *defect.also):  # what never comes is waited for
        monkeypatch.setitem(BY_NAME, name, replace(BY_NAME[name], patience=SHORT_PATIENCE))
    if defect.common:
        found = not_passed(ask_common(run, defect.step, defect.plant or nothing))
    else:
        found = not_passed(ask(run, defect.step, defect.plant or nothing, defect.after or nothing))
    assert defect.check in found
    assert found[defect.check][0] is defect.verdict, found
    assert set(found) == {defect.check, *defect.also}, found


def test_every_check_has_a_defect_or_a_reason_why_not() -> None:
    planted = {(defect.step, defect.check) for defect in DEFECTS}
    asked = {(step, spec.name) for step in STEPS for spec in of_step(step)}
    assert asked == planted | WITHOUT.keys()
    assert not planted & WITHOUT.keys()
    assert all(WITHOUT.values())
