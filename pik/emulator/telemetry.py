"""What CloudWatch does by itself and ministack does not: metrics out of EMF log lines, queues and APIs; honest alarms.

Runs inside the emulator's process (see ``launcher.py``), so it imports nothing of ``pik``. Being there, a log line
becomes a metric in the moment it is stored, exactly once, with no cursor that a crash could leave behind or ahead:
logs and metrics are in the same snapshot.

* Embedded Metric Format: every log line with ``_aws.CloudWatchMetrics`` becomes data points.
* AWS/SQS: visible and invisible messages and the age of the oldest, once a minute and when asked for.
* AWS/ApiGateway: Count, 4XXError, 5XXError of each request to a REST API.
* AWS/Lambda: Invocations, Errors, Throttles, Duration of every execution. ministack counts those through Invoke only,
  not what an API or a queue starts.
* Alarms: evaluated by period, with their dimensions and their treatment of missing data. ministack pools all
  dimensions, so that any queue's messages would raise the dead-letter queue's alarm.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

log = logging.getLogger("pik.emulator")

MERGE_SECONDS = 1.0  # equal values of one metric within this time are one point with a count
MERGE_TAIL = 8  # how many points back to look for one
RECENT_SECONDS = 300  # points older than this are merged by the minute: no period that is asked for is shorter
STALE_SECONDS = 14 * 24 * 3600  # CloudWatch refuses older data points

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "GreaterThanOrEqualToThreshold": lambda value, threshold: value >= threshold,
    "GreaterThanThreshold": lambda value, threshold: value > threshold,
    "LessThanThreshold": lambda value, threshold: value < threshold,
    "LessThanOrEqualToThreshold": lambda value, threshold: value <= threshold,
}


class Telemetry:
    """Feeds and replaces parts of ministack's CloudWatch."""

    def __init__(self) -> None:
        from ministack.services import cloudwatch, cloudwatch_logs, lambda_svc

        self.cloudwatch = cloudwatch
        self._compacted: dict[Any, int] = {}  # how many points of a metric are merged by the minute
        self._store_events = cloudwatch_logs._append_log_events
        cloudwatch_logs._append_log_events = self._append_log_events
        cloudwatch.record_metric = self.record
        cloudwatch._evaluate_alarm = self.evaluate
        self._store_execution = lambda_svc._emit_lambda_logs
        lambda_svc._emit_lambda_logs = self._executed
        lambda_svc._emit_lambda_metrics = self._throttled

    def _append_log_events(self, stream: dict[str, Any], events: Sequence[dict[str, Any]]) -> None:
        self._store_events(stream, events)
        for event in events:
            if '"_aws"' in event["message"]:
                for namespace, name, value, unit, dimensions, timestamp in parse_emf(event["message"]):
                    self.record(namespace, name, value, unit, dimensions, timestamp)

    def _executed(
        self, function: dict[str, Any], request_id: str, text: str, failed: bool, milliseconds: int, **more: Any
    ) -> None:
        self._store_execution(function, request_id, text, failed, milliseconds, **more)
        dimensions = {"FunctionName": (function.get("config") or function).get("FunctionName", "unknown")}
        self.record("AWS/Lambda", "Invocations", 1, "Count", dimensions)
        self.record("AWS/Lambda", "Errors", int(failed), "Count", dimensions)
        self.record("AWS/Lambda", "Throttles", 0, "Count", dimensions)
        self.record("AWS/Lambda", "Duration", milliseconds, "Milliseconds", dimensions)

    def _throttled(self, function_name: str, duration_ms: float, error: bool, throttle: bool) -> None:
        # Called where an execution is refused, and again (with a duration) by Invoke, which has been refused.
        if throttle and not duration_ms:
            self.record("AWS/Lambda", "Throttles", 1, "Count", {"FunctionName": function_name})

    def record(
        self,
        namespace: str,
        name: str,
        value: float,
        unit: str = "None",
        dimensions: dict[str, str] | None = None,
        timestamp: float | None = None,
    ) -> None:
        """Store one data point; one of the same value a moment ago only gets a higher count."""
        at = timestamp or time.time()
        points = self.cloudwatch._metric_bucket((namespace, name, self.cloudwatch._dims_key(dimensions or {})))
        for point in reversed(points[-MERGE_TAIL:]):
            if point["Value"] == value and abs(at - point.get("_since", 0.0)) < MERGE_SECONDS:
                point["Count"] += 1.0
                point["Timestamp"] = max(point["Timestamp"], at)
                return
        points.append(
            {
                "Timestamp": at,
                "_since": at,
                "Value": float(value),
                "Count": 1.0,
                "Unit": unit,
                "Dimensions": points[-1]["Dimensions"] if points else dict(dimensions or {}),  # one for all of them
            }
        )

    def sample(self) -> int:
        """Record every queue's state now, evaluate every alarm, of every account; return the number of data points."""
        from ministack.core.responses import request_scope
        from ministack.services import sqs

        stored = [*sqs._queues.all_items(), *self.cloudwatch._alarms.all_items()]
        count = 0
        for account, region in sorted({(account, region) for (account, region, _), _ in stored}):
            with request_scope(account, region):
                for queue in list(sqs._queues.values()):
                    for name, value, unit in queue_metrics(queue, time.time()):
                        self.record("AWS/SQS", name, value, unit, {"QueueName": queue["name"]})
                        count += 1
                self.cloudwatch._evaluate_all_alarms()
        self._compact(time.time() - RECENT_SECONDS)
        return count

    def _compact(self, before: float) -> None:
        """Merge the points of every metric of whole minutes before ``before``, each once."""
        before = before // 60 * 60
        for key, points in list(self.cloudwatch._metrics.all_items()):
            done = min(self._compacted.get(key, 0), len(points))
            end = next((n for n in range(done, len(points)) if points[n]["Timestamp"] >= before), len(points))
            merged = by_minute(points[done:end])
            points[done:end] = merged  # at once: others append meanwhile
            self._compacted[key] = done + len(merged)

    def request_served(self, api: str, stage: str, status: int) -> None:
        """Record one request to a REST API. Runs in the request's own (account and region) context."""
        from ministack.services import apigateway_v1

        name = (apigateway_v1._rest_apis.get(api) or {}).get("name")
        if not name:
            return
        counts = {"Count": 1, "4XXError": int(400 <= status < 500), "5XXError": int(status >= 500)}
        for dimensions in ({"ApiName": name}, {"ApiName": name, "Stage": stage}):
            for metric, value in counts.items():
                self.record("AWS/ApiGateway", metric, value, "Count", dimensions)

    def evaluate(self, alarm: dict[str, Any]) -> None:
        """Bring one metric alarm's state up to date; alarms over expressions are left as they are."""
        if not alarm.get("Namespace") or not alarm.get("MetricName"):
            return
        cloudwatch = self.cloudwatch
        dimensions = {d["Name"]: d["Value"] for d in alarm.get("Dimensions") or []}
        points = cloudwatch._metrics.get((alarm["Namespace"], alarm["MetricName"], cloudwatch._dims_key(dimensions)))
        values = [self._statistic(alarm, period) for period in periods(alarm, points or [], time.time())]
        state = alarm_state(alarm, values)
        old = alarm["StateValue"]
        if state == old:
            return
        shown = ", ".join("no data" if value is None else f"{value:g}" for value in values)
        reason = f"{alarm['ComparisonOperator']} {alarm['Threshold']:g}: {shown} (newest first)"
        alarm.update(StateValue=state, StateReason=reason, StateUpdatedTimestamp=int(time.time()))
        cloudwatch._record_history(alarm["AlarmName"], old, state, reason)
        cloudwatch._dispatch_alarm_actions(alarm, old, state, reason)
        cloudwatch._evaluate_parent_alarms(alarm)

    def _statistic(self, alarm: dict[str, Any], points: list[dict[str, Any]]) -> float | None:
        if not points:
            return None
        wanted = alarm.get("ExtendedStatistic") or alarm.get("Statistic") or "Average"
        value = self.cloudwatch._stat_value(self.cloudwatch._calc_stats(points), wanted, points)
        return None if value is None else float(value)


