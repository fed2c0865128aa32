"""The documented API against the deployed one: programs that sign, examples, and what API Gateway hands over."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from pik.aws import signed
from pik.environments import Environment
from scripts.api_docs import PROGRAMS
from scripts.api_examples import BINARY, EVENT, examples
from tests.unit.pipeline.test_api_docs import check_answer

Deploy = Callable[[str], dict[str, str]]
RUN = {"py": [sys.executable], "sh": ["sh"], "mjs": ["node"]}
NEEDS = {"py": sys.executable, "sh": "curl", "mjs": "node"}  # a bare machine has only the first
URL = {"ingest": "IngestUrl", "replay": "ReplayUrl"}


def test_the_documented_programs_send_an_event_once(
    embedded_env: Environment, deployed: Deploy, tmp_path: Path
) -> None:
    url = embedded_env.address(deployed("replay")["IngestUrl"])
    credentials = embedded_env.session.get_credentials().get_frozen_credentials()
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | {
        "INGEST_URL": url,
        "AWS_REGION": embedded_env.region,
        "AWS_DEFAULT_REGION": embedded_env.region,
        "AWS_ACCESS_KEY_ID": credentials.access_key,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_key,
    }
    file = tmp_path / "event.json"
    file.write_text(json.dumps({**EVENT, "entity_id": "programs"}))
    answered = {}
    for kind, program in RUN.items():
        if shutil.which(NEEDS[kind]) is None:
            continue
        command = [*program, str(PROGRAMS / f"ingest.{kind}"), str(file)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, (kind, done.stdout, done.stderr)
        answered[kind] = json.loads(done.stdout)
        check_answer("ingest", {"http": 200, **answered[kind]})
    assert [answer["status"] for answer in answered.values()] == ["ACCEPTED"] + ["DUPLICATE"] * (len(answered) - 1)
    wrong = subprocess.run(
        [sys.executable, str(PROGRAMS / "ingest.py"), str(file)],
        env={**env, "AWS_ACCESS_KEY_ID": "AKIAXXXXXXXXXXXXXXXX"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert wrong.returncode == 1
    assert httpx.post(url, content=file.read_bytes()).status_code == 403


def test_the_documented_examples_are_answered_as_said(embedded_env: Environment, deployed: Deploy) -> None:
    outputs, cursor = deployed("replay"), ""
    s3 = embedded_env.client("s3")
    for one in examples():
        body = json.dumps({**one.body, "cursor": cursor}).encode() if "cursor" in one.body else one.sent
        headers = {"Content-Type": one.content_type, **one.headers}
        answer = signed.request(embedded_env, "POST", outputs[URL[one.operation]], body, headers)
        said: dict[str, Any] = answer.json()
        assert answer.status_code == one.status, (one.name, said)
        assert said.keys() == one.answer.keys(), one.name
        check_answer(one.operation, {"http": answer.status_code, **said})
        cursor = said.get("cursor") or cursor
        if said.get("status") == "ACCEPTED":
            found = s3.get_object(Bucket=outputs["RawBucket"], Key=said["s3_key"])
            assert (found["Body"].read(), said["event_id"]) == (body, one.answer["event_id"])
            assert found["ContentType"] == one.content_type


@pytest.mark.parametrize(
    ("kind", "body", "payload"),
    [
        ("image/jpeg", b"\xff\xd8\xff\xe0", {"data_base64": "/9j/4A=="}),
        ("application/json", b"", {}),
        ("text/plain", b"x", {"value": "x"}),
    ],
)
def test_bytes_text_and_no_data_are_kept_as_sent(
    kind: str, body: bytes, payload: Any, embedded_env: Environment, deployed: Deploy
) -> None:
    import pik

    outputs = deployed("replay")
    headers = {**BINARY, "ce-id": kind, "ce-subject": "kinds", "Content-Type": kind, "Idempotency-Key": f'"{kind}"'}
    answer = signed.request(embedded_env, "POST", outputs["IngestUrl"], body, headers).json()
    assert answer["status"] == "ACCEPTED", answer
    found = embedded_env.client("s3").get_object(Bucket=outputs["RawBucket"], Key=answer["s3_key"])
    assert found["Body"].read() == body
    wb = pik.connect("local")
    told = wb.explain(answer["event_id"])
    assert not [problem for problem in told.problems if "log line" not in problem], told.to_text()
    raw = wb.raw(wb.events(entity="kinds", day="2026-11-20"), flatten=False)
    (row,) = [row for row in raw.to_dict("records") if row["event_id"] == answer["event_id"]]
    assert (json.loads(row["payload"]), row["hash_ok"]) == (payload, True)


def test_a_header_given_twice_is_seen(embedded_env: Environment, deployed: Deploy) -> None:
    url = embedded_env.address(deployed("replay")["IngestUrl"])
    body = json.dumps({**EVENT, "idempotency_key": None}).encode()
    headers = signed.sign(embedded_env, "POST", url, body, {"content-type": "application/json"})
    twice = [*headers.items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    answer = httpx.post(url, content=body, headers=twice, timeout=60)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_idempotency_key")
