"""A workbench over the stores of a unit test (moto)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3

from pik.environments import Environment
from pik.pipeline import ingest, replay
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.workbench import Workbench

DAY = "2025-01-01"


class MotoEnvironment(Environment):
    """An environment whose clients are plain ones, which moto answers."""

    def client(self, service: str, **_: Any) -> Any:
        return boto3.client(service)


def workbench(config: Settings) -> Workbench:
    """Return a workbench whose outputs name the stores of ``config``."""
    logs = boto3.client("logs")
    groups = {f"{name}LogGroup": f"/pik/{name}" for name in ("Ingest", "Replay", "Processor", "Access")}
    for name in groups.values():
        logs.create_log_group(logGroupName=name)
    outputs = {
        "EventsTable": config.events_table,
        "DedupeTable": config.dedupe_table,
        "AggregatesTable": config.aggregates_table,
        "ReplaysTable": config.replays_table,
        "RawBucket": config.raw_bucket,
        "QueueUrl": config.queue_url,
        "DeadLetterQueueUrl": config.dead_letter_queue_url,
        **groups,
    }
    environment = MotoEnvironment("dev", "us-east-1")
    environment.outputs = lambda: outputs  # type: ignore[method-assign]
    return Workbench(environment, "123456789012", "3 processor", outputs)


def ingested(config: Settings, request_of: Callable[..., Any], count: int, entity: str = "e") -> None:
    """Ingest ``count`` events of an entity and the day, a minute apart."""
    for n in range(count):
        body = {"source": "s", "event_type": "t", "entity_id": entity, "event_time": f"{DAY}T00:{n:02d}:00Z"}
        ingest.ingest(Request.of(request_of({**body, "payload": {"n": n + 0.1}})), config)


def replayed(config: Settings, request_of: Callable[..., Any], replay_id: str, entity: str = "e", **more: Any) -> Any:
    """Replay an entity's day (or what ``more`` says of it); return the answer."""
    window = {"entity_id": entity, "start_time": f"{DAY}T00:00:00Z", "end_time": f"{DAY}T23:00:00Z"}
    return replay.replay(Request.of(request_of({**window, "replay_id": replay_id, **more})), config, lambda: True)
