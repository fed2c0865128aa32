"""Looking into the queues of a real stack, a thousand times: afterwards every message is processed, none set aside."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pik
from pik import phases, producer, project
from pik.aws import stack
from pik.aws.reading import StoreReader, eventually
from pik.environments import Environment
from pik.errors import Refused
from pik.rollout.checks.replaying import replay_all, select
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.rollback import rollback
from pik.workbench import Workbench
from tests.inventory import inventory

DAY = "2024-03-01"
COUNT = 24


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks and redrives are recorded for this test only."""
    monkeypatch.setattr(project, "STATE", tmp_path)


def bring(environment: Environment, phase: str) -> Workbench:
    found = stack.read(environment)
    if found and found.phase.number > phases.phase(phase).number:
        rollback(environment, phase)
    else:
        deploy(environment, phase)
    return pik.connect("local")


def replayed(environment: Environment, entity: str) -> list[Any]:
    """Ingest an entity's events and replay them."""
    events = [
        {
            "source": "peeked",
            "event_type": "seen",
            "entity_id": entity,
            "event_time": f"{DAY}T{n:02d}:00:00Z",
            "payload": {"n": n / 8},
        }
        for n in range(COUNT)
    ]
    assert producer.send(events, environment).safe
    window = (f"{DAY}T00:00:00.000000Z", "2024-03-02T00:00:00.000000Z")
    done = replay_all(environment, [select(StoreReader(environment), entity, *window)])
    assert done[0].sent == COUNT
    return done


def drained(wb: Workbench) -> bool:
    counts = wb.queue.peek().attrs
    return not counts["waiting"] + counts["in_flight"] + counts["delayed"]


def dead_letters(wb: Workbench, event_id: str) -> pd.DataFrame:
    found = wb.dlq.peek(live=True, max_messages=100)
    return found[found["event_id"] == event_id]


def live_looks(wb: Workbench, times: int) -> int:
    """Look live so many times; return how often that was refused."""
    refused = 0
    for _ in range(times):
        try:
            wb.queue.peek(live=True)
        except Refused:
            refused += 1
    return refused


@pytest.mark.slow
def test_a_thousand_peeks_and_every_message_is_processed(embedded_env: Environment) -> None:
    wb = bring(embedded_env, "replay")
    dead = StoreReader(embedded_env).dead_letters()
    replay = replayed(embedded_env, "peeked-1")[0]
    before = inventory(embedded_env)

    for _ in range(1000):
        found = wb.queue.peek(max_messages=100)
    assert len(found[found["replay_id"] == replay.replay_id]) == COUNT
    refused = live_looks(wb, 1000)
    assert 950 < refused < 1000  # looked until half the receives were used up, then no more
    assert all(difference.none for difference in before.difference(inventory(embedded_env)).values())

    wb = bring(embedded_env, "processor")
    assert eventually(lambda: drained(wb), bool, patience=90)
    version = wb.aggregates("peeked-1", DAY, replay=replay.replay_id)
    assert list(version["completeness"]) == ["COMPLETE"]
    assert list(version["input_count"]) == [COUNT]
    assert StoreReader(embedded_env).dead_letters() == dead
    assert wb.queue.peek().empty or replay.replay_id not in set(wb.queue.peek()["replay_id"])


def test_a_dead_letter_is_explained_mended_and_processed(embedded_env: Environment) -> None:
    """Remove a raw object, have its message set aside, bring it back, redrive: the event is counted once."""
    wb = bring(embedded_env, "replay")
    replay = replayed(embedded_env, "redriven")[0]
    gone = replay.selection.rows[3]
    s3, bucket = embedded_env.client("s3"), wb.outputs["RawBucket"]
    marker = s3.delete_object(Bucket=bucket, Key=gone["s3_key"])["VersionId"]

    wb = bring(embedded_env, "processor")
    dead = eventually(
        lambda: dead_letters(wb, str(gone["event_id"])),
        lambda found: len(found) == 1,
        patience=60,
    )
    assert list(dead["code"]) == ["raw_missing"]
    assert list(dead["mended"]) == [False]
    logged = wb.dlq.peek(max_messages=1000)
    assert dead["original_message_id"].iloc[0] in set(logged["original_message_id"])
    chosen = [str(gone["event_id"])]
    assert wb.dlq.redrive(event_ids=chosen).frame.empty  # it would only come back

    s3.delete_object(Bucket=bucket, Key=gone["s3_key"], VersionId=marker)
    plan = wb.dlq.redrive(event_ids=chosen)
    assert list(plan.frame["mended"]) == [True]
    before = StoreReader(embedded_env).dead_letters()
    with pytest.raises(Refused):
        wb.dlq.redrive(False, event_ids=chosen)
    assert StoreReader(embedded_env).dead_letters() == before
    done = wb.dlq.redrive(False, confirm=plan.confirm, event_ids=chosen)
    assert len(done.moved) == 1
    assert [json.loads(line)["redrive"] for line in Path(done.record).read_text().splitlines()] == ["begin", "end"]
    version = eventually(
        lambda: wb.aggregates("redriven", DAY, replay=replay.replay_id),
        lambda found: list(found["completeness"]) == ["COMPLETE"],
        patience=60,
    )
    assert list(version["input_count"]) == [COUNT]
    assert StoreReader(embedded_env).dead_letters() == before - 1


def test_an_operator_may_peek_and_redrive_and_a_viewer_may_only_peek(embedded_env: Environment) -> None:
    """By the policies the stack brings, with IAM enforced."""
    from dataclasses import replace

    from pik.errors import AwsError
    from tests.stack.test_permissions import _caller

    wb = bring(embedded_env, "replay")
    iam = embedded_env.client("iam")
    people = {"viewer": ["ViewerPolicy"], "operator": ["ViewerPolicy", "OperatorPolicy"]}
    benches = {}
    for name, policies in people.items():
        user = f"pik-peek-{name}"
        iam.create_user(UserName=user)
        for policy in policies:
            iam.attach_user_policy(UserName=user, PolicyArn=wb.outputs[policy])
        key = iam.create_access_key(UserName=user)["AccessKey"]
        who = _caller(embedded_env, key["AccessKeyId"], key["SecretAccessKey"])
        benches[name] = replace(wb, environment=who)
    benches["viewer"].queue.peek()
    benches["viewer"].dlq.peek()
    with pytest.raises(AwsError):
        benches["viewer"].queue.peek(live=True)
    benches["operator"].queue.peek(live=True)
    benches["operator"].dlq.peek(live=True)
    plan = benches["operator"].dlq.redrive()
    benches["operator"].dlq.redrive(False, confirm=plan.confirm)
