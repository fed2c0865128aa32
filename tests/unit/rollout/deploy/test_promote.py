"""What may not be taken for success: a closed gate, an update that was rolled back, a result that proves nothing."""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from typing import Any

import pytest

from pik import phases
from pik.aws import stack
from pik.aws.guard import Place
from pik.aws.stack import Stack
from pik.config import EnvironmentConfig
from pik.environments import Environment
from pik.errors import AwsError, Refused
from pik.results import Check, StepResult, Verdict
from pik.rollout.checks import permissions
from pik.rollout.deploy import converge as converging
from pik.rollout.gates.decide import Gate, Requirement
from pik.runbooks.record import State
from pik.runbooks.runner import _judge

promoting: Any = importlib.import_module(
    "pik.rollout.deploy.promote"
)  # the package exports the function of the same name
ENV = Environment("staging", "eu-west-1", "http://127.0.0.1:9", EnvironmentConfig(protection="open"))


def a_stack(status: str = "UPDATE_COMPLETE", **parameters: str) -> Stack:
    given = {"Environment": "staging", **phases.REPLAY.parameters, **parameters}
    return Stack("pik-staging", status, "it did not work", datetime.now(UTC), given)


# --- the gate before a promotion ------------------------------------------------------------------------------------


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a promotion does once it is through the gate, by name; nothing is really done."""
    done: list[str] = []
    place = Place("111122223333", "arn:aws:iam::111122223333:user/ana", a_stack())
    monkeypatch.setattr(promoting, "guard", lambda _: place)
    monkeypatch.setattr(promoting, "_ready", lambda *_: a_stack())
    monkeypatch.setattr(promoting, "deployed", lambda *_: None)
    monkeypatch.setattr(promoting, "close", lambda *_: None)  # what an earlier run left unfinished: nothing

    class Plan:
        refusals = ()

    def make(*_: Any, **__: Any) -> Plan:
        done.append("planned")
        return Plan()

    monkeypatch.setattr(promoting, "make", make)
    monkeypatch.setattr(promoting._Move, "go", lambda _: done.append("moved"))
    return done


def gate(monkeypatch: pytest.MonkeyPatch, *, met: bool, enforced: bool = True) -> None:
    asked = Requirement("evidence", met, "phase 2 replay of staging has no evidence", "pik run verify-replay")
    found = Gate("staging", phases.PROCESSOR, (asked,), enforced)
    monkeypatch.setattr(promoting.evidence_status, "promotion", lambda *_: found)


def test_a_closed_gate_stops_a_promotion_before_anything_is_planned(
    monkeypatch: pytest.MonkeyPatch, moves: list[str]
) -> None:
    gate(monkeypatch, met=False)
    with pytest.raises(Refused, match="has no evidence"):
        promoting.promote(ENV, "processor")
    assert moves == []


@pytest.mark.parametrize("open_gate", [{"met": True}, {"met": False, "enforced": False}])
def test_an_open_gate_lets_a_promotion_through(
    monkeypatch: pytest.MonkeyPatch, moves: list[str], open_gate: dict[str, bool]
) -> None:
    gate(monkeypatch, **open_gate)
    promoting.promote(ENV, "processor")
    assert moves == ["planned", "moved"]


# --- an update that CloudFormation took back ------------------------------------------------------------------------


class CloudFormation:
    """Accepts every update."""

    def update_stack(self, **_: Any) -> None:
        """Accept it."""

    def get_caller_identity(self) -> Any:
        return {"ResponseMetadata": {}}  # an answer that is not dated


@pytest.mark.parametrize(
    ("status", "arrives"),
    [("UPDATE_COMPLETE", True), ("UPDATE_ROLLBACK_COMPLETE", False), ("UPDATE_ROLLBACK_FAILED", False)],
)
def test_an_update_that_was_taken_back_is_no_success_even_where_the_parameters_are_as_wanted(
    status: str, arrives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Environment, "client", lambda *_, **__: CloudFormation())
    monkeypatch.setattr(stack, "require", lambda _: a_stack(status))
    monkeypatch.setattr(stack, "events", lambda *_: [])
    before = a_stack("CREATE_COMPLETE")

    def move() -> Stack:
        return converging.converge(ENV, before, {"EnableReplay": "true"}, stack.silent)

    if arrives:
        assert move().status == status
    else:
        with pytest.raises(AwsError, match=f"did not complete the update; the stack is {status}"):
            move()


# --- what a role may do ---------------------------------------------------------------------------------------------

READ = {"Read": {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["*"]}}


@pytest.mark.parametrize(
    ("found", "says"),
    [
        ({"Role/own": READ}, []),
        ({}, ["Role/own is declared in the template, but does not exist"]),
        ({"Role/own": READ, "Role/by-hand": READ}, ["Role/by-hand exists, but is not declared in the template"]),
        (
            {"Role/own": READ, "Role/arn:aws:iam::aws:policy/AdministratorAccess": {}},
            ["Role/arn:aws:iam::aws:policy/AdministratorAccess exists, but is not declared in the template"],
        ),
        ({"Role/own": {**READ, "More": READ["Read"]}}, ["Role/own: statement More is not declared"]),
        ({"Role/own": {}}, ["Role/own: statement Read is missing"]),
    ],
)
def test_every_difference_between_declared_and_found_is_said(found: dict[str, Any], says: list[str]) -> None:
    assert list(permissions.compared({"Role/own": READ}, found)) == says


# --- a result that proves nothing -----------------------------------------------------------------------------------


def a_check(verdict: Verdict, blocking: bool) -> Check:
    return Check(name="c", verdict=verdict, sentence="s", blocking=blocking)


@pytest.mark.parametrize(
    ("checks", "state"),
    [
        ((a_check(Verdict.PASSED, True),), State.PASSED),
        ((a_check(Verdict.PASSED, False),), State.INCONCLUSIVE),
        ((), State.INCONCLUSIVE),
        ((a_check(Verdict.PASSED, True), a_check(Verdict.FAILED, False)), State.PASSED),
        ((a_check(Verdict.PASSED, True), a_check(Verdict.INCONCLUSIVE, True)), State.INCONCLUSIVE),
        ((a_check(Verdict.INCONCLUSIVE, True), a_check(Verdict.FAILED, True)), State.FAILED),
    ],
)
def test_a_result_without_a_blocking_check_that_passed_opens_no_gate(checks: tuple[Check, ...], state: State) -> None:
    found, note = _judge(StepResult(title="t", headline="h", checks=checks))
    assert found is state
    assert bool(note) == (not any(check.blocking for check in checks))
