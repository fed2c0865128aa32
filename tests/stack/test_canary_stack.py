"""A processor that does not work is taken back by itself, and the mended one leaves what a clean run would leave."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.sources import edited, replaced
from pik import config, ledger, producer
from pik.aws import stack
from pik.aws.queues import messages
from pik.aws.reading import StoreReader, eventually
from pik.environments import Environment
from pik.errors import CheckFailed
from pik.ledger import Kind
from pik.rollout.checks.processor import ProcessorChecks, _different
from pik.rollout.checks.replay import ReplayChecks
from pik.rollout.deploy.canary import Limits
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback
from pik.workbench import connect
from tests.stack.rehearsal import named, toml, verified

pytestmark = pytest.mark.slow
PROCESSOR = "pik/pipeline/processor.py"
BROKEN = """    if int(event.event_id[:2], 16) % 4 == 0:
        raise RuntimeError("the new code cannot do this one")
"""
POISONOUS = """    if int(event.event_id[:2], 16) % 4 == 0:
        raise Poison("too_new", "the new code gives up on this one")
"""
WRONG = """    event = dataclasses.replace(event, payload={**event.payload, "departure_delay_min": 10_000})
"""


@pytest.fixture
def staging(embedded_env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Phase 1 with a day of flights."""
    monkeypatch.setenv(config.CONFIG_VARIABLE, str(toml(tmp_path / "pik.toml")))
    # What is being processed here takes milliseconds; what failed stays in flight, and is not waited for anyway.
    monkeypatch.setattr(importlib.import_module("pik.rollout.deploy.rollback"), "DRAIN_SECONDS", 3.0)
    env = named("staging")
    if stack.read(env) is None:
        deploy(env, "ingest", parameters={"ReplayRateLimit": "200", "ReplayBurstLimit": "400"})
        assert producer.send(list(producer.load("flights:2013-01-01"))[:250], env).safe
    return env


def processor(insert: str) -> Callable[[Path], None]:
    """Edits after which the processor does something else once it has read an event."""
    line = "    event = read_event(message, config)\n"

    def edit(folder: Path) -> None:
        replaced(folder, PROCESSOR, line, line + insert)
        replaced(folder, PROCESSOR, "import json\n", "import dataclasses\nimport json\n")

    return edit


def crash(folder: Path) -> None:
    """Edit the processor so that it cannot even start."""
    first = "from __future__ import annotations\n"
    replaced(folder, PROCESSOR, first, f"{first}raise ImportError('it cannot even start')\n")


def retried_soon(env: Environment) -> None:
    """What failed is tried again after seconds, not after the three minutes of the template."""
    url = env.outputs()["QueueUrl"]
    env.client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "8"})


def replayed(env: Environment) -> int:
    """Phase 2, with messages in the queue and evidence; return how many messages wait."""
    if stack.require(env).phase.name == "ingest":
        verified(env)
        promote(env, "replay")
    sent = ReplayChecks(env, entities=60).replay()
    assert sent.sent > 50
    verified(env)
    retried_soon(env)
    return messages(env, env.outputs()["QueueUrl"])


def everything(env: Environment) -> tuple[set[str], list[dict[str, Any]]]:
    """Every message that is anywhere: the bodies in the queue and those in the dead-letter queue, with their reason."""
    sqs, outputs = env.client("sqs"), env.outputs()

    def look(url: str) -> list[dict[str, Any]]:
        kept: list[dict[str, Any]] = []
        while got := sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=60, MessageAttributeNames=["All"]
        ).get("Messages", []):
            kept += got
        for message in kept:
            sqs.change_message_visibility(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0)
        return kept

    return {message["Body"] for message in look(outputs["QueueUrl"])}, look(outputs["DeadLetterQueueUrl"])


