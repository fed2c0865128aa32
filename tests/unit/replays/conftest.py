"""A replay API over moto's stores, a workbench, and what has the processor count."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

from pik import project
from pik.aws.exchange import Exchange
from pik.pipeline import http, ingest, processor
from pik.pipeline import replay as api
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.replays import following, manifest, planning, reading, running, sending
from pik.replays.planning import ReplayPlan
from pik.workbench import Workbench, replay_results
from tests.unit.moto_workbench import workbench

Ask = Callable[..., dict[str, Any]]
Send = Callable[..., dict[str, Any]]
DAY = ("2025-01-03T00:00:00Z", "2025-01-04T00:00:00Z")


@pytest.fixture
def send(deployed: Settings, request_of: Ask) -> Send:
    """Ingest an event of entity ``e`` on the third; return the answer."""

    def sent(time: str = "10:00:00", **more: Any) -> dict[str, Any]:
        body = {"source": "s", "event_type": "t", "entity_id": "e", "event_time": f"2025-01-03T{time}Z"}
        answer = ingest.ingest(Request.of(request_of({**body, "payload": {"n": 1}, **more})), deployed)
        return dict(json.loads(answer["body"]))

    return sent


class Api:
    """The replay API; ``before`` is called with the number of each request, and may answer in its place."""

    def __init__(self, config: Settings, request_of: Ask) -> None:
        self.config, self.request_of = config, request_of
        self.requests = 0
        self.before: Callable[[int], Exchange | None] = lambda _: None
        self.has_time: Callable[[], bool] = lambda: True

    def __call__(self, environment: Any, url: str, body: bytes, **_: Any) -> Exchange:
        self.requests += 1
        if answer := self.before(self.requests):
            return answer
        request, logger = Request.of(self.request_of(body)), api.logger
        found = http.guarded(request, lambda: api.replay(request, self.config, self.has_time), logger, api.metrics)
        return Exchange(body, found["statusCode"], json.loads(found["body"]))


@pytest.fixture
def replay_api(deployed: Settings, request_of: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Api:
    found = Api(deployed, request_of)
    for module in (sending, following):
        monkeypatch.setattr(module, "tried", found)
    monkeypatch.setattr(running, "WORKERS", 1)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(project, "STATE", tmp_path / ".pik")
    for module in (manifest, planning, reading, replay_results):  # moto mixes the answers of threads up
        monkeypatch.setattr(module, "PARALLEL", 1)
    return found


@pytest.fixture
def wb(deployed: Settings, replay_api: Api) -> Workbench:
    found = workbench(deployed)
    found.outputs.update(ReplayUrl="https://replay", ProcessorFunction="p")
    return found


def received(config: Settings) -> list[dict[str, Any]]:
    """Every message of the queue, taken out of it."""
    sqs, found = boto3.client("sqs"), []
    while batch := sqs.receive_message(QueueUrl=config.queue_url, MaxNumberOfMessages=10).get("Messages"):
        for message in batch:
            sqs.delete_message(QueueUrl=config.queue_url, ReceiptHandle=message["ReceiptHandle"])
        found += batch
    return found


def processed(config: Settings) -> int:
    """Have the processor count every message of the queue."""
    messages = received(config)
    records = [{"messageId": one["MessageId"], "body": one["Body"], "attributes": {}} for one in messages]
    assert processor.process_batch({"Records": records}, config) == {"batchItemFailures": []}
    return len(messages)


def planned(wb: Workbench, **more: Any) -> ReplayPlan:
    return wb.replay.plan(**{"entities": "e", "start": DAY[0], "end": DAY[1], **more})


def ids(config: Settings) -> list[str]:
    return sorted(json.loads(message["Body"])["event_id"] for message in received(config))
