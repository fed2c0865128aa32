"""Plans: what they hold, what they refuse, and what their digest is over."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from pik import phases
from pik.config import EnvironmentConfig
from pik.environments import Environment
from pik.rollout.plan.diff import Change, PropertyChange
from pik.rollout.plan.effects import Situation
from pik.rollout.plan.planned import OBSERVED, Plan, Side
from tests.unit.plan_world import PREDICTED, Edit, a_plan, rename, resource

PROD = Environment("prod", region="eu-west-1", config=EnvironmentConfig(account="1" * 12, protection="guarded"))
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
    plan = a_plan(phases.PROCESSOR, phases.PROCESSOR, situation=Situation(waiting=3, mapping_disabled=True))
    assert plan.opens_tap
    assert not plan.empty
    assert plan.digest != a_plan(phases.PROCESSOR, phases.PROCESSOR).digest
    closed = a_plan(phases.PROCESSOR, phases.PROCESSOR, situation=Situation(3, mapping_disabled=True), DryRun="true")
    assert not closed.opens_tap


REFUSED: dict[str, tuple[Edit, str]] = {
    "renamed": (
        rename,
        "EventsTable (data store) would be replaced: TableName changes, and the stack would go on with an empty one",
    ),
    "unknown": (
        lambda d: resource(d, "EventsTable")["Properties"].update(Novelty=1),
        "EventsTable (data store) may be replaced (it is not known that it is not): Novelty changes",
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
    "an index with another key": (
        lambda d: resource(d, "EventsTable")["Properties"]["GlobalSecondaryIndexes"][0].update(
            Projection={"ProjectionType": "KEYS_ONLY"}
        ),
        "EventsTable: the index by-source cannot be changed; add another one",
    ),
    "two indexes gone at once": (
        lambda d: resource(d, "EventsTable")["Properties"].update(GlobalSecondaryIndexes=[]),
        "EventsTable: the indexes by-ingest-time, by-source cannot come or go in one deploy",
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


def test_one_index_may_come_or_go() -> None:
    def one(document: dict[str, Any]) -> None:
        resource(document, "EventsTable")["Properties"]["GlobalSecondaryIndexes"].pop()

    assert a_plan(phases.INGEST, phases.INGEST, one).refusals == ()


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
    raised = a_plan(environment=PROD)  # from the sources, where that takes a promotion
    assert raised.refusals[0].endswith("(do this: pik promote --env prod --to replay)")


def test_what_is_off_and_different_is_told() -> None:
    def edit(document: dict[str, Any]) -> None:
        resource(document, "ProcessorFunction")["Properties"]["MemorySize"] = 1024

    plan = a_plan(phases.INGEST, phases.INGEST, edit)
    assert plan.changes == ()
    assert not plan.empty  # CloudFormation decides
    (told,) = plan.effects
    assert told.startswith("off in this phase, and different in the template: ProcessorFunction; CloudFormation may")
    assert a_plan(phases.REPLAY, phases.PROCESSOR, edit).effects[-1] != told
    assert a_plan(phases.INGEST, phases.INGEST, BatchSize="7").effects == ()  # a parameter is kept till it is needed


# --- the digest -----------------------------------------------------------------------------------------------------


def test_the_same_situation_planned_twice_is_the_same_plan() -> None:
    first, second = a_plan(), replace(a_plan(), made="later", by="bob", asked={"a": "b"}, prediction=PREDICTED)
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
