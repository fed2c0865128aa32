"""Plans: what they refuse, what their digest is over, how they look, their file, and what executes them."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pik import cli, project
from pik.environments import Environment
from pik.errors import Refused, UsageError
from pik.rollout import phases, planview
from pik.rollout.deploy import apply
from pik.rollout.diff import Change, PropertyChange
from pik.rollout.effects import Situation
from pik.rollout.evaluation import Evaluator
from pik.rollout.guard import Place
from pik.rollout.planned import OBSERVED, Plan, Side
from pik.rollout.planning import Template, compare
from pik.rollout.prediction import Prediction, Version
from pik.rollout.stack import Stack
from pik.rollout.template import parse

DOCUMENT = parse(project.TEMPLATE.read_text(encoding="utf-8"))
DEV = Environment("dev", region="eu-west-1")
PROD = Environment("prod", region="eu-west-1")
WAITING = Situation(waiting=3)
deploying: Any = import_module("pik.rollout.deploy")  # the package has a function of that name
HOSTILE = "<script>alert(1)</script>\x1b[31m\u202e[bold]&"
Edit = Callable[[dict[str, Any]], Any]


def a_stack(phase: phases.Phase, **parameters: str) -> Stack:
    given = {"Environment": "dev", **phase.parameters, **parameters}
    return Stack("pik-dev", "UPDATE_COMPLETE", "", datetime.now(UTC), given, id="arn:aws:cloudformation:x:1:stack/a/b")


def a_plan(
    before: phases.Phase | None = phases.INGEST,
    after: phases.Phase = phases.REPLAY,
    edit: Edit = lambda d: d,
    *,
    environment: Environment = DEV,
    situation: Situation = WAITING,
    **parameters: str,
) -> Plan:
    """The plan from one phase of the template to another phase of an edited one."""
    found = a_stack(before) if before else None
    place = Place("111122223333", "arn:aws:iam::111122223333:user/ana", found)
    old = Template(Evaluator(DOCUMENT, found.parameters)) if found else None
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    new = Template(Evaluator(document, {"Environment": "dev", **after.parameters, **parameters}))
    return compare(environment, place, after, old, new, situation)


def resource(document: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = document["Resources"][name]
    return found


TOGGLE = a_plan()
FORETOLD = Prediction((Version("e<1>", "2025-01-01", "rp", 3, 5),), 3, 3)
STORE = Change("T", "AWS::DynamoDB::Table", "replace", True, (PropertyChange("TableName", None, "x", "yes"),))


# --- what is planned ------------------------------------------------------------------------------------------------


def test_a_toggle_is_planned_and_not_refused() -> None:
    plan = a_plan()
    assert (plan.previous, plan.phase, plan.kind) == ("ingest", "replay", "sources")
    assert plan.parameters == (PropertyChange("EnableReplay", "false", "true"),)
    assert {one.path for one in plan.outputs} == {"Phase", "ReplayUrl", "ReplayApiId", "ReplayFunction"}
    assert plan.effects[0] == "the replay API appears: operators can send messages to the queue"
    assert plan.applicable
    assert not plan.empty


def test_the_same_again_is_empty() -> None:
    plan = a_plan(phases.REPLAY, phases.REPLAY)
    assert (plan.changes, plan.parameters, plan.outputs, plan.effects, plan.refusals) == ((), (), (), (), ())
    assert plan.empty
    assert plan.command == ""
    assert "nothing changes" in plan.to_text()
    assert "nothing changes" in plan._repr_html_()


def test_a_closed_tap_is_something_to_do() -> None:
    plan = a_plan(phases.PROCESSOR, phases.PROCESSOR, situation=Situation(waiting=3, tap_closed=True))
    assert plan.opens_tap
    assert not plan.empty
    assert plan.digest != a_plan(phases.PROCESSOR, phases.PROCESSOR).digest
    closed = a_plan(phases.PROCESSOR, phases.PROCESSOR, situation=Situation(3, tap_closed=True), DryRun="true")
    assert not closed.opens_tap


REFUSED: dict[str, tuple[Edit, str]] = {
    "renamed": (
        lambda d: resource(d, "EventsTable")["Properties"].update(TableName="mine"),
        "EventsTable (data store) would be replaced: TableName changes, and the stack would go on with an empty one",
    ),
    "unknown": (
        lambda d: resource(d, "EventsTable")["Properties"].update(Novelty=1),
        "EventsTable (data store) may be replaced, nobody can say that it is not: Novelty changes",
    ),
    "removed": (
        lambda d: d["Resources"].pop("AccessLogGroup") and d["Outputs"].pop("AccessLogGroup"),
        "AccessLogGroup (data store) would be removed from the stack, which would go on without its data",
    ),
    "deleted with the stack": (
        lambda d: resource(d, "Queue").pop("DeletionPolicy"),
        "Queue (data store) would lose its DeletionPolicy Retain: its data would be deleted when the stack is deleted",
    ),
    "deleted when replaced": (
        lambda d: resource(d, "Queue").update(UpdateReplacePolicy="Delete"),
        "Queue (data store) would lose its UpdateReplacePolicy Retain: its data would be deleted when it is replaced",
    ),
    "another kind of thing": (
        lambda d: (
            d["Resources"].update(Stream={"Type": "AWS::Kinesis::Stream"})
            or resource(d, "Dashboard").update(Type="AWS::Kinesis::Stream")
        ),
        "Dashboard (data store) would be replaced: Type changes",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_cost_data_is_refused(name: str) -> None:
    edit, sentence = REFUSED[name]

    def whole(document: dict[str, Any]) -> None:
        if name == "removed":
            for one in ("IngestApi", "ReplayApi"):
                del resource(document, one)["Properties"]["AccessLogSetting"]
            statements = resource(document, "ViewerPolicy")["Properties"]["PolicyDocument"]["Statement"]
            statements[:] = [one for one in statements if one["Sid"] != "Logs"]
        edit(document)

    plan = a_plan(phases.INGEST, phases.INGEST, whole)
    assert [one for one in plan.refusals if one.startswith(sentence)], plan.refusals
    assert plan.command == ""
    assert "REFUSED" in plan.to_text()
    assert "refused" in plan._repr_html_()


def test_a_template_whose_own_rules_say_no_is_refused() -> None:
    plan = a_plan(phases.INGEST, phases.INGEST, EnableReplay="false", EnableProcessor="true")
    assert plan.refusals == ("EnableProcessor=true needs EnableReplay=true. The phases are ingest, replay, processor.",)


def test_a_step_back_is_planned_and_left_to_the_rollback() -> None:
    plan = a_plan(phases.PROCESSOR, phases.INGEST)
    assert "step back" in plan.refusals[0]
    assert plan.command == "pik rollback --env dev --to ingest"
    assert "the processor stops consuming; 3 messages stay in the queue" in plan.effects


def test_a_skipped_phase_is_refused_where_that_is_a_risk() -> None:
    assert "would skip 2 replay" in a_plan(phases.INGEST, phases.PROCESSOR, environment=PROD).refusals[0]
    assert a_plan(phases.INGEST, phases.PROCESSOR).refusals == ()


def test_what_is_off_and_different_is_told() -> None:
    def edit(document: dict[str, Any]) -> None:
        resource(document, "ProcessorFunction")["Properties"]["MemorySize"] = 1024

    plan = a_plan(phases.INGEST, phases.INGEST, edit)
    assert plan.changes == ()
    assert not plan.empty  # CloudFormation decides
    (told,) = plan.effects
    assert told.startswith("off in this phase, and different in the template: ProcessorFunction; CloudFormation may")
    assert a_plan(phases.REPLAY, phases.PROCESSOR, edit).effects[-1] != told


# --- the digest -----------------------------------------------------------------------------------------------------


def test_the_same_situation_planned_twice_is_the_same_plan() -> None:
    first, second = a_plan(), replace(a_plan(), made="later", by="bob", asked={"a": "b"}, prediction=FORETOLD)
    assert first.digest == second.digest
    assert first.digest == replace(first, effects=("told",), refusals=("no",)).digest
    more = a_plan(situation=Situation(waiting=4))
    assert first.digest == more.digest  # messages that come in meanwhile make no other plan


OTHERS: dict[str, Any] = {
    "environment": "staging",
    "account": "1",
    "region": "x",
    "stack": "s",
    "stack_id": "i",
    "kind": "deployed",
    "previous": "off",
    "phase": "processor",
    "base": None,
    "target": Side("t", "c", {}),
    "changes": (STORE,),
    "parameters": (),
    "outputs": (),
    "opens_tap": True,
}


def test_every_part_that_defines_a_plan_is_in_its_digest() -> None:
    assert {*OTHERS, *OBSERVED} == {one.name for one in fields(Plan)}
    plan = a_plan()
    for name, value in OTHERS.items():
        other = replace(plan, **{name: value})
        assert other.digest != plan.digest, name
        assert plan.differences(other) == (
            ("target.template", "target.code", "target.parameters") if name == "target" else (name,)
        )
    assert plan.differences(plan) == ()


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
    plan = replace(TOGGLE, changes=(changed,), prediction=FORETOLD, asked={name: name})
    read = Plan.from_dict(json.loads(json.dumps(plan.as_dict())))
    assert read == plan
    assert read.digest == plan.digest


def test_a_plan_is_written_and_read(tmp_path: Path) -> None:
    plan = a_plan(None, phases.INGEST)
    assert Plan.read(plan.write(tmp_path / "plan.json")) == plan


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda d: d.update(version=2), "its version is 2; 1 is known"),
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


# --- how it looks ---------------------------------------------------------------------------------------------------


def hostile() -> Plan:
    """A plan with hostile text wherever a value can come from outside."""
    parts = (PropertyChange(HOSTILE, HOSTILE, None), PropertyChange("b", {HOSTILE: HOSTILE}, HOSTILE * 20, "unknown"))
    changed = Change("Table", "AWS::DynamoDB::Table", "replace", True, parts)
    version = Version(HOSTILE, "2025-01-01", HOSTILE, 1, 1)
    return replace(
        a_plan(),
        changes=(changed,),
        parameters=parts,
        outputs=parts,
        effects=(HOSTILE,),
        refusals=(HOSTILE,),
        prediction=Prediction((version,), 1, 2),
        asked={HOSTILE: HOSTILE},
    )


class Tags(HTMLParser):
    """Collects the tags of a fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)