def counted(env: Environment) -> dict[tuple[str, str], set[str]]:
    """The events that each aggregate version counts, by (entity, replay)."""
    pages = env.client("dynamodb").get_paginator("scan").paginate(TableName=env.outputs()["AggregatesTable"])
    found: dict[tuple[str, str], set[str]] = {}
    for item in (item for page in pages for item in page["Items"] if "message_id" in item):
        replay = item["SK"]["S"].partition("#")[2].partition("#")[0]
        found.setdefault((item["PK"]["S"], replay), set()).add(item["event_id"]["S"])
    return found


@pytest.mark.parametrize(("name", "insert"), [("fails", BROKEN), ("sets aside", POISONOUS)])
def test_a_processor_that_fails_on_a_quarter_is_taken_back_and_nothing_is_lost(
    name: str, insert: str, staging: Environment, tmp_path: Path
) -> None:
    waiting = replayed(staging)
    checks = ProcessorChecks(staging)
    predicted = checks.predict()
    with edited(tmp_path / "broken", processor(insert)):
        deploy(staging, "replay")
        verified(staging)
        retried_soon(staging)
        said: list[str] = []
        with pytest.raises(CheckFailed, match="the canary failed") as failed:
            promote(staging, "processor", on_progress=said.append)
    assert "rolled back automatically: staging is at phase 2 replay" in failed.value.reason
    assert stack.require(staging).phase.name == "replay"
    assert [line for line in said if line.startswith("canary ")]  # it was watched, live
    entries = ledger.read(staging).entries[-4:]
    assert [entry.kind for entry in entries] == [Kind.PROMOTION, Kind.CANARY, Kind.ROLLBACK, Kind.PROMOTION]
    assert entries[1].verdict == "failed"

    # Every message is counted, in the queue, or in the dead-letter queue with its reason.
    time.sleep(9)  # what failed is in flight until then
    queued, dead = everything(staging)
    dead_bodies = {message["Body"] for message in dead}
    assert all(message["MessageAttributes"]["pik_reason"]["StringValue"] for message in dead)
    assert bool(dead) == (name == "sets aside")
    done = {event for events in counted(staging).values() for event in events}
    named_by = {json.loads(body)["event_id"] for body in queued | dead_bodies}
    wanted = {row["event_id"] for selection in predicted.replays.values() for row in selection.rows}
    assert wanted <= done | named_by
    assert waiting <= len(done) + len(queued) + len(dead_bodies)

    # The mended processor: what it leaves is what a clean run would have left.
    deploy(staging, "replay")
    if dead:
        dlq = connect("staging").dlq
        shown = dlq.redrive(include_unmended=True)
        dlq.redrive(False, include_unmended=True, confirm=shown.confirm)
    verified(staging)
    retried_soon(staging)
    outcome = promote(staging, "processor").canary
    assert outcome is not None
    assert outcome.passed
    stores = StoreReader(staging)
    found = eventually(
        lambda: stores.versions(predicted.aggregates), lambda seen: not _different(predicted.aggregates, seen), 60
    )
    assert _different(predicted.aggregates, found) == {}
    assert stores.dead_letters() == 0
    rollback(staging, "replay")


def test_a_processor_that_counts_wrongly_is_taken_back(staging: Environment, tmp_path: Path) -> None:
    replayed(staging)
    with edited(tmp_path / "wrong", processor(WRONG)):
        deploy(staging, "replay")
        verified(staging)
        retried_soon(staging)
        with pytest.raises(CheckFailed, match="aggregates are not as predicted") as failed:
            promote(staging, "processor")
    assert stack.require(staging).phase.name == "replay"
    assert "pik run queue-and-dlq --env staging" in failed.value.next_step


def test_a_processor_that_does_not_start_is_taken_back(staging: Environment, tmp_path: Path) -> None:
    waiting = replayed(staging)
    with edited(tmp_path / "crash", crash):
        deploy(staging, "replay")
        verified(staging)
        retried_soon(staging)
        limits = Limits(least=3, patience=20, every=0.5)
        with pytest.raises(CheckFailed, match="the canary failed"):
            promote(staging, "processor", limits=limits)
    assert stack.require(staging).phase.name == "replay"
    assert messages(staging, staging.outputs()["QueueUrl"]) >= waiting
    deploy(staging, "replay")
