"""EMF lines, queue metrics and alarm states as CloudWatch documents them."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest

from pik.emulator.telemetry import Telemetry, alarm_state, by_minute, parse_emf, periods, queue_metrics


def emf(**changes: Any) -> dict[str, Any]:
    line: dict[str, Any] = {
        "_aws": {
            "Timestamp": int(time.time() * 1000),
            "CloudWatchMetrics": [
                {
                    "Namespace": "N",
                    "Dimensions": [["service", "environment"]],
                    "Metrics": [{"Name": "Accepted", "Unit": "Count"}, {"Name": "Lag", "Unit": "Milliseconds"}],
                }
            ],
        },
        "service": "ingest",
        "environment": "local",
        "Accepted": 1,
        "Lag": [-3, 2.5],
        "event_id": "not a dimension",
    }
    return line | changes


def test_every_value_of_every_metric_is_a_data_point() -> None:
    points = list(parse_emf(json.dumps(emf())))

    dimensions = {"service": "ingest", "environment": "local"}
    assert [point[:5] for point in points] == [
        ("N", "Accepted", 1.0, "Count", dimensions),
        ("N", "Lag", -3.0, "Milliseconds", dimensions),
        ("N", "Lag", 2.5, "Milliseconds", dimensions),
    ]
    assert points[0][5] == pytest.approx(time.time(), abs=2)


def test_points_of_a_minute_are_merged_without_a_change_of_any_statistic() -> None:
    points: list[dict[str, Any]] = [
        {"Timestamp": 60.0 + n, "Value": float(n % 3), "Count": 1.0, "Unit": "Count"} for n in range(120)
    ]

    merged = by_minute(points)

    assert len(merged) == 6
    for minute in (1, 2):
        before = sorted(p["Value"] for p in points if p["Timestamp"] // 60 == minute)
        after = sorted(v for p in merged if p["Timestamp"] // 60 == minute for v in [p["Value"]] * int(p["Count"]))
        assert before == after


def test_load_keeps_a_bounded_number_of_points() -> None:
    telemetry, metrics = Telemetry.__new__(Telemetry), dict[Any, list[dict[str, Any]]]()
    telemetry._compacted = {}
    telemetry.cloudwatch = SimpleNamespace(
        _metrics=SimpleNamespace(all_items=metrics.items),
        _metric_bucket=lambda key: metrics.setdefault(key, []),
        _dims_key=str,
    )
    for second in range(3600):
        telemetry.record("N", "Lag", second % 2, "Milliseconds", {"a": "b"}, 1e9 + second)
        if second % 60 == 0:
            telemetry._compact(1e9 + second - 300)
    telemetry._compact(1e9 + 3660)

    ((_, points),) = metrics.items()
    assert len(points) <= 61 * 2
    assert sum(point["Count"] for point in points) == 3600
    assert len({id(point["Dimensions"]) for point in points}) == 1


def test_every_dimension_set_gets_its_own() -> None:
    line = emf(Lag=None)
    line["_aws"]["CloudWatchMetrics"][0]["Dimensions"] = [["service"], []]

    assert [point[4] for point in parse_emf(json.dumps(line))] == [{"service": "ingest"}, {}]


@pytest.mark.parametrize(
    "line",
    [
        "START RequestId",
        '{"_aws": 1}',
        '{"_aws": {"Timestamp": "x", "CloudWatchMetrics": []}}',
        "[]",
        '"_aws"',
        json.dumps(emf(Accepted="1", Lag=True)),
        json.dumps(emf(_aws={**emf()["_aws"], "Timestamp": 0})),
    ],
)
def test_what_is_no_metric_yields_nothing(line: str) -> None:
    assert list(parse_emf(line)) == []


def test_queue_metrics_tell_waiting_from_in_flight_and_delayed() -> None:
    now = 1000.0
    messages = [
        {"sent_at": 900.0, "visible_at": 900.0, "receive_count": 0},
        {"sent_at": 950.0, "enqueued_at": 800.0, "visible_at": 1030.0, "receive_count": 2},
        {"sent_at": 999.0, "visible_at": 1005.0, "receive_count": 0},
    ]

    values = {name: value for name, value, _ in queue_metrics({"messages": messages}, now)}

    assert values == {
        "ApproximateNumberOfMessagesVisible": 1,
        "ApproximateNumberOfMessagesNotVisible": 1,
        "ApproximateNumberOfMessagesDelayed": 1,
        "ApproximateAgeOfOldestMessage": 200.0,
    }


def test_an_empty_queue_has_zeros_not_gaps() -> None:
    assert [value for _, value, _ in queue_metrics({"messages": []}, 1000.0)] == [0, 0, 0, 0.0]


def test_periods_are_newest_first_and_the_running_one_counts_once_it_has_data() -> None:
    alarm = {"Period": 60, "EvaluationPeriods": 3}
    now = 600.0 + 5
    earlier = [{"Timestamp": 481.0}, {"Timestamp": 541.0}]

    assert periods(alarm, earlier, now) == [[{"Timestamp": 541.0}], [{"Timestamp": 481.0}], []]
    running = {"Timestamp": 601.0}
    assert periods(alarm, [*earlier, running], now) == [[running], [{"Timestamp": 541.0}], [{"Timestamp": 481.0}]]


@pytest.mark.parametrize(
    ("values", "treatment", "needed", "state"),
    [
        ([1.0], "missing", None, "ALARM"),
        ([0.0], "missing", None, "OK"),
        ([None], "missing", None, "INSUFFICIENT_DATA"),
        ([None], "notBreaching", None, "OK"),
        ([None], "breaching", None, "ALARM"),
        ([None], "ignore", None, "ALARM"),  # keeps the state it had
        ([1.0, 0.0, 1.0], "missing", 2, "ALARM"),
        ([1.0, 0.0, 0.0], "missing", 2, "OK"),
        ([1.0, None, None], "notBreaching", 2, "OK"),
        ([1.0, None, None], "breaching", 2, "ALARM"),
    ],
)
def test_alarm_states(values: list[float | None], treatment: str, needed: int | None, state: str) -> None:
    alarm = {
        "ComparisonOperator": "GreaterThanThreshold",
        "Threshold": 0.0,
        "TreatMissingData": treatment,
        "DatapointsToAlarm": needed,
        "StateValue": "ALARM",
    }

    assert alarm_state(alarm, values) == state