def test_values_are_shown_and_never_interpreted() -> None:
    plan = hostile()
    text = plan.to_text()
    assert all(line.isprintable() for line in text.splitlines())
    assert r"<script>alert(1)</script>\x1b[31m\u202e[bold]&" in text
    tags = Tags()
    tags.feed(plan._repr_html_())
    assert "script" not in tags.seen
    assert tags.seen <= {
        "section",
        "style",
        "p",
        "br",
        "ul",
        "li",
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "code",
        "span",
    }
    assert "\x1b" not in plan._repr_html_()


def test_text_tells_stores_first_and_what_replaces() -> None:
    plan = a_plan(
        phases.INGEST, phases.INGEST, lambda d: resource(d, "EventsTable")["Properties"].update(TableName="e")
    )
    lines = plan.to_text().splitlines()
    first = lines[4]
    assert first.split() == ["!", "EventsTable", "replace", "AWS::DynamoDB::Table", "DATA", "STORE"]
    assert lines[5].strip() == "TableName  (none) -> e   [replaces]"
    assert lines[-1] == f"digest  {plan.digest}   change in place 3, replace 1"


def test_what_is_not_known_is_never_called_in_place() -> None:
    plan = a_plan(phases.INGEST, phases.INGEST, lambda d: resource(d, "Dashboard")["Properties"].update(Novelty=1))
    text = plan.to_text()
    assert "Dashboard                may replace" in text
    assert "Novelty  (none) -> 1   [unknown: may replace]" in text
    assert "in place" not in text


