"""CloudWatch as frames: metrics, and the functions' log lines with their JSON read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from pik import clock, events, frames
from pik.aws.stack import aws_errors
from pik.emulator.metrics import extract_metrics
from pik.errors import UsageError
from pik.pipeline.settings import METRICS_NAMESPACE
from pik.text import named
from pik.workbench.log_lines import FUNCTIONS, LIMIT, lines
from pik.workbench.times import moment

if TYPE_CHECKING:
    import pandas as pd

    from pik.aws.connection import Connection

#: :data:`pik.frames.METRICS`, and the metric's ``namespace``, ``dimensions`` (JSON) and ``period`` (seconds).
METRICS = pa.schema([*frames.METRICS, ("namespace", pa.string()), ("dimensions", pa.string()), ("period", pa.int64())])
#: :data:`pik.frames.LOGS`, and the fields that explain a message: ``replay_id``, ``message_id``, ``code``,
#: ``reason``; ``function_request_id`` is Lambda's own.
LOGS = pa.schema(
    [
        *frames.LOGS,
        *((name, pa.string()) for name in ("replay_id", "message_id", "code", "reason", "function_request_id")),
    ]
)
WINDOW = timedelta(hours=24)
_STATISTICS = ("Sum", "Average", "Minimum", "Maximum", "SampleCount")
_MOST_POINTS = 1440  # https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_GetMetricStatistics.html


def metrics(
    aws: Connection,
    name: str,
    *,
    namespace: str = METRICS_NAMESPACE,
    dimensions: Mapping[str, str] | None = None,
    service: str | None = None,
    start: str | datetime | None = None,
    end: str | datetime | None = None,
    period: int = 60,
    stat: str = "Sum",
) -> pd.DataFrame:
    """Return a metric's points as a frame (:data:`METRICS`), in the order of time.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.metrics`.
    """
    stat = _choice("statistic", stat, _STATISTICS)
    if period < 60 or period % 60:
        raise UsageError(f"period={period}", reason="a multiple of 60 seconds, at least 60", next_step="period=60")
    since, until = window(start, end)
    if aws.environment.embedded:
        extract_metrics(aws.environment)
    with aws_errors(aws.environment, f"read the metric {name}"):
        series = [dict(dimensions)] if dimensions is not None else _series(aws, namespace, name)
        rows = [
            row
            for chosen in series
            if service in (None, chosen.get("service"))
            for row in _points(aws, namespace, name, chosen, since, until, period, stat)
        ]
    return frames.frame(METRICS, sorted(rows, key=lambda row: (row["time"], json.dumps(row["dimensions"]))))


def logs(
    aws: Connection,
    *,
    event_id: str | None = None,
    request_id: str | None = None,
    text: str | None = None,
    function: str | None = None,
    start: str | datetime | None = None,
    end: str | datetime | None = None,
    limit: int = LIMIT,
    requests: int | None = None,
) -> pd.DataFrame:
    """Return log lines as a frame (:data:`LOGS`), in the order of time, every page of them.

    Arguments, errors and an example: :meth:`pik.workbench.Workbench.logs`.
    """
    chosen = list(FUNCTIONS) if function is None else [_choice("function", function, tuple(FUNCTIONS))]
    since, until = window(start, end)
    wanted = [term for term in (event_id, request_id, text) if term]
    with ThreadPoolExecutor(len(FUNCTIONS)) as pool:
        found = list(pool.map(lambda name: lines(aws, name, wanted, since, until, limit, requests), chosen))
    rows = sorted((row for rows, _, _ in found for row in rows), key=lambda row: row["time"])
    made = sum(number for _, number, _ in found)
    return frames.frame(LOGS, rows, requests=made, complete=all(complete for _, _, complete in found))


def window(start: str | datetime | None, end: str | datetime | None) -> tuple[datetime, datetime]:
    """Return a half-open window as aware datetimes; 24 hours up to now where nothing is said. Raise UsageError."""
    now = datetime.now(UTC)
    until = events.parse_time(moment(end, "end")) if end is not None else now + clock.AHEAD
    since = events.parse_time(moment(start, "start")) if start is not None else min(now, until) - WINDOW
    if since >= until:
        raise UsageError(f"start {since} is not before end {until}", next_step="the end is left out of the window")
    return since, until


def _choice(what: str, value: str, known: tuple[str, ...]) -> str:
    if value in known:
        return value
    near = get_close_matches(value.capitalize(), known, n=1) or get_close_matches(value.lower(), known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known)}"
    raise UsageError(f"no such {what}: {named(value)}", next_step=hint)


def _series(aws: Connection, namespace: str, name: str) -> list[dict[str, str]]:
    """The dimensions of every series of a name that is this environment's: its own metrics, or its own resources'."""
    pages = aws.environment.client("cloudwatch").get_paginator("list_metrics")
    found = [
        {dimension["Name"]: dimension["Value"] for dimension in metric["Dimensions"]}
        for page in pages.paginate(Namespace=namespace, MetricName=name)
        for metric in page["Metrics"]
    ]
    found = list({json.dumps(chosen, sort_keys=True): chosen for chosen in found}.values())
    if namespace == METRICS_NAMESPACE:
        return [chosen for chosen in found if chosen.get("environment") == aws.environment.name]
    ours = {value.rpartition("/")[2] for value in aws.outputs.values()}
    return [chosen for chosen in found if ours.intersection(chosen.values())]


def _points(
    aws: Connection,
    namespace: str,
    name: str,
    dimensions: dict[str, str],
    since: datetime,
    until: datetime,
    period: int,
    stat: str,
) -> list[dict[str, Any]]:
    client, found = aws.environment.client("cloudwatch"), list[dict[str, Any]]()
    at = since.replace(second=0, microsecond=0)
    while at < until:
        upto = min(at + timedelta(seconds=period * _MOST_POINTS), until)
        found += client.get_metric_statistics(
            Namespace=namespace,
            MetricName=name,
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=at,
            EndTime=upto,
            Period=period,
            Statistics=[stat],
        )["Datapoints"]
        at = upto
    return [
        {
            "time": point["Timestamp"].astimezone(UTC),
            "name": name,
            "service": dimensions.get("service"),
            "statistic": stat,
            "value": point[stat],
            "unit": point.get("Unit"),
            "namespace": namespace,
            "dimensions": dimensions,
            "period": period,
        }
        for point in found
    ]
