"""Lines of the functions' logs, with their JSON read: as rows, for what needs no frame of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pik.aws.stack import aws_errors

if TYPE_CHECKING:
    from pik.aws.connection import Connection

FUNCTIONS = {
    "ingest": "IngestLogGroup",
    "replay": "ReplayLogGroup",
    "processor": "ProcessorLogGroup",
    "access": "AccessLogGroup",
}
LIMIT = 10_000  # lines of each function


def lines(
    aws: Connection,
    function: str,
    wanted: list[str],
    since: datetime,
    until: datetime,
    limit: int = LIMIT,
    requests: int | None = None,
) -> tuple[list[dict[str, Any]], int, bool]:
    """Return the lines of one function that hold every text wanted, the number of requests, and whether they are all.

    They are rows of :data:`pik.workbench.telemetry.LOGS`, in the order of time. Raises AwsError.
    """
    query: dict[str, Any] = {
        "logGroupName": aws.outputs[FUNCTIONS[function]],
        "startTime": int(since.timestamp() * 1000),
        "endTime": int(until.timestamp() * 1000) - 1,  # CloudWatch includes the end
    }
    # One plain term for CloudWatch to look for; the others, and whatever would need escaping, are compared here.
    plain = [term for term in wanted if not {'"', "\\"} & set(term)]
    if plain:
        query["filterPattern"] = f'"{max(plain, key=len)}"'
    rows, number = list[dict[str, Any]](), 0
    with aws_errors(aws.environment, "read the logs"):
        pages = aws.environment.client("logs").get_paginator("filter_log_events").paginate(**query)
        for number, page in enumerate(pages, 1):
            for event in page["events"]:
                if all(term in event["message"] for term in wanted):
                    rows.append(_row(function, query["logGroupName"], event))
                    if len(rows) > limit:
                        return rows[:limit], number, False
            if number == requests and page.get("nextToken"):
                return rows, number, False
    return rows, number, True


def _row(function: str, group: str, event: dict[str, Any]) -> dict[str, Any]:
    line = event["message"].rstrip("\n")
    members = fields(line)
    texts = {name: value for name, value in members.items() if isinstance(value, str)}
    kept = ("level", "event_id", "replay_id", "message_id", "code", "reason", "function_request_id")
    return {
        **{name: texts.get(name) for name in kept},
        "service": texts.get("service", function),
        "time": datetime.fromtimestamp(event["timestamp"] / 1000, UTC),
        "message": texts.get("message", None if members else line),
        "request_id": texts.get("correlation_id") or texts.get("request_id") or texts.get("requestId"),
        "log_group": group,
        "log_stream": event.get("logStreamName"),
        "line": line,
    }


def fields(line: str) -> dict[str, Any]:
    """Return what a line in JSON says by its names; nothing for another line."""
    try:
        members = json.loads(line) if line.startswith("{") else {}
    except (ValueError, RecursionError):
        return {}
    return members if isinstance(members, dict) else {}
