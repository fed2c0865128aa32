"""Aggregates of a real stack: versions, their difference, drift, replays, metrics and logs of the same work."""

from __future__ import annotations

import json
from typing import Any

import pytest

import pik
from pik import producer
from pik.aws.reading import StoreReader, eventually
from pik.environments import Environment
from pik.rollout.checks.replaying import replay_all, select
from pik.workbench import Workbench
from pik.workbench.aggregates import aggregate_drift
from tests.conftest import Deploy
from tests.inventory import inventory

DAY, ENTITY, COUNT = "2024-03-05", "versions", 9


@pytest.fixture(scope="module")
def wb(embedded_env: Environment, deployed: Deploy) -> Workbench:
    deployed("processor")
    return pik.connect("local")


@pytest.fixture(scope="module")
def replays(embedded_env: Environment, wb: Workbench) -> list[Any]:
    """Nine events, replayed whole and in part, and processed."""
    events = [
        {
            "source": "versioned",
            "event_type": "seen",
            "entity_id": ENTITY,
            "event_time": f"{DAY}T{n:02d}:00:00Z",
            "payload": {"n": n / 8},
        }
        for n in range(COUNT)
    ]
    assert producer.send(events, embedded_env).safe
    stores = StoreReader(embedded_env)
    whole = select(stores, ENTITY, f"{DAY}T00:00:00.000000Z", "2024-03-06T00:00:00.000000Z")
    part = select(stores, ENTITY, f"{DAY}T00:00:00.000000Z", f"{DAY}T06:00:00.000000Z")
    done = replay_all(embedded_env, [whole, part])
    found = eventually(
        lambda: wb.aggregates(ENTITY, DAY),
        lambda frame: list(frame["completeness"]) == ["COMPLETE"] * 2,
        patience=60,
    )
    assert sorted(found["input_count"]) == [6, COUNT]
    return done


def test_versions_differ_by_the_events_that_one_has_not(wb: Workbench, replays: list[Any]) -> None:
    before = inventory(wb.environment)
    whole, part = (replay.replay_id for replay in replays)
    found = wb.aggregate_diff((ENTITY, DAY, whole), (ENTITY, DAY, part))
    only = {row["event_id"] for row in replays[0].selection.rows if row["event_time"] >= f"{DAY}T06"}
    assert set(found.only_in_a["event_id"]) == only
    assert found.only_in_b.empty
    assert not aggregate_drift(wb, ENTITY, DAY, whole).drifted
    assert not aggregate_drift(wb, ENTITY, DAY, part).drifted
    known = wb.replays(entity=ENTITY)
    assert sorted(known["sent"]) == [6, COUNT]
    assert known["complete"].all()
    assert known["requests"].max() == 3
    assert all(json.loads(days) == {DAY: count} for days, count in zip(known["days"], known["expected"], strict=True))
    after = inventory(wb.environment)
    assert all(difference.none for difference in before.difference(after).values())


def test_logs_and_metrics_tell_of_the_same_event(wb: Workbench, replays: list[Any]) -> None:
    event_id = str(replays[1].selection.rows[0]["event_id"])
    found = wb.logs(event_id=event_id)
    assert list(found["message"]) == ["arrival", "counted", "counted"]
    assert list(found["service"]) == ["ingest", "processor", "processor"]
    assert set(found["replay_id"].dropna()) == {replay.replay_id for replay in replays}
    request = str(found["request_id"].iloc[0])
    assert "arrival" in set(wb.logs(request_id=request, function="ingest")["message"])
    assert wb.metrics("Accepted")["value"].sum() >= COUNT
    waiting = wb.metrics("ApproximateNumberOfMessagesVisible", namespace="AWS/SQS", stat="Maximum")
    assert len(waiting)
