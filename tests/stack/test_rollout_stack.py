"""Deploy, check, roll back and go forward again, on the real stack. Each test brings the stack where it needs it."""

from __future__ import annotations

import importlib
import json
import random
import time
from collections import defaultdict
from decimal import Decimal
from typing import Any

import pytest

from pik import phases, producer
from pik.aws import stack
from pik.aws.reading import StoreReader, eventually
from pik.environments import Environment
from pik.errors import AwsError, Refused, UsageError
from pik.pipeline import queue
from pik.pipeline.queue import CODE_ATTRIBUTE, REASON_ATTRIBUTE
from pik.results import Check, Verdict
from pik.rollout.checks.ingest import IngestChecks
from pik.rollout.checks.processor import ProcessorChecks
from pik.rollout.checks.replay import ReplayChecks
from pik.rollout.checks.replaying import replay_all, select
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.rollback import rollback
from pik.rollout.deploy.rollback_checks import Rehearsal, RollbackChecks
from pik.rollout.deploy.status import status
from tests.inventory import inventory

DAY = "2024-02-29"


def bring(environment: Environment, phase: str) -> None:
    """Bring the stack to a phase, forwards or back."""
    found = stack.read(environment)
    if found and found.phase.number > phases.phase(phase).number:
        rollback(environment, phase)
    else:
        deploy(environment, phase)


def some_events(entity: str, count: int) -> list[dict[str, Any]]:
    return [
        {
            "source": "test",
            "event_type": "measured" if n % 3 else "checked",
            "entity_id": f"{entity}-{n % 7}",
            "event_time": f"{DAY}T{n % 24:02d}:{n % 60:02d}:00.{n:06d}Z",
            "payload": {"delay": n - 40, "share": n / 8, "name": f"é {n}"},
        }
        for n in range(count)
    ]


def ingest(environment: Environment, entity: str, count: int) -> None:
    summary = producer.send(some_events(entity, count), environment)
    assert summary.safe, summary


def selections(environment: Environment, entity: str) -> list[Any]:
    window = (f"{DAY}T00:00:00.000000Z", "2024-03-01T00:00:00.000000Z")
    return [select(StoreReader(environment), f"{entity}-{n}", *window) for n in range(7)]


def verdicts(checks: tuple[Check, ...]) -> dict[str, str]:
    """What did not pass, and why."""
    return {c.name: f"{c.verdict}: {c.sentence} {c.evidence}" for c in checks if c.verdict is not Verdict.PASSED}


@pytest.mark.slow
def test_forward_through_every_phase_with_its_proof_then_back_and_forward_again(embedded_env: Environment) -> None:
    if stack.read(embedded_env):
        rollback(embedded_env, "ingest")
    deploy(embedded_env, "ingest")
    ingest(embedded_env, "path", 60)
    assert verdicts(IngestChecks(embedded_env).all()) == {}

    deploy(embedded_env, "replay")
    replaying = ReplayChecks(embedded_env, entities=10)
    sent = replaying.replay()
    assert sent.sent == sent.expected > 1
    assert verdicts(replaying.all(sent)) == {}

    processing = ProcessorChecks(embedded_env)
    predicted = processing.predict()
    assert predicted.aggregates == sent.predicted
    deploy(embedded_env, "processor")
    assert verdicts(processing.all(predicted, processing.drain())) == {}

    undoing = RollbackChecks(embedded_env, "replay", Rehearsal(messages=20))
    undone = undoing.roll_back()
    assert (undone.queue_after or 0) >= undoing.sent > 0
    assert verdicts(undoing.all(undone)) == {}

    # Forward again: what was kept is processed.
    predicted = processing.predict()
    assert predicted.waiting == undone.queue_after
    deploy(embedded_env, "processor")
    assert verdicts(processing.all(predicted, processing.drain())) == {}


def test_deploying_again_changes_nothing_and_says_so(embedded_env: Environment) -> None:
    bring(embedded_env, "ingest")
    deploy(embedded_env, "ingest")
    before = stack.require(embedded_env)
    again = deploy(embedded_env, "ingest")
    assert not again.changed
    assert "nothing to change" in again.sentence
    assert stack.require(embedded_env).updated == before.updated


def test_a_step_back_is_refused_and_changes_nothing(embedded_env: Environment) -> None:
    bring(embedded_env, "replay")
    with pytest.raises(Refused, match="step back"):
        deploy(embedded_env, "ingest")
    assert stack.require(embedded_env).phase is phases.REPLAY


