"""The project's own stack on the embedded AWS: it works the same after a restart, and its functions are counted."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pik import emulator
from pik.aws import signed
from pik.emulator.metrics import extract_metrics
from pik.environments import Environment

Deploy = Callable[[str], dict[str, str]]


def ingest(env: Environment, outputs: dict[str, str], entity: str) -> dict[str, Any]:
    event = {
        "source": "AA",
        "event_type": "flight.departed",
        "entity_id": entity,
        "event_time": "2013-01-01T10:00:00Z",
        "payload": {"delay": 4},
    }
    answer = signed.request(env, "POST", outputs["IngestUrl"], json.dumps(event).encode())
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def restart_cleanly() -> emulator.Info:
    emulator.down()
    return emulator.up()


def crash_and_restart() -> emulator.Info:
    snapshots, began = emulator.state_dir() / "snapshots", time.time()
    while not any(snapshot.stat().st_mtime > began for snapshot in snapshots.glob("[0-9]*")):
        assert time.time() < began + 60, "it did not save although it was quiet"
        time.sleep(0.2)
    os.kill(emulator.up().pid, signal.SIGKILL)
    return emulator.up()


@pytest.mark.parametrize("restart", [restart_cleanly, crash_and_restart])
def test_the_stack_works_on_after_a_restart(
    embedded_env: Environment, deployed: Deploy, restart: Callable[[], emulator.Info]
) -> None:
    outputs = deployed("ingest")
    entity = f"N-{restart.__name__}"
    assert ingest(embedded_env, outputs, entity)["status"] == "ACCEPTED"

    info = restart()

    assert info.endpoint == embedded_env.endpoint  # same port: nobody else wanted it meanwhile
    assert embedded_env.outputs() == outputs
    assert ingest(embedded_env, outputs, entity)["status"] == "DUPLICATE"


def test_what_an_api_starts_is_counted_as_an_invocation(embedded_env: Environment, deployed: Deploy) -> None:
    outputs = deployed("ingest")
    ingest(embedded_env, outputs, "N-counted")
    extract_metrics(embedded_env)

    points = embedded_env.client("cloudwatch").get_metric_statistics(
        Namespace="AWS/Lambda",
        MetricName="Invocations",
        Dimensions=[{"Name": "FunctionName", "Value": outputs["IngestFunction"]}],
        StartTime=datetime.now(UTC) - timedelta(minutes=30),
        EndTime=datetime.now(UTC) + timedelta(minutes=1),
        Period=3600,
        Statistics=["Sum"],
    )["Datapoints"]
    assert sum(point["Sum"] for point in points) >= 1
