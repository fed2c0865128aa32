"""One event that went through everything, told by the stores of a real stack."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from pik.aws import signed
from pik.aws.reading import StoreReader, eventually
from pik.environments import Environment
from pik.errors import UsageError
from pik.workbench import Workbench, connect
from tests.inventory import inventory

Deploy = Callable[[str], dict[str, str]]
ENTITY, KEY = "N-explained", "flight-7"


def send(env: Environment, outputs: dict[str, str], delay: int, request: str, **more: Any) -> dict[str, Any]:
    event = {
        "source": "explained",
        "event_type": "flight.departed",
        "entity_id": ENTITY,
        "event_time": "2013-01-01T10:17:00Z",
        "idempotency_key": KEY,
        "payload": {"delay": delay},
        **more,
    }
    answer = signed.request(env, "POST", outputs["IngestUrl"], json.dumps(event).encode(), {"x-request-id": request})
    return dict(answer.json())


def replay(env: Environment, outputs: dict[str, str], replay_id: str) -> None:
    window = {"start_time": "2013-01-01T00:00:00Z", "end_time": "2013-01-02T00:00:00Z"}
    body = json.dumps({"entity_id": ENTITY, "replay_id": replay_id, **window}).encode()
    answer = signed.request(env, "POST", outputs["ReplayUrl"], body)
    assert answer.json()["sent"] == 1, answer.text


def drained(env: Environment) -> None:
    assert eventually(StoreReader(env).waiting, lambda left: left == 0, 60) == 0


@pytest.fixture(scope="module")
def told(embedded_env: Environment, deployed: Deploy) -> tuple[Workbench, str]:
    """The event's id, after: late, twice the same request, a conflict, counted once, and once poison."""
    outputs = deployed("processor")
    first = send(embedded_env, outputs, 4, "r-1")
    event_id, key = first["event_id"], first["s3_key"]
    assert send(embedded_env, outputs, 4, "r-1")["status"] == "DUPLICATE"
    assert send(embedded_env, outputs, 4, "r-2")["status"] == "DUPLICATE"
    assert send(embedded_env, outputs, 99, "r-3")["status"] == "CONFLICT"
    replay(embedded_env, outputs, "explained-good")
    drained(embedded_env)
    s3, bucket = embedded_env.client("s3"), outputs["RawBucket"]
    good = s3.get_object(Bucket=bucket, Key=key)
    body, kept = good["Body"].read(), {"Metadata": good["Metadata"], "ContentType": good["ContentType"]}
    s3.put_object(Bucket=bucket, Key=key, Body=body.replace(b"4}", b"5}"), **kept)
    replay(embedded_env, outputs, "explained-poison")
    drained(embedded_env)
    s3.put_object(Bucket=bucket, Key=key, Body=body, **kept)
    wb = connect("local")
    eventually(lambda: wb.explain(event_id).to_text(), lambda text: "set aside  " in text, 30)
    return wb, event_id


def test_it_tells_everything_and_touches_nothing(
    told: tuple[Workbench, str], embedded_env: Environment, capsys: pytest.CaptureFixture[str]
) -> None:
    wb, event_id = told
    before = inventory(embedded_env)
    explained = wb.explain(event_id)
    assert not any(not change.none for change in before.difference(inventory(embedded_env)).values())
    with capsys.disabled():
        print(f"\n{explained.to_text()}\nexplained in {explained.seconds} s")  # noqa: T201 - shown, as a busy machine is no bug

    whats = [line.what for line in explained.lines if line.what != "log line"]
    again = ["received", "received again", "received again", "conflict"]
    assert whats[:6] == [*again, "replay", "processed"]
    assert sorted(whats[6:8]) == ["replay", "set aside"]  # a message may be processed before its replay is recorded
    assert whats[8:] == ["now"]
    text = explained.to_text()
    assert re.fullmatch(
        r"accepted [\d-]{10} [\d:]{8}Z, kept intact, sent again twice, in conflict with another body once, "
        r"replayed twice, counted in 1 of 2 replays",
        explained.became,
    )
    for part in (
        f"explained · flight.departed · {ENTITY} · 2013-01-01T10:17:00.000000Z",
        "sha256 ✓",
        "the same request id as before",
        "a new request",
        "explained-good",
        "(1 of 1 COMPLETE)",
        "hash_mismatch",
        "moved to the dead-letter queue for explained-poison",
    ):
        assert part in text
    assert explained.problems == (
        "it is not counted for explained-poison: wb.dlq.peek() says why, wb.dlq.redrive() sends it again",
    )
    assert "<script" not in explained.to_html()
    assert json.loads(json.dumps(explained.to_dict()))["event_id"] == event_id
    assert len(explained.frame) == len(explained.lines)


def test_an_id_that_never_existed_is_said_to_be_one(told: tuple[Workbench, str]) -> None:
    wb, event_id = told
    never = wb.explain("0" * 64)
    assert (never.exists, never.lines) == (False, ())
    assert "never seen in local" in never.headline
    with pytest.raises(UsageError, match="not an event id"):
        wb.explain(event_id[:12])


def test_a_rejected_body_is_found_by_its_id(told: tuple[Workbench, str], embedded_env: Environment) -> None:
    wb, _ = told
    answer = signed.request(embedded_env, "POST", wb.outputs["IngestUrl"], b'{"source": 1}').json()
    rejected = wb.explain(answer["rejected_id"])
    assert rejected.exists
    assert rejected.lines[0].what == "rejected"
    assert not wb.explain("2013-01-01." + "0" * 64).exists


def test_what_is_gone_is_told_from_what_is_left(told: tuple[Workbench, str], embedded_env: Environment) -> None:
    wb, event_id = told
    found = embedded_env.client("dynamodb").delete_item(
        TableName=wb.outputs["DedupeTable"], Key={"event_id": {"S": event_id}}, ReturnValues="ALL_OLD"
    )
    try:
        explained = wb.explain(event_id)
        assert any("dedupe row is gone" in problem for problem in explained.problems)
        assert "received again" in [line.what for line in explained.lines]
    finally:
        embedded_env.client("dynamodb").put_item(TableName=wb.outputs["DedupeTable"], Item=found["Attributes"])
