from __future__ import annotations

import pytest

from pik import phases
from pik.errors import UsageError


def test_each_phase_adds_and_never_takes_away() -> None:
    for before, after in zip(phases.PHASES[1:], phases.PHASES[2:], strict=False):
        assert after.number == before.number + 1
        assert (after.replay, after.processor) > (before.replay, before.processor)
        assert before.next is after
    assert phases.PROCESSOR.next is None


def test_the_processor_is_never_on_without_replay() -> None:
    assert all(phase.replay for phase in phases.PHASES if phase.processor)


@pytest.mark.parametrize("phase", phases.PHASES[1:])
def test_a_stack_with_a_phases_parameters_is_in_that_phase(phase: phases.Phase) -> None:
    assert phases.deployed_phase(phase.parameters) is phase


def test_no_stack_is_off_and_a_stack_without_toggles_is_ingest() -> None:
    assert phases.deployed_phase(None) is phases.OFF
    assert phases.deployed_phase({}) is phases.INGEST


@pytest.mark.parametrize("name", ["replay", "2", " Replay ", "2 replay"])
def test_a_phase_is_found_by_name_and_number(name: str) -> None:
    assert phases.phase(name) is phases.REPLAY


@pytest.mark.parametrize("name", ["off", "0", "", "rollback"])
def test_what_is_not_a_phase_to_deploy_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        phases.phase(name)


def test_every_phase_says_what_must_be_proven() -> None:
    assert all(phase.proof for phase in phases.PHASES[1:])
