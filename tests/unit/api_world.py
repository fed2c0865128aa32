"""Requests as API Gateway hands them over, and the events that are made of them as everything reads them back."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import boto3
import pytest

from pik.pipeline import ingest, replay
from pik.pipeline.http import Request
from pik.pipeline.processor import parse_message, read_event
from pik.pipeline.settings import Settings
from pik.workbench.consistency import reindex
from tests.unit.moto_workbench import workbench
from tests.unit.world import World


class Api:
    """``POST /ingest`` over the stores of a unit test."""

    def __init__(self, config: Settings, request_of: Callable[..., Any], world: World) -> None:
        self.config, self.request_of, self.world = config, request_of, world

    def send(self, body: Any, headers: dict[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """Send an event; return the answer and its status as ``http``."""
        return self.post("ingest", body, headers, **query)

    def post(self, operation: str, body: Any, headers: dict[str, Any] | None = None, **query: str) -> dict[str, Any]:
        """Send a body with headers, several values of one as a list; return the answer and its status as ``http``."""
        module = {"ingest": ingest, "replay": replay}[operation]
        event = self.request_of(body, None, **query)
        several = {name: value if isinstance(value, list) else [value] for name, value in (headers or {}).items()}
        event["multiValueHeaders"] = {"Content-Type": ["application/json"]} | several
        event["headers"] = {name: values[-1] for name, values in event["multiValueHeaders"].items()}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "settings", lambda: self.config)
            found = module.handler(event, Context())
        return {"http": found["statusCode"], **json.loads(found["body"])}

    def forget_rows(self) -> None:
        """Delete every row, as if ingest had ended right after it put the object."""
        for table, keys in (("events", ("PK", "SK")), ("dedupe", ("event_id",))):
            for row in self.world.table(table):
                boto3.client("dynamodb").delete_item(TableName=table, Key={key: {"S": row[key]} for key in keys})

    def reads_back(self) -> tuple[dict[str, Any], Any]:
        """Replay the only event, process it, explain it, rebuild its rows from its object; return row and payload."""
        wb, (row,) = workbench(self.config), self.world.table("events")
        day = row["event_time"][:10]
        asked = {"entity_id": row["entity_id"], "start_time": f"{day}T00:00:00Z", "end_time": f"{day}T23:59:59Z"}
        replay.replay(Request.of(self.request_of(asked)), self.config, lambda: True)
        (message,) = self.world.messages(self.config.queue_url)
        event = read_event(parse_message(message["Body"]), self.config)
        assert event.event_id == row["event_id"]
        problems = wb.explain(row["event_id"]).problems
        assert not [problem for problem in problems if "log line" not in problem]
        before = self.world.table("events"), self.world.table("dedupe")
        self.forget_rows()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pik.workbench.consistency.snapshot.retention_days", lambda _: 365)
            rebuilt = reindex.reindex(wb, f"{day[:4]}-01-01", f"{int(day[:4]) + 1}-01-01", apply=True)
        assert rebuilt.written == 2
        assert (self.world.table("events"), self.world.table("dedupe")) == before
        return row, event.payload


class Context:
    """What Lambda tells a handler."""

    function_name = aws_request_id = invoked_function_arn = "ingest"
    memory_limit_in_mb = 128

    def get_remaining_time_in_millis(self) -> int:
        """As much time as a function of the template has."""
        return 29_000
