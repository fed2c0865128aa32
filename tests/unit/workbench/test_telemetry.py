"""Metrics and log lines as frames: every page, the right window, JSON read where there is some."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest

from pik import frames
from pik.errors import UsageError
from pik.pipeline.settings import METRICS_NAMESPACE, Settings
from pik.workbench import Workbench, telemetry
from tests.unit.moto_workbench import workbench

NOW = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=1)


@pytest.fixture
def wb(deployed: Settings) -> Workbench:
    return workbench(deployed)


def write(group: str, *lines: str, at: datetime = NOW) -> None:
    logs = boto3.client("logs")
    stream = f"s{datetime.now(UTC).timestamp()}"
    logs.create_log_stream(logGroupName=group, logStreamName=stream)
    events = [{"timestamp": int(at.timestamp() * 1000) + n, "message": line} for n, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName=stream, logEvents=events)


def line(message: str, **fields: Any) -> str:
    return json.dumps({"level": "INFO", "message": message, "service": "ingest", "correlation_id": "r1", **fields})


def test_lines_are_read_as_json_where_they_are(wb: Workbench) -> None:
    write("/pik/Ingest", line("arrival", event_id="e1"), "START RequestId: 7", "{not json", "[1]")
    write("/pik/Processor", line("set aside", service="processor", code="raw_missing", reason="none", message_id="m1"))
    found = wb.logs()
    assert found.dtypes.equals(frames.frame(telemetry.LOGS, []).dtypes)
    assert found.attrs["complete"]
    by = found.set_index("line")
    arrival = by.loc[line("arrival", event_id="e1")]
    assert (arrival["message"], arrival["event_id"], arrival["request_id"], arrival["level"]) == (
        "arrival",
        "e1",
        "r1",
        "INFO",
    )
    assert by.loc["START RequestId: 7", "message"] == "START RequestId: 7"
    assert by.loc["{not json", "service"] == "ingest"
    aside = found[found["code"] == "raw_missing"].iloc[0]
    assert (aside["service"], aside["reason"], aside["message_id"]) == ("processor", "none", "m1")


def test_choose_by_event_request_text_and_function(wb: Workbench) -> None:
    write("/pik/Ingest", line("a", event_id="e1"), line("b", event_id="e2"), 'say "hi"')
    write("/pik/Replay", line("a", event_id="e1", service="replay"))
    assert list(wb.logs(event_id="e1")["service"]) == ["ingest", "replay"]
    assert list(wb.logs(event_id="e1", function="replay")["service"]) == ["replay"]
    assert len(wb.logs(event_id="e1", text="nowhere")) == 0
    assert wb.logs(event_id="e1", text="nowhere").dtypes.equals(wb.logs().dtypes)
    assert list(wb.logs(request_id="r1", text='"b"')["event_id"]) == ["e2"]
    assert list(wb.logs(text='say "hi"')["line"]) == ['say "hi"']


def test_the_window_is_half_open_and_bounded(wb: Workbench) -> None:
    write("/pik/Ingest", "old", at=NOW - timedelta(hours=25))
    write("/pik/Ingest", "new")
    assert list(wb.logs()["line"]) == ["new"]
    assert list(wb.logs(start=NOW - timedelta(hours=26), end=NOW)["line"]) == ["old"]
    assert list(wb.logs(start=NOW, end=NOW + timedelta(milliseconds=1))["line"]) == ["new"]
    for wrong in ({"start": NOW, "end": NOW}, {"start": "yesterday"}):
        with pytest.raises(UsageError):
            wb.logs(**wrong)


def test_every_page_is_read_up_to_a_limit_that_is_said(wb: Workbench, monkeypatch: pytest.MonkeyPatch) -> None:
    write("/pik/Ingest", *(f"line {n}" for n in range(30)))
    real = boto3.client

    def small_pages(service: str, *arguments: Any, **more: Any) -> Any:
        client = real(service, *arguments, **more)
        if service == "logs":
            client.meta.events.register(
                "before-parameter-build.cloudwatch-logs.FilterLogEvents", lambda params, **_: params.update(limit=7)
            )
        return client

    monkeypatch.setattr(boto3, "client", small_pages)
    assert len(wb.logs(function="ingest")) == 30
    some = wb.logs(function="ingest", limit=10)
    assert (len(some), some.attrs["complete"]) == (10, False)


@pytest.mark.parametrize("wrong", ["proccessor", "Ingest", "lambda"])
def test_a_wrong_function_is_said(wb: Workbench, wrong: str) -> None:
    with pytest.raises(UsageError) as error:
        wb.logs(function=wrong)
    assert wrong[:4].lower() in error.value.next_step or "one of ingest" in error.value.next_step


def put(name: str, value: float, at: datetime, **dimensions: str) -> None:
    boto3.client("cloudwatch").put_metric_data(
        Namespace=METRICS_NAMESPACE,
        MetricData=[
            {
                "MetricName": name,
                "Value": value,
                "Unit": "Count",
                "Timestamp": at,
                "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
            }
        ],
    )


def test_a_metric_of_this_environment_only(wb: Workbench) -> None:
    put("Requests", 2, NOW - timedelta(minutes=2), environment="dev", service="ingest")
    put("Requests", 3, NOW - timedelta(minutes=1), environment="dev", service="replay")
    put("Requests", 100, NOW - timedelta(minutes=1), environment="prod", service="ingest")
    found = wb.metrics("Requests")
    assert list(found["value"]) == [2.0, 3.0]
    assert list(found["service"]) == ["ingest", "replay"]
    assert found["time"].is_monotonic_increasing
    assert found.dtypes.equals(frames.frame(telemetry.METRICS, []).dtypes)
    assert list(wb.metrics("Requests", service="replay")["value"]) == [3.0]
    other = {"environment": "prod", "service": "ingest"}
    assert list(wb.metrics("Requests", dimensions=other)["value"]) == [100.0]
    assert wb.metrics("Nothing").dtypes.equals(found.dtypes)


def test_more_points_than_one_answer_holds(wb: Workbench) -> None:
    for minutes in (10, 2000, 4000):
        put("Requests", 1, NOW - timedelta(minutes=minutes), environment="dev", service="ingest")
    assert len(wb.metrics("Requests", start=NOW - timedelta(minutes=4001))) == 3


def test_wrong_questions_are_said(wb: Workbench) -> None:
    with pytest.raises(UsageError, match="period"):
        wb.metrics("Requests", period=90)
    with pytest.raises(UsageError) as error:
        wb.metrics("Requests", stat="sum")
    assert "Sum" in error.value.next_step
