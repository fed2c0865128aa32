"""Hostile requests against the deployed APIs: each is answered, none with a 5xx, and no byte of a body is lost."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from pik import events
from pik.aws import signed
from pik.environments import Environment
from tests.hostile import cases
from tests.hostile.cases import MARK, Case
from tests.hostile.conftest import EVERYTHING, record

Deploy = Callable[[str], dict[str, str]]
WINDOW = {"entity_id": "paged", "start_time": "2025-01-01T00:00:00Z", "end_time": "2025-01-02T00:00:00Z"}

VALUES: dict[str, tuple[Any, ...]] = {
    "replay_id": ("", "..", "<b>", 5, None, "x" * 65),
    "entity_id": ("", 5, [], "\ud800", "x" * 257),
    "start_time": ("", 5, "9999-12-31", "2025-01-01T00:00:00.9999995Z"),
    "limit": (0, -1, 1.5, "1", True, 10**30),
}


def test_every_body_is_answered_and_kept(embedded_env: Environment, deployed: Deploy) -> None:
    outputs = deployed("ingest")
    began = datetime.now(UTC) - timedelta(seconds=5)
    tried = list(cases.bodies(EVERYTHING))

    def attempt(case: Case) -> str:
        answer = signed.request(embedded_env, "POST", outputs["IngestUrl"], case.body, case.headers)
        record(case.area, answer.status_code)
        return _wrong(embedded_env, outputs["RawBucket"], case, answer)

    with ThreadPoolExecutor(8) as pool:
        wrong = [
            f"{case.area}, {case.name}: {why}" for case, why in zip(tried, pool.map(attempt, tried), strict=True) if why
        ]
    assert wrong == []
    assert _lines_with(embedded_env, outputs, MARK, began) == []


def _wrong(environment: Environment, bucket: str, case: Case, answer: httpx.Response) -> str:
    """What is wrong with an answer; empty when nothing is."""
    said: dict[str, Any] = answer.json()
    if answer.status_code not in case.right:
        return f"answered {answer.status_code} {said.get('code')}, right is {case.right}"
    if MARK in answer.text or len(answer.content) > 4_000:
        return f"the answer has {len(answer.content)} bytes, or a payload's value"
    key = said["s3_key"] if "s3_key" in said else events.rejected_key(said["rejected_id"])
    kept = environment.client("s3").get_object(Bucket=bucket, Key=key)
    body = kept["Body"].read()
    if said["status"] == "DUPLICATE":
        return "" if kept["Metadata"]["body-sha256"] == hashlib.sha256(body).hexdigest() else "the first one is altered"
    return "" if body == case.body else f"{key} holds other bytes than were sent"


def _lines_with(environment: Environment, outputs: dict[str, str], text: str, since: datetime) -> list[str]:
    """Log lines that hold ``text``; waits until the lines of the last requests are there."""
    logs, group = environment.client("logs"), outputs["IngestLogGroup"]
    time.sleep(2)
    pages = logs.get_paginator("filter_log_events").paginate(
        logGroupName=group, startTime=int(since.timestamp() * 1000)
    )
    lines = [str(line["message"]) for page in pages for line in page["events"]]
    assert any('"arrival"' in line for line in lines)
    assert max(map(len, lines)) < 10_000
    return [line[:300] for line in lines if text in line]


@pytest.mark.parametrize("query", ["dry_run=on", "dry_run=", "DRY_RUN=true", "dryRun=1", "dry_run=false&dry_run=true"])
def test_a_misspelt_dry_run_stores_nothing(embedded_env: Environment, deployed: Deploy, query: str) -> None:
    outputs = deployed("ingest")
    body = cases.event(entity_id=f"dry-{query}")
    answer = signed.request(embedded_env, "POST", f"{outputs['IngestUrl']}?{query}", body)
    record("dry runs", answer.status_code)
    assert answer.status_code == 400
    real = signed.request(embedded_env, "POST", outputs["IngestUrl"], body)
    assert real.json()["status"] == "ACCEPTED"


def test_forged_signatures_reach_no_function(embedded_env: Environment, deployed: Deploy) -> None:
    outputs = deployed("ingest")
    url, body = embedded_env.address(outputs["IngestUrl"]), cases.event(entity_id="forged")
    good = signed.sign(embedded_env, "POST", url, body, {"content-type": "application/json"})
    scope = "Credential=AKIAFORGED0000000000/20250101/us-east-1/execute-api/aws4_request"
    forged = [
        {},
        {"authorization": "Basic eA=="},
        {"authorization": f"AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0"},
    ]
    for headers in forged:
        answer = httpx.post(url, content=body, headers=headers)
        record("signatures", answer.status_code)
        assert answer.status_code == 403
    assert httpx.post(url, content=body, headers=good).json()["status"] == "ACCEPTED"


def test_hostile_replay_requests_are_refused(embedded_env: Environment, deployed: Deploy) -> None:
    outputs = deployed("replay")
    for second in range(3):
        sent = cases.event(entity_id="paged", event_time=f"2025-01-01T00:00:0{second}Z")
        assert signed.request(embedded_env, "POST", outputs["IngestUrl"], sent).status_code == 200

    def ask(document: Any) -> httpx.Response:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        answer = signed.request(embedded_env, "POST", outputs["ReplayUrl"], body)
        record("replay requests", answer.status_code)
        return answer

    ours = ask({**WINDOW, "limit": 1, "dry_run": True}).json()["cursor"]
    hostile: list[tuple[str, Any]] = [(f"cursor {n}", {**WINDOW, "cursor": c}) for n, c in cases.cursors(ours)]
    for name, values in VALUES.items():
        hostile += [(f"{name} {value!r:.20}", {**WINDOW, name: value}) for value in values]
    hostile += [(f"text {n}", text) for n, text in enumerate((b"", b"[]", b"\xff", b"[" * 100_000, b'{"a":1,"a":2}'))]
    hostile += [("unknown field of 1 MB", {**WINDOW, "x" * 1_000_000: 1})]
    wrong = [
        f"{name}: {answer.status_code} {answer.text[:200]}"
        for name, document in hostile
        if (answer := ask(document)).status_code != 400 or len(answer.content) > 4_000
    ]
    assert wrong == []
