"""Plans on the real stack: predicted exactly, executed exactly or not at all, and refused where data would be lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.sources import edited, replaced
from pik import phases, producer, runbooks
from pik.aws import stack
from pik.aws.reading import StoreReader, eventually
from pik.environments import Environment
from pik.errors import Refused
from pik.rollout.checks.replaying import replay_all, select
from pik.rollout.deploy.deploy import apply, deploy
from pik.rollout.plan.plan import Plan, plan
from tests.inventory import inventory
from tests.notebooks.offline import active_parts

DAY = "2024-02-29"
WINDOW = (f"{DAY}T00:00:00.000000Z", "2024-03-01T00:00:00.000000Z")


def ingest(environment: Environment, count: int) -> None:
    """Send events of five entities."""
    events: list[dict[str, Any]] = [
        {
            "source": "test",
            "event_type": "measured",
            "entity_id": f"plan-{n % 5}",
            "event_time": f"{DAY}T{n % 24:02d}:00:00.{n:06d}Z",
            "payload": {"n": n},
        }
        for n in range(count)
    ]
    assert producer.send(events, environment).safe


def test_a_deploy_does_what_was_planned_and_then_nothing_is_left_to_do(
    embedded_env: Environment, tmp_path: Path
) -> None:
    planned = plan(embedded_env)
    assert (planned.previous, planned.phase, planned.base) == ("off", "ingest", None)
    assert {one.action for one in planned.changes} == {"add"}
    assert plan(embedded_env).digest == planned.digest
    assert stack.read(embedded_env) is None  # looking changes nothing

    done = deploy(embedded_env, "ingest")
    assert done.plan == planned.digest
    # The digests were known before anything was uploaded.
    digests = stack.digests(embedded_env)
    assert (digests.template, digests.code) == (planned.target.template, planned.target.code)
    assert stack.require(embedded_env).parameters == planned.target.parameters
    there = set(stack.resources(embedded_env))
    assert {one.id for one in planned.changes} - {"QueuePolicy", "DeadLetterQueuePolicy"} <= there

    run = runbooks.run("plan", "local", {"deployed": "true", "phase": "replay"}, runs_dir=tmp_path)
    assert run.verdict == "passed"
    assert run.steps[0].result is not None
    assert run.steps[0].result.facts["digest"] == plan(embedded_env, "replay", deployed=True).digest
    assert active_parts(run.report) == []

    again = plan(embedded_env)
    assert again.empty
    assert plan(embedded_env, deployed=True).empty
    before = stack.require(embedded_env)
    assert not apply(embedded_env, again).changed
    assert stack.require(embedded_env).updated == before.updated


TOPIC = "arn:aws:sns:us-east-1:000000000000:alarms"


def edit(folder: Path) -> None:
    """Change a common setting, a role's rights and code."""
    replaced(folder, "template.yaml", "PIK_DRY_RUN: !Ref DryRun\n", "PIK_DRY_RUN: !Ref DryRun\n        NEW: '1'\n")
    rights = "dynamodb:GetItem, dynamodb:PutItem]"
    replaced(folder, "template.yaml", f"Action: [{rights}", f"Action: [dynamodb:DeleteItem, {rights}")
    with (folder / "pik" / "events.py").open("a", encoding="utf-8") as code:
        code.write("\n# one more line\n")