def test_text_and_html_tell_the_rest() -> None:
    plan = replace(a_plan(), prediction=replace(FORETOLD, versions=FORETOLD.versions * 12))
    for shown in (plan.to_text(), plan._repr_html_()):
        assert "1 ingest -&gt; 2 replay" in shown or "1 ingest -> 2 replay" in shown
        assert plan.digest in shown
        assert "… and 2 more" in shown
        assert "pik deploy --env dev --phase replay" in shown
    assert repr(plan) == plan.to_text()


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (None, True, ("(none)", "true")),
        ("a", "b", ("a", "b")),
        ([1, "x"], {"b": 1, "a": None}, ('[1, "x"]', '{"a": null, "b": 1}')),
        (["a", "b"], ["b", "c", "d"], ("with a, without c, d", "with c, d, without a")),
        (["a"], ["a", "b"], ("without b", "with b")),
        (["a", "b"], ["b", "a"], ('["a", "b"]', '["b", "a"]')),
        (
            "x" * 500 + "one" + "y" * 500,
            "x" * 500 + "two" + "y" * 500,
            ("…" + "x" * 24 + "one" + "y" * 24 + "…", "…" + "x" * 24 + "two" + "y" * 24 + "…"),
        ),
        ("x" * 200, None, ("x" * 89 + "…", "(none)")),
        ("a" * 200, "a" * 300, ("…" + "a" * 24, "…" + "a" * 89 + "…")),
    ],
)
def test_long_values_are_shown_where_they_differ(before: Any, after: Any, shown: tuple[str, str]) -> None:
    assert planview.pair(PropertyChange("p", before, after)) == shown


def test_code_is_shown_as_short_digests() -> None:
    assert planview.pair(PropertyChange("code", "a" * 64, "b" * 64)) == ("aaaaaaaa…", "bbbbbbbb…")
    assert planview.pair(PropertyChange("code", None, "b" * 64)) == ("(none)", "bbbbbbbb…")


