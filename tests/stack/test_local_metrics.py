"""Log lines, queues and API requests become metrics, once; alarms look at their own dimensions only."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pik import emulator, errors
from pik.emulator.metrics import extract_metrics
from pik.emulator.realism import REGION
from pik.environments import Environment


def total(env: Environment, namespace: str, name: str, statistic: str = "Sum", **dimensions: str) -> float | None:
    points = env.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=datetime.now(UTC) - timedelta(minutes=10),
        EndTime=datetime.now(UTC) + timedelta(minutes=1),
        Period=3600,
        Statistics=[statistic],
    )["Datapoints"]
    return sum(point[statistic] for point in points) if points else None


def log_emf(env: Environment, group: str, values: list[float]) -> None:
    now = int(time.time() * 1000)
    line = {
        "_aws": {
            "Timestamp": now,
            "CloudWatchMetrics": [
                {
                    "Namespace": "Test",
                    "Dimensions": [["service"]],
                    "Metrics": [{"Name": "Accepted", "Unit": "Count"}],
                }
            ],
        },
        "service": group,
    }
    env.client("logs").put_log_events(
        logGroupName=group,
        logStreamName="one",
        logEvents=[{"timestamp": now, "message": json.dumps(line | {"Accepted": value})} for value in values]
        + [{"timestamp": now, "message": "not a metric"}],
    )


def new_group(env: Environment, name: str) -> None:
    env.client("logs").create_log_group(logGroupName=name)
    env.client("logs").create_log_stream(logGroupName=name, logStreamName="one")


def test_emf_lines_count_exactly_once(embedded_env: Environment) -> None:
    new_group(embedded_env, "emf-once")
    log_emf(embedded_env, "emf-once", [1, 1, 1, 5])

    for _ in range(3):
        extract_metrics(embedded_env)

    assert total(embedded_env, "Test", "Accepted", service="emf-once") == 8
    assert total(embedded_env, "Test", "Accepted", "SampleCount", service="emf-once") == 4
    log_emf(embedded_env, "emf-once", [1])
    assert total(embedded_env, "Test", "Accepted", service="emf-once") == 9


def test_metrics_survive_a_restart_and_are_not_counted_again(tmp_path: Path) -> None:
    with emulator.embedded(tmp_path) as info:
        env = Environment("local", REGION, info.endpoint)
        new_group(env, "emf")
        log_emf(env, "emf", [1, 2])
    with emulator.embedded(tmp_path) as info:
        env = Environment("local", REGION, info.endpoint)
        extract_metrics(env)

        assert total(env, "Test", "Accepted", service="emf") == 3


def states(env: Environment, *names: str) -> list[str]:
    found = env.client("cloudwatch").describe_alarms(AlarmNames=list(names))["MetricAlarms"]
    by_name: dict[str, Any] = {alarm["AlarmName"]: alarm["StateValue"] for alarm in found}
    return [by_name[name] for name in names]


def test_a_queues_alarm_hears_only_its_own_queue(embedded_env: Environment) -> None:
    sqs = embedded_env.client("sqs")
    urls = {name: sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("metrics-main", "metrics-dead")}
    for name in urls:
        embedded_env.client("cloudwatch").put_metric_alarm(
            AlarmName=name,
            Namespace="AWS/SQS",
            MetricName="ApproximateNumberOfMessagesVisible",
            Dimensions=[{"Name": "QueueName", "Value": name}],
            Statistic="Maximum",
            Period=60,
            EvaluationPeriods=1,
            Threshold=0,
            ComparisonOperator="GreaterThanThreshold",
        )
    assert states(embedded_env, *urls) == ["INSUFFICIENT_DATA"] * 2

    sqs.send_message(QueueUrl=urls["metrics-main"], MessageBody="waiting")
    assert extract_metrics(embedded_env) >= 8
    assert states(embedded_env, *urls) == ["ALARM", "OK"]

    sqs.send_message(QueueUrl=urls["metrics-dead"], MessageBody="failed")
    extract_metrics(embedded_env)
    assert states(embedded_env, *urls) == ["ALARM", "ALARM"]
    name = "ApproximateAgeOfOldestMessage"
    assert (total(embedded_env, "AWS/SQS", name, "Maximum", QueueName="metrics-main") or 0) > 0


def test_requests_to_an_api_are_counted_by_status(embedded_env: Environment) -> None:
    import httpx

    gateway = embedded_env.client("apigateway")
    api = gateway.create_rest_api(name="metrics-api")["id"]
    root = gateway.get_resources(restApiId=api)["items"][0]["id"]
    gateway.put_method(restApiId=api, resourceId=root, httpMethod="GET", authorizationType="NONE")
    gateway.put_integration(
        restApiId=api,
        resourceId=root,
        httpMethod="GET",
        type="MOCK",
        requestTemplates={"application/json": '{"statusCode": 200}'},
    )
    gateway.put_integration_response(restApiId=api, resourceId=root, httpMethod="GET", statusCode="200")
    gateway.put_method_response(restApiId=api, resourceId=root, httpMethod="GET", statusCode="200")
    gateway.create_deployment(restApiId=api, stageName="local")

    base = embedded_env.address(f"https://{api}.execute-api.us-east-1.amazonaws.com/local/")
    answers = [httpx.get(base + path, trust_env=False).status_code for path in ("", "missing")]

    refused = sum(400 <= status < 500 for status in answers)
    assert refused
    assert total(embedded_env, "AWS/ApiGateway", "Count", ApiName="metrics-api") == 2
    assert total(embedded_env, "AWS/ApiGateway", "4XXError", ApiName="metrics-api", Stage="local") == refused
    assert total(embedded_env, "AWS/ApiGateway", "5XXError", ApiName="metrics-api") == 0


def test_only_the_embedded_aws_needs_it() -> None:
    with pytest.raises(errors.UsageError):
        extract_metrics(Environment("dev", "eu-west-1"))
