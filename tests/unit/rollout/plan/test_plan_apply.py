"""Plan files, and what executes them: exactly that plan, or nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pik import cli, phases
from pik.aws.guard import Place
from pik.errors import Refused, UsageError
from pik.rollout.deploy.deploy import apply
from pik.rollout.plan.diff import Change, PropertyChange
from pik.rollout.plan.planned import Plan
from tests.unit.plan_world import DEV, PREDICTED, a_plan, a_stack, rename

TOGGLE = a_plan()
deploying: Any = import_module("pik.rollout.deploy.deploy")  # the package has a function of that name


# --- the file -------------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e6, 1e6) | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None)
@given(JSON, JSON, st.text(), st.sampled_from(["no", "yes", "may", "unknown"]))
def test_a_plan_survives_its_file(before: Any, after: Any, name: str, answer: Any) -> None:
    changed = Change(name, name, "replace", True, (PropertyChange(name, before, after, answer),))
    plan = replace(TOGGLE, changes=(changed,), prediction=PREDICTED, asked={name: name})
    read = Plan.from_dict(json.loads(json.dumps(plan.as_dict())))
    assert read == plan
    assert read.digest == plan.digest


def test_a_plan_is_written_and_read(tmp_path: Path) -> None:
    plan = a_plan(None, phases.INGEST)
    assert Plan.read(plan.write(tmp_path / "plan.json")) == plan


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d.update(version=2), "its version is 2; this pik reads version 1"),
        (lambda d: d.pop("version"), "it has no version"),
        (lambda d: d.pop("target"), "target: "),
        (lambda d: d["changes"][0].update(action="explode"), "changes.0.action"),
        (lambda d: d["changes"].pop(), "its digest says"),
        (lambda d: d["target"]["parameters"].update(EnableProcessor="true"), "its digest says"),
        (lambda d: d.update(digest="0"), "its digest says 0"),
    ],
)
def test_a_file_that_is_no_plan_or_was_edited_is_not_read(
    tmp_path: Path, edit: Callable[[Any], Any], says: str
) -> None:
    data = a_plan().as_dict()
    edit(data)
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UsageError) as error:
        Plan.read(path)
    assert says in error.value.reason


@pytest.mark.parametrize("text", ["", "[]", "{", '"text"'])
def test_something_else_is_no_plan(tmp_path: Path, text: str) -> None:
    path = tmp_path / "plan.json"
    path.write_text(text)
    with pytest.raises(UsageError):
        Plan.read(path)
    with pytest.raises(UsageError, match="cannot be read"):
        Plan.read(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match="cannot be written"):
        a_plan().write(tmp_path / "nowhere" / "plan.json")


# --- executing it ---------------------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `apply` finds and does: the plan that is made anew, and the plan that is executed."""
    seen: dict[str, Any] = {"now": a_plan(), "done": None}
    place = Place("111122223333", "arn:aws:iam::111122223333:user/ana", a_stack(phases.INGEST))
    monkeypatch.setattr(deploying, "guard", lambda _: place)
    monkeypatch.setattr(deploying, "make", lambda *_, **how: seen.update(how=how) or seen["now"])
    monkeypatch.setattr(deploying, "_execute", lambda _env, _place, plan, *_: seen.update(done=plan))
    return seen


def test_the_plan_that_was_seen_is_executed(world: dict[str, Any]) -> None:
    given_plan = replace(a_plan(), asked={"BatchSize": "7"}, kind="sources")
    apply(DEV, given_plan)
    assert world["done"] == world["now"]
    assert world["how"]["parameters"] == {"BatchSize": "7"}
    assert world["how"]["deployed"] is False


def test_another_plan_is_not_executed_and_the_difference_is_named(world: dict[str, Any]) -> None:
    seen = a_plan(BatchSize="7")
    with pytest.raises(Refused) as refusal:
        apply(DEV, seen)
    assert world["done"] is None
    assert seen.digest in refusal.value.reason
    assert world["now"].digest in refusal.value.reason
    assert "target.parameters" in refusal.value.reason
    assert refusal.value.exit_code == 3


@pytest.mark.parametrize("name", ["account", "region", "stack", "environment"])
def test_a_plan_of_another_environment_is_not_executed(world: dict[str, Any], name: str) -> None:
    with pytest.raises(Refused, match="made for another environment"):
        apply(DEV, replace(a_plan(), **{name: "other"}))  # type: ignore[arg-type]
    assert world["done"] is None


def test_a_plan_with_refusals_is_not_executed_by_anybody(world: dict[str, Any]) -> None:
    world["now"] = a_plan(phases.INGEST, phases.INGEST, rename)
    with pytest.raises(Refused, match="cannot be deployed") as refusal:
        apply(DEV, world["now"])
    assert "EventsTable (data store) would be replaced" in refusal.value.reason
    assert world["done"] is None


# --- the command ----------------------------------------------------------------------------------------------------


def call(*words: str) -> int:
    with patch.object(sys, "argv", ["pik", *words]), pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--env", "prod"), "--env prod contradicts the plan"),
        (("--phase", "processor"), "--phase processor contradicts the plan"),
        (("--set", "BatchSize=9"), "--set BatchSize 9 contradicts the plan"),
        (("--set", "Nothing=9"), "--set Nothing 9 contradicts the plan"),
        (("--dry-run",), "--set DryRun true contradicts the plan"),
    ],
)
def test_options_that_contradict_the_plan_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], says: str
) -> None:
    path = a_plan().write(tmp_path / "plan.json")
    with patch("pik.rollout.deploy.deploy.apply") as applied:
        assert call("deploy", "--plan", str(path), *words) == 2
    assert says in capsys.readouterr().err
    applied.assert_not_called()


def test_options_that_agree_with_the_plan_are_allowed(tmp_path: Path) -> None:
    plan = a_plan(BatchSize="7")
    path = plan.write(tmp_path / "plan.json")
    words = ("--env", "dev", "--phase", "2", "--set", "BatchSize=7", "--no-dry-run")
    with (
        patch("pik.rollout.deploy.deploy.apply", side_effect=Refused("reached")) as applied,
        patch("pik.environments.environment"),
    ):
        assert call("deploy", "--plan", str(path), *words) == 3
    assert applied.call_args.args[1] == plan


@pytest.mark.parametrize("refused", [False, True])
def test_planning_succeeds_also_when_applying_it_would_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: bool
) -> None:
    plan = replace(a_plan(), refusals=("no",) * refused)
    out = tmp_path / "plan.json"
    with patch("pik.rollout.plan.plan.plan", return_value=plan), patch("pik.environments.environment"):
        assert call("plan", "--out", str(out)) == 0
        shown = capsys.readouterr().out
        assert call("plan", "--json") == 0
        data = json.loads(capsys.readouterr().out)
    assert ("REFUSED" in shown) is refused
    assert (f"pik deploy --plan {out}" in shown) is not refused
    assert Plan.read(out) == plan == Plan.from_dict(data)