def test_the_frame_has_a_row_for_each_difference() -> None:
    frame = a_plan(phases.REPLAY, phases.INGEST).frame
    assert list(frame.columns) == ["action", "resource", "type", "store", "property", "before", "after", "replacement"]
    assert {"ReplayApi", "Dashboard"} <= set(frame["resource"])
    assert frame[frame["type"] == "parameter"]["property"].tolist() == ["EnableReplay"]
    removed = Change("R", "AWS::IAM::Role", "remove", False)
    assert len(replace(a_plan(), changes=(removed,), parameters=(), outputs=()).frame) == 1


@pytest.mark.parametrize(
    ("change", "command"),
    [
        ({}, "pik deploy --env dev --phase replay"),
        (
            {"asked": {"DryRun": "true", "LogLevel": "a b"}},
            "pik deploy --env dev --phase replay --dry-run --set 'LogLevel=a b'",
        ),
        ({"asked": {"DryRun": "false"}}, "pik deploy --env dev --phase replay --no-dry-run"),
        ({"kind": "deployed"}, "pik plan --env dev --phase replay --deployed --out FILE, then pik deploy --plan FILE"),
    ],
)
def test_the_next_command_does_what_was_planned(change: dict[str, Any], command: str) -> None:
    assert replace(a_plan(), **change).command == command


def test_only_what_differs_is_set_and_the_phase_always() -> None:
    assert a_plan().settings == {"EnableReplay": "true", "EnableProcessor": "false", "Environment": "dev"}
    assert a_plan(BatchSize="7").settings["BatchSize"] == "7"
    assert a_plan(None).settings == a_plan(None).target.parameters


def test_as_a_step_a_refused_plan_closes_the_gate_and_an_inexact_prediction_does_not() -> None:
    found = replace(a_plan(), prediction=replace(FORETOLD, waiting=9)).result()
    assert (found.verdict, found.headline) == ("passed", "add 6, change in place 3")
    assert [one.verdict for one in found.checks] == ["passed", "failed"]
    assert found.facts["next"] == "pik deploy --env dev --phase replay"
    refused = a_plan(phases.INGEST, phases.INGEST, REFUSED["renamed"][0]).result()
    assert refused.verdict == "failed"
    assert "EventsTable (data store) would be replaced" in refused.checks[0].sentence
    assert a_plan(phases.REPLAY, phases.REPLAY).result().headline == "nothing changes"


def test_what_is_predicted_is_a_frame_also_when_nothing_is() -> None:
    assert len(a_plan().predicted) == 0
    assert list(a_plan().predicted.columns) == list(replace(a_plan(), prediction=FORETOLD).predicted.columns)


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
    with pytest.raises(Refused, match="of another environment"):
        apply(DEV, replace(a_plan(), **{name: "other"}))  # type: ignore[arg-type]
    assert world["done"] is None


def test_a_plan_with_refusals_is_not_executed_by_anybody() -> None:
    plan = a_plan(phases.INGEST, phases.INGEST, REFUSED["renamed"][0])
    with pytest.raises(Refused) as refusal:
        deploying._execute(DEV, Place("1", "me", a_stack(phases.INGEST)), plan, 0.0, lambda _: None)
    assert "EventsTable (data store) would be replaced" in refusal.value.reason


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
    with patch("pik.rollout.apply") as applied:
        assert call("deploy", "--plan", str(path), *words) == 2
    assert says in capsys.readouterr().err
    applied.assert_not_called()


def test_options_that_agree_with_the_plan_are_allowed(tmp_path: Path) -> None:
    path = a_plan(BatchSize="7").write(tmp_path / "plan.json")
    words = ("--env", "dev", "--phase", "2", "--set", "BatchSize=7", "--no-dry-run")
    with patch("pik.rollout.apply", side_effect=Refused("reached")) as applied, patch("pik.environments.environment"):
        assert call("deploy", "--plan", str(path), *words) == 3
    assert applied.call_args.args[1] == a_plan(BatchSize="7") or applied.call_args.args[1].phase == "replay"


@pytest.mark.parametrize("refused", [False, True])
def test_planning_succeeds_also_when_applying_it_would_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], refused: bool
) -> None:
    plan = replace(a_plan(), refusals=("no",) * refused)
    out = tmp_path / "plan.json"
    with patch("pik.rollout.plan", return_value=plan), patch("pik.environments.environment"):
        assert call("plan", "--out", str(out)) == 0
        shown = capsys.readouterr().out
        assert call("plan", "--json") == 0
        data = json.loads(capsys.readouterr().out)
    assert ("REFUSED" in shown) is refused
    assert (f"pik deploy --plan {out}" in shown) is not refused
    assert Plan.read(out) == plan == Plan.from_dict(data)