def by_minute(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return points with those of the same minute, value and unit as one, counted; statistics stay what they were.

    >>> by_minute([{"Timestamp": 1.0, "Value": 2.0, "Count": 1.0, "Unit": "Count"}] * 3)
    [{'Timestamp': 1.0, 'Value': 2.0, 'Count': 3.0, 'Unit': 'Count'}]
    """
    merged: dict[tuple[int, float, str], dict[str, Any]] = {}
    for point in points:
        place = int(point["Timestamp"] // 60), point["Value"], point.get("Unit", "None")
        if place in merged:
            merged[place]["Count"] += point.get("Count", 1.0)
        else:
            merged[place] = {**point, "Count": point.get("Count", 1.0)}
    return list(merged.values())


def parse_emf(line: str) -> Iterator[tuple[str, str, float, str, dict[str, str], float]]:
    """Yield (namespace, metric, value, unit, dimensions, timestamp) of every data point in an EMF line.

    A line that is not EMF, or a metric in it without a number, yields nothing, as on CloudWatch.
    """
    try:
        document = json.loads(line)
        header = document["_aws"]
        timestamp = header["Timestamp"] / 1000
        directives = list(header["CloudWatchMetrics"])
    except (ValueError, KeyError, TypeError):
        return
    if abs(time.time() - timestamp) > STALE_SECONDS:
        return
    for directive in directives:
        for names in directive.get("Dimensions") or [[]]:
            dimensions = {name: str(document[name]) for name in names if name in document}
            for metric in directive.get("Metrics", []):
                for value in _numbers(document.get(metric["Name"])):
                    yield (
                        directive["Namespace"],
                        metric["Name"],
                        value,
                        metric.get("Unit", "None"),
                        dimensions,
                        timestamp,
                    )


def _numbers(value: Any) -> Iterator[float]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, int | float) and not isinstance(item, bool):
            yield float(item)


def queue_metrics(queue: dict[str, Any], now: float) -> Iterable[tuple[str, float, str]]:
    """Return what SQS publishes about one queue: (metric, value, unit)."""
    messages = queue["messages"]
    visible = sum(message["visible_at"] <= now for message in messages)
    delayed = sum(message["visible_at"] > now and not message["receive_count"] for message in messages)
    oldest = min((message.get("enqueued_at", message["sent_at"]) for message in messages), default=now)
    return [
        ("ApproximateNumberOfMessagesVisible", visible, "Count"),
        ("ApproximateNumberOfMessagesDelayed", delayed, "Count"),
        ("ApproximateNumberOfMessagesNotVisible", len(messages) - visible - delayed, "Count"),
        ("ApproximateAgeOfOldestMessage", max(0.0, now - oldest), "Seconds"),
    ]


def periods(alarm: dict[str, Any], points: list[dict[str, Any]], now: float) -> list[list[dict[str, Any]]]:
    """Return the points of each evaluated period, newest first; the running one counts once it has any."""
    length = int(alarm.get("Period") or 60)
    wanted = int(alarm.get("EvaluationPeriods") or 1)
    current = int(now // length)
    by_period: dict[int, list[dict[str, Any]]] = {}
    for point in reversed(points):
        number = int(point["Timestamp"] // length)
        if number < current - wanted - 1:
            break
        by_period.setdefault(number, []).append(point)
    newest = current if current in by_period else current - 1
    return [by_period.get(newest - back, []) for back in range(wanted)]


def alarm_state(alarm: dict[str, Any], values: list[float | None]) -> str:
    """Return OK, ALARM or INSUFFICIENT_DATA for the statistic of each evaluated period (None: no data)."""
    treatment = alarm.get("TreatMissingData") or "missing"
    known = [value for value in values if value is not None]
    missing = len(values) - len(known)
    if not known and treatment == "missing":
        return "INSUFFICIENT_DATA"
    if not known and treatment == "ignore":
        return str(alarm["StateValue"])
    breaches = _COMPARE.get(alarm.get("ComparisonOperator") or "")
    breaching = sum(breaches(value, alarm["Threshold"]) for value in known) if breaches else 0
    if treatment == "breaching":
        breaching += missing
    needed = alarm.get("DatapointsToAlarm") or len(values)
    if treatment in ("missing", "ignore"):
        needed = min(int(needed), len(known))  # judged by what is there
    return "ALARM" if breaching >= int(needed) else "OK"
