"""A workbench over the stores of a unit test (moto)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import boto3

from pik.aws.objects import Listed, Object
from pik.environments import Environment
from pik.pipeline import ingest, replay
from pik.pipeline.http import Request
from pik.pipeline.settings import Settings
from pik.workbench import Workbench

DAY = "2025-01-01"


class MotoEnvironment(Environment):
    """An environment whose clients are plain ones, which moto answers."""

    def client(self, service: str, **_: Any) -> Any:
        clients: dict[str, Any] = self.__dict__.setdefault("clients", {})
        return clients.get(service) or clients.setdefault(service, boto3.client(service))


class MotoObjects:
    """The raw bucket read with boto3, which moto answers; as :class:`pik.aws.objects.Objects`."""

    def __init__(self, bucket: str) -> None:
        self.bucket, self.s3 = bucket, boto3.client("s3")

    def get(self, key: str) -> Object | None:
        try:
            found = self.s3.get_object(Bucket=self.bucket, Key=key)
        except self.s3.exceptions.NoSuchKey:
            return None
        return Object(key, found["Body"].read(), found["ContentType"], found["Metadata"], found["ETag"])

    def many(self, keys: Iterable[str], each: Callable[[str, Object | None], Any]) -> Iterator[Any]:
        return (each(key, self.get(key)) for key in keys)

    def below(self, prefix: str) -> list[Listed]:
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=prefix)
        return [Listed(o["Key"], o["ETag"], o["Size"]) for page in pages for o in page.get("Contents", [])]

    def folders(self, prefix: str) -> tuple[list[str], list[Listed]]:
        pages = self.s3.get_paginator("list_objects_v2")
        found = list(pages.paginate(Bucket=self.bucket, Prefix=f"{prefix.rstrip('/')}/", Delimiter="/"))
        objects = [Listed(o["Key"], o["ETag"], o["Size"]) for page in found for o in page.get("Contents", [])]
        return [one["Prefix"].rstrip("/") for page in found for one in page.get("CommonPrefixes", [])], objects

    def first(self, prefix: str) -> Listed | None:
        return next(iter(self.below(prefix)), None)


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
        "Phase": "processor",
        **groups,
    }
    environment = MotoEnvironment("dev", "us-east-1")
    environment.outputs = lambda: outputs  # type: ignore[method-assign]
    wb = Workbench(environment, "123456789012", "3 processor", outputs)
    wb.__dict__["objects"] = MotoObjects(config.raw_bucket)
    return wb


def ingested(config: Settings, request_of: Callable[..., Any], count: int, entity: str = "e") -> None:
    """Ingest ``count`` events of an entity and the day, a minute apart."""
    for n in range(count):
        body = {"source": "s", "event_type": "t", "entity_id": entity, "event_time": f"{DAY}T00:{n:02d}:00Z"}
        ingest.ingest(Request.of(request_of({**body, "payload": {"n": n + 0.1}})), config)


def replayed(config: Settings, request_of: Callable[..., Any], replay_id: str, entity: str = "e", **more: Any) -> Any:
    """Replay an entity's day (or what ``more`` says of it); return the answer."""
    window = {"entity_id": entity, "start_time": f"{DAY}T00:00:00Z", "end_time": f"{DAY}T23:00:00Z"}
    return replay.replay(Request.of(request_of({**window, "replay_id": replay_id, **more})), config, lambda: True)