def test_parameters_not_named_keep_their_value(embedded_env: Environment) -> None:
    bring(embedded_env, "ingest")
    deploy(embedded_env, "ingest", parameters={"LogRetentionDays": "7"})
    deploy(embedded_env, "replay")
    assert stack.require(embedded_env).parameters["LogRetentionDays"] == "7"
    assert stack.require(embedded_env).parameters["IngestRateLimit"] == "2000"


def test_what_cloudformation_refuses_is_told_with_its_reason(
    embedded_env: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    bring(embedded_env, "ingest")
    with pytest.raises(UsageError, match="LogRetentionDays=12345"):  # no need to ask CloudFormation
        deploy(embedded_env, "ingest", parameters={"LogRetentionDays": "12345"})
    planning = importlib.import_module("pik.rollout.plan.plan")  # the package has a function of that name
    monkeypatch.setattr(planning, "refuse_wrong", lambda *_, **__: None)
    with pytest.raises(AwsError) as error:
        deploy(embedded_env, "ingest", parameters={"LogRetentionDays": "12345"})
    assert "LogRetentionDays" in error.value.reason
    assert "\n" not in error.value.reason.strip()
    assert stack.require(embedded_env).healthy


def test_status_says_where_the_environment_is(embedded_env: Environment) -> None:
    bring(embedded_env, "replay")
    found = status(embedded_env)
    assert found.phase == "replay"
    assert str(found.stack_status).endswith("_COMPLETE")
    assert found.since is not None
    assert found.by
    assert found.next[0].startswith("pik run verify-replay --env local")
    assert found.next[-1].endswith("pik promote --env local --to processor")
    assert found.verified is False
    assert "evidence phase 2 replay of local has no evidence" in found.to_text()
    assert found.queue is not None
    assert str(found.template_digest)[:8] in found.to_text()


def test_a_rollback_keeps_messages_and_enabling_again_processes_them(embedded_env: Environment) -> None:
    bring(embedded_env, "replay")
    ingest(embedded_env, "kept", 35)
    deploy(embedded_env, "processor")
    stores = StoreReader(embedded_env)
    assert eventually(stores.waiting, lambda count: count == 0, 60) == 0
    replays: list[Any] = []

    def send() -> None:
        replays.extend(replay_all(embedded_env, selections(embedded_env, "kept")))

    done = rollback(embedded_env, "replay", after_stop=send)
    assert sum(replay.sent for replay in replays) == 35
    assert (done.queue_before, done.queue_after, done.mappings_left) == (35, 35, 0)
    assert done.stores_intact
    groups = [(r.selection.entity_id, DAY, r.replay_id) for r in replays]
    assert set(stores.versions(groups).values()) == {None}

    deploy(embedded_env, "processor")
    found = eventually(lambda: stores.versions(groups), lambda rows: _inputs(rows) == 35, 60)
    assert _inputs(found) == 35


def test_the_checks_notice_what_is_wrong(embedded_env: Environment) -> None:
    bring(embedded_env, "replay")
    ingest(embedded_env, "wrong", 21)
    checks = ReplayChecks(embedded_env, entities=3, patience=1)
    sent = checks.replay()
    stores, client = StoreReader(embedded_env), embedded_env.client("sqs")
    url = stores.outputs["QueueUrl"]
    stolen = client.receive_message(QueueUrl=url, WaitTimeSeconds=5)["Messages"][0]
    client.delete_message(QueueUrl=url, ReceiptHandle=stolen["ReceiptHandle"])
    assert checks.queued(sent).verdict is Verdict.FAILED
    client.send_message(QueueUrl=url, MessageBody=stolen["Body"].replace('"s3_key":"raw/', '"s3_key":"raw/no/'))
    assert checks.queued(sent).verdict is Verdict.PASSED

    processing = ProcessorChecks(embedded_env, patience=60)
    predicted = processing.predict()
    deploy(embedded_env, "processor")
    drained = processing.drain()
    assert drained.left == 0
    broken = ProcessorChecks(embedded_env, patience=1)
    assert broken.aggregates(predicted).verdict is Verdict.FAILED
    assert broken.inputs(predicted).verdict is Verdict.FAILED
    dead = _dead_letters(embedded_env, stores.outputs["DeadLetterQueueUrl"])
    assert [d["MessageAttributes"][CODE_ATTRIBUTE]["StringValue"] for d in dead] == ["raw_missing"]


def _inputs(rows: dict[Any, Any]) -> int:
    return sum(row["input_count"] for row in rows.values() if row)


def test_a_rollback_from_the_lowest_phase_changes_nothing(embedded_env: Environment) -> None:
    bring(embedded_env, "ingest")
    before = inventory(embedded_env)
    done = rollback(embedded_env, "replay")
    assert not done.changed
    assert inventory(embedded_env) == before


def test_a_deploy_opens_the_tap_that_an_interrupted_rollback_closed(embedded_env: Environment) -> None:
    from pik.aws import event_source_mapping

    bring(embedded_env, "processor")
    outputs = stack.require(embedded_env).outputs
    event_source_mapping.switch(embedded_env, outputs, on=False)
    assert deploy(embedded_env, "processor").changed
    assert [m.state for m in event_source_mapping.find(embedded_env, outputs)] == ["Enabled"]


def test_a_deployment_wide_dry_run_proves_nothing_and_consumes_nothing(embedded_env: Environment) -> None:
    bring(embedded_env, "ingest")
    deploy(embedded_env, "ingest", dry_run=True)
    try:
        before = inventory(embedded_env)
        found = {c.name: c.verdict for c in IngestChecks(embedded_env, patience=1).all()}
        assert inventory(embedded_env).stores == before.stores
        assert found["dry run writes nothing"] is Verdict.PASSED
        assert found["duplicates are detected"] is Verdict.INCONCLUSIVE
        assert found["raw bytes stored are the bytes sent"] is Verdict.INCONCLUSIVE
    finally:
        deploy(embedded_env, "ingest", dry_run=False)


@pytest.mark.slow
def test_a_thousand_messages_shuffled_and_redelivered_are_counted_once(embedded_env: Environment) -> None:
    bring(embedded_env, "replay")
    stores = StoreReader(embedded_env)
    ingest(embedded_env, "thousand", 800)
    chosen = selections(embedded_env, "thousand")
    bodies = [
        queue.dumps(queue.message(row, replay_id="thousand", entity_id=s.entity_id, bucket=stores.outputs["RawBucket"]))
        for s in chosen
        for row in s.rows
    ]
    assert len(bodies) == 800
    messages = [*bodies, *bodies[:200]]
    poison = json.dumps({**json.loads(bodies[0]), "s3_key": "raw/gone.json"})
    messages.insert(500, poison)
    random.Random(7).shuffle(messages)
    _send(embedded_env, stores.outputs["QueueUrl"], messages)

    deploy(embedded_env, "processor")
    assert eventually(stores.waiting, lambda count: count == 0, 180, every=1) == 0
    expected = _recompute(stores, [row for s in chosen for row in s.rows])
    found = stores.versions([(entity, DAY, "thousand") for entity in expected])
    for (entity, _, _), row in found.items():
        assert row is not None, entity
        numbers = {name: Decimal(n["sum"]) for name, n in row["state"]["numbers"].items()}
        assert (row["input_count"], row["state"]["count"], numbers) == expected[entity]

    dead = _dead_letters(embedded_env, stores.outputs["DeadLetterQueueUrl"])
    assert [json.loads(message["Body"])["s3_key"] for message in dead] == ["raw/gone.json"]
    attributes = dead[0]["MessageAttributes"]
    assert attributes[CODE_ATTRIBUTE]["StringValue"] == "raw_missing"
    assert "raw/gone.json" in attributes[REASON_ATTRIBUTE]["StringValue"]


def _send(environment: Environment, url: str, messages: list[str]) -> None:
    for start in range(0, len(messages), 10):
        entries = [{"Id": str(n), "MessageBody": body} for n, body in enumerate(messages[start : start + 10])]
        assert not environment.client("sqs").send_message_batch(QueueUrl=url, Entries=entries).get("Failed")


def _recompute(stores: StoreReader, rows: list[dict[str, Any]]) -> dict[str, tuple[int, int, dict[str, Decimal]]]:
    """Counts and sums of each entity, read from the raw bytes with nothing of the kit's own."""
    counts: dict[str, int] = defaultdict(int)
    sums: dict[str, dict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    for raw in stores.raws(str(row["s3_key"]) for row in rows).values():
        assert raw is not None
        event = json.loads(raw.body, parse_float=Decimal, parse_int=Decimal)
        counts[event["entity_id"]] += 1
        for name in ("delay", "share"):
            sums[event["entity_id"]][name] += event["payload"][name]
    return {entity: (count, count, dict(sums[entity])) for entity, count in counts.items()}


def _dead_letters(environment: Environment, url: str) -> list[dict[str, Any]]:
    """Take everything out of the dead-letter queue, so that the next test finds it empty."""
    client, found = environment.client("sqs"), list[dict[str, Any]]()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        received = client.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], WaitTimeSeconds=1
        ).get("Messages", [])
        for message in received:
            client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        found += received
        if found and not received:
            break
    return found