def test_a_plan_file_of_an_edit_is_executed_exactly_or_refused_when_it_is_out_of_date(
    embedded_env: Environment, tmp_path: Path
) -> None:
    if stack.read(embedded_env) is None:
        deploy(embedded_env, "ingest")
    with edited(tmp_path / "edited", edit):
        planned = plan(embedded_env, "replay", parameters={"LogLevel": "DEBUG", "AlarmTopicArn": TOPIC})
        path = planned.write(tmp_path / "plan.json")
        stale = plan(embedded_env, "replay", parameters={"LogLevel": "ERROR"}).write(tmp_path / "stale.json")
        assert any(one.startswith("code of ingest") for one in planned.effects)
        assert "IAM: IngestRole may now also dynamodb:DeleteItem on DedupeTable" in planned.effects

        done = apply(embedded_env, Plan.read(path))
        assert (done.changed, done.phase, done.plan) == (True, "replay", planned.digest)
        digests = stack.digests(embedded_env)
        assert (digests.template, digests.code) == (planned.target.template, planned.target.code)
        found = stack.require(embedded_env)
        assert found.phase is phases.REPLAY
        assert found.parameters == planned.target.parameters
        assert plan(embedded_env).empty

        with pytest.raises(Refused) as refusal:
            apply(embedded_env, Plan.read(stale))
        assert "base.parameters" in refusal.value.reason
        assert "previous" in refusal.value.reason
    with pytest.raises(Refused) as refusal:  # made from sources that are not at hand any more
        apply(embedded_env, Plan.read(path))
    assert "target.code" in refusal.value.reason
    assert stack.require(embedded_env).updated == found.updated


def test_what_the_processor_writes_is_what_was_predicted(embedded_env: Environment) -> None:
    if stack.read(embedded_env) is None or stack.require(embedded_env).phase is phases.INGEST:
        deploy(embedded_env, "replay")
    ingest(embedded_env, 45)
    stores = StoreReader(embedded_env)
    selections = [select(stores, f"plan-{n}", *WINDOW) for n in range(5)]
    replay_all(embedded_env, selections)

    planned = plan(embedded_env, "processor", deployed=True)
    assert planned.kind == "deployed"
    assert planned.effects[0] == "the processor starts consuming 45 waiting messages"
    predicted = planned.prediction
    assert predicted is not None
    assert predicted.exact
    assert [one.input_count for one in predicted.versions] == [9] * 5

    # More is sent: the plan is the same, what it will write is not.
    replay_all(embedded_env, selections[:2])
    later = plan(embedded_env, "processor", deployed=True)
    assert later.digest == planned.digest
    assert later.prediction is not None
    assert (later.prediction.messages, later.prediction.exact) == (63, True)

    with pytest.raises(Refused, match="promotes local to processor"):  # that has a gate and a canary of its own
        apply(embedded_env, planned)
    done = deploy(embedded_env, "processor", parameters={"AlarmTopicArn": ""})  # a value that is taken away again
    assert (done.phase, done.parameters["AlarmTopicArn"]) == ("processor", "")
    assert eventually(stores.waiting, lambda count: count == 0, 60) == 0
    wanted = {(one.entity_id, one.day, one.replay_id): one.input_count for one in later.prediction.versions}
    assert len(wanted) == 7
    written = {key: row["input_count"] if row else None for key, row in stores.versions(wanted).items()}
    assert written == wanted
    after = plan(embedded_env)
    assert after.empty
    assert after.prediction is None


def test_a_template_that_would_cost_a_store_its_data_is_refused_and_nothing_happens(
    embedded_env: Environment, tmp_path: Path
) -> None:
    if stack.read(embedded_env) is None:
        deploy(embedded_env, "ingest")
    before, stores = stack.require(embedded_env), inventory(embedded_env)

    def rename(folder: Path) -> None:
        name = "    Properties:\n      BillingMode: PAY_PER_REQUEST\n"
        text = (folder / "template.yaml").read_text(encoding="utf-8")
        renamed = text.replace(name, f"{name}      TableName: mine\n", 1)
        (folder / "template.yaml").write_text(renamed, encoding="utf-8")

    with edited(tmp_path / "renamed", rename):
        planned = plan(embedded_env)
        assert planned.changes[0].id == "EventsTable"
        assert "EventsTable (data store) would be replaced: TableName changes" in planned.refusals[0]
        with pytest.raises(Refused, match="cannot be deployed") as refusal:
            deploy(embedded_env, planned.phase)
    assert "EventsTable (data store) would be replaced" in refusal.value.reason
    assert stack.require(embedded_env) == before
    assert inventory(embedded_env) == stores
