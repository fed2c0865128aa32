"""Kill -9 at every boundary between writes, then the client's retry: nothing is lost and the stores agree."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from pik import project
from pik.aws import signed
from pik.environments import Environment
from pik.pipeline import settings
from tests.faults.agreement import disagreements, scan

RETENTION_DAYS = 365
Worker = Callable[[bytes, int], "dict[str, Any] | None"]
Retry = Callable[[bytes], dict[str, Any]]


@pytest.fixture(scope="module")
def outputs(deployed: Callable[[str], dict[str, str]]) -> dict[str, str]:
    return deployed("ingest")


@pytest.fixture
def worker(embedded_env: Environment, outputs: dict[str, str]) -> Worker:
    """Run a worker on one body, killed at the given moment: its answer, or None when it was killed."""
    assert embedded_env.endpoint
    environ = {
        **embedded_env.subprocess_env(),
        "AWS_ENDPOINT_URL": embedded_env.endpoint,
        "AWS_DEFAULT_REGION": embedded_env.region,
        "POWERTOOLS_TRACE_DISABLED": "true",
        "POWERTOOLS_SERVICE_NAME": "ingest",
        "PYTHONPATH": str(project.ROOT),
        settings.ENVIRONMENT: "local",
        settings.EVENTS_TABLE: outputs["EventsTable"],
        settings.DEDUPE_TABLE: outputs["DedupeTable"],
        settings.RAW_BUCKET: outputs["RawBucket"],
        settings.RETENTION_DAYS: str(RETENTION_DAYS),
    }

    def run(body: bytes, kill_at: int) -> dict[str, Any] | None:
        event = {
            "body": base64.b64encode(body).decode(),
            "isBase64Encoded": True,
            "headers": {"Content-Type": "application/json"},
            "requestContext": {"requestId": str(uuid4())},
        }
        command = [sys.executable, "-m", "tests.faults.worker", str(kill_at)]
        done = subprocess.run(
            command, input=json.dumps(event), capture_output=True, text=True, env=environ, cwd=project.ROOT, check=False
        )
        if done.returncode == -signal.SIGKILL:
            return None
        assert done.returncode == 0, done.stderr
        # Log lines and metrics share standard output with the answer.
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        (answer,) = [line for line in lines if "statusCode" in line]
        return {**answer, "body": json.loads(answer["body"])}

    return run


@pytest.fixture
def retry(embedded_env: Environment, outputs: dict[str, str]) -> Retry:
    """Send a body as a producer does: through the API, to a worker that lives."""

    def send(body: bytes) -> dict[str, Any]:
        url = embedded_env.address(outputs["IngestUrl"])
        answer: dict[str, Any] = signed.request(embedded_env, "POST", url, body).json()
        return answer

    return send


def event(**changes: Any) -> bytes:
    facts = {"source": "pik.probe", "event_type": "crash", "entity_id": f"pik-probe-{uuid4()}"}
    return json.dumps({**facts, "event_time": "2025-01-01T00:00:00Z", "payload": {"n": 1}, **changes}).encode()


SCENES: dict[str, tuple[list[dict[str, Any]], dict[str, Any], set[str]]] = {
    # name: (arrivals before, the arrival whose worker dies, what the retry may be answered)
    "first arrival": ([], {}, {"ACCEPTED", "DUPLICATE"}),
    "first arrival with a key": ([], {"idempotency_key": "k"}, {"ACCEPTED", "DUPLICATE"}),
    "duplicate": ([{}], {}, {"DUPLICATE"}),
    "conflict": ([{"idempotency_key": "k"}], {"idempotency_key": "k", "payload": {"n": 2}}, {"CONFLICT"}),
    "rejected": ([], {"payload": 5}, {"REJECTED"}),
}


@pytest.mark.parametrize("scene", SCENES)
def test_a_worker_killed_at_any_moment_loses_nothing(
    scene: str, embedded_env: Environment, outputs: dict[str, str], worker: Worker, retry: Retry
) -> None:
    before, dying, allowed = SCENES[scene]
    killed = 0
    for moment in range(20):
        entity = f"pik-probe-{uuid4()}"
        for facts in before:
            assert retry(event(entity_id=entity, **facts))["status"] == "ACCEPTED"
        body = event(entity_id=entity, **dying)
        survivor = worker(body, moment)
        answer = retry(body)
        assert answer["status"] in allowed, (scene, moment, answer)
        assert disagreements(embedded_env, outputs, RETENTION_DAYS) == []
        assert_kept(embedded_env, outputs, body, answer)
        if survivor is not None:
            assert survivor["moments"] == moment
            break
        killed += 1
    else:
        pytest.fail("the worker never reached its end")
    assert killed >= 2, f"{scene}: there are at least a moment before and one after a write"


def assert_kept(env: Environment, outputs: dict[str, str], body: bytes, answer: dict[str, Any]) -> None:
    key = answer.get("s3_key") or "rejected/ingest_date={}/{}.bin".format(*answer["rejected_id"].split("."))
    assert env.client("s3").get_object(Bucket=outputs["RawBucket"], Key=key)["Body"].read() == body


@pytest.fixture
def killer(embedded_env: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Kill -9 six ingest workers of the embedded AWS, one after the other, while the test runs; list their ids."""
    killed: list[int] = []
    over = threading.Event()

    def hunt() -> None:
        while len(killed) < 6 and not over.wait(0.7):
            for pid in ingest_workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=hunt)
    thread.start()
    yield killed
    over.set()
    thread.join()


def ingest_workers() -> list[int]:
    """Return the process ids of this embedded AWS's ingest workers, found by where they run."""
    from pik import emulator

    state, found = str(emulator.state_dir()), []
    for process in Path("/proc").iterdir():
        try:
            where = os.readlink(process / "cwd") if process.name.isdigit() else ""
        except OSError:
            continue
        if where.startswith(state) and "ministack-lambda-" in where and "Ingest" in where:
            found.append(int(process.name))
    return found


def test_lambda_workers_killed_under_load_lose_nothing(
    embedded_env: Environment, outputs: dict[str, str], killer: list[int]
) -> None:
    from pik import producer

    entity = f"pik-probe-{uuid4()}"
    lines = [event(entity_id=entity, payload={"n": number}) for number in range(600)]
    path = Path(os.environ["PIK_LOCAL_STATE"]) / "load.jsonl"
    path.write_bytes(b"\n".join(lines))
    summary = producer.send(producer.open_source(str(path)), "local", concurrency=4)
    assert len(killer) >= 2, "too few workers died to prove anything"
    assert (summary.failed, summary.conflict, summary.rejected, summary.total) == (0, 0, 0, 600)
    assert disagreements(embedded_env, outputs, RETENTION_DAYS) == []
    rows = [row for row in scan(embedded_env, outputs["EventsTable"]) if row["entity_id"] == entity]
    assert sum(row["status"] == "ACCEPTED" for row in rows) == 600
