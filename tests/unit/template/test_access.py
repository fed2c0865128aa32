"""Who may do what, what people are shown, and what raw ``sam`` does: template.yaml and samconfig.toml."""

from __future__ import annotations

import json
import re
import tomllib

import pytest

from pik import project
from pik.pipeline import settings
from tests.unit import template_tools as tools
from tests.unit.template_tools import Stack, phases

TEMPLATE = tools.load()
FULL = phases(TEMPLATE, Environment="prod")["processor"]


@pytest.fixture(params=["ingest", "replay", "processor"])
def stack(request: pytest.FixtureRequest) -> Stack:
    return phases(TEMPLATE, Environment="prod")[request.param]


# --- permissions ----------------------------------------------------------------------------------------------------


def test_no_wildcard_actions_and_no_wildcard_resources_without_need() -> None:
    unscoped = {"xray:", "cloudwatch:", "lambda:GetEventSourceMapping", "lambda:ListEventSourceMappings", "logs:"}
    for name, statement in tools.statements(FULL):
        assert not [action for action in tools.as_list(statement["Action"]) if "*" in action], name
        if "*" in tools.as_list(statement["Resource"]):
            assert all(action.startswith(tuple(unscoped)) for action in tools.as_list(statement["Action"])), name


def test_functions_have_roles_of_their_own_and_no_policy_templates() -> None:
    for name, function in FULL.of_type("AWS::Serverless::Function").items():
        assert function["Role"] == f"<{name.removesuffix('Function')}Role.Arn>"
        assert "Policies" not in function
    for role in FULL.of_type("AWS::IAM::Role").values():
        assert "ManagedPolicyArns" not in role


ALLOWED = {
    "IngestRole": {"s3:PutObject", "s3:GetObject", "s3:ListBucket", "dynamodb:GetItem", "dynamodb:PutItem"},
    "ReplayRole": {
        *("dynamodb:ConditionCheckItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query"),
        *("s3:GetObject", "s3:ListBucket", "sqs:SendMessage"),
    },
    "ProcessorRole": {
        *("s3:GetObject", "s3:ListBucket", "sqs:SendMessage"),
        *("dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:UpdateItem", "dynamodb:ConditionCheckItem"),
        *("sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes", "sqs:ChangeMessageVisibility"),
    },
    "ProducerPolicy": {"execute-api:Invoke"},
}
EVERY_FUNCTION = {"logs:CreateLogStream", "logs:PutLogEvents", "xray:PutTraceSegments", "xray:PutTelemetryRecords"}


@pytest.mark.parametrize("name", ALLOWED)
def test_exactly_these_actions(name: str) -> None:
    found = {a for where, s in tools.statements(FULL) if where == name for a in tools.as_list(s["Action"])}
    assert found - EVERY_FUNCTION == ALLOWED[name]


def test_the_viewer_changes_nothing() -> None:
    reading = re.compile(r"^[a-z0-9-]+:(Get|BatchGet|Describe|List|Query|Scan|Filter|StartQuery)")
    actions = {a for where, s in tools.statements(FULL) if where == "ViewerPolicy" for a in tools.as_list(s["Action"])}
    assert actions
    assert [action for action in actions if not reading.match(action)] == []
    assert "sqs:ReceiveMessage" not in actions  # it raises the receive count: a way to lose messages


def test_only_the_operator_stops_the_processor_and_only_this_one() -> None:
    stopping = [(n, s) for n, s in tools.statements(FULL) if "lambda:UpdateEventSourceMapping" in s["Action"]]
    ((name, statement),) = stopping
    assert name == "OperatorPolicy"
    assert statement["Resource"] == "arn:aws:lambda:eu-west-1:111122223333:event-source-mapping:<ProcessorMapping>"


def test_managed_policies_fit_into_iam(stack: Stack) -> None:
    for name, policy in stack.of_type("AWS::IAM::ManagedPolicy").items():
        size = len(json.dumps(policy["PolicyDocument"], separators=(",", ":")))
        assert size < 5_000, name  # IAM allows 6,144; names of resources are longer than the logical ids counted here


# --- seen by people -------------------------------------------------------------------------------------------------


def test_alarms_are_sent_only_when_a_topic_is_named() -> None:
    topic = "arn:aws:sns:eu-west-1:111122223333:oncall"
    for parameters, expected in (({}, None), ({"AlarmTopicArn": topic}, [topic])):
        alarms = Stack(TEMPLATE, {**tools.PHASES["processor"], **parameters}).of_type("AWS::CloudWatch::Alarm")
        assert len(alarms) == 13
        assert all(alarm.get("AlarmActions") == expected for alarm in alarms.values())


def test_the_dashboard_is_json_and_shows_metrics_that_the_pipeline_emits(stack: Stack) -> None:
    body = json.loads(stack.resources["Dashboard"]["Properties"]["DashboardBody"])
    shown = {
        (metric[1], metric[3])
        for widget in body["widgets"]
        for metric in widget["properties"].get("metrics", [])
        if metric[0] == settings.METRICS_NAMESPACE
    }
    assert len(shown) > 8
    for metric, service in shown:
        source = (project.ROOT / "pik" / "pipeline" / f"{service}.py").read_text(encoding="utf-8")
        if "guarded(" in source:  # counts requests and failures for the functions behind an API
            source += (project.ROOT / "pik" / "pipeline" / "http.py").read_text(encoding="utf-8")
        assert f'"{metric}"' in source or metric in {"Accepted", "Duplicate", "Conflict"}, metric


# --- samconfig.toml -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "local", "dev", "staging", "prod"])
def test_samconfig_deploys_each_environment_safely(name: str) -> None:
    config = tomllib.loads(project.SAMCONFIG.read_text(encoding="utf-8"))[name]
    deploy = config["deploy"]["parameters"]
    environment = "dev" if name == "default" else name
    stack = Stack(TEMPLATE, dict(pair.split("=", 1) for pair in deploy["parameter_overrides"]))
    assert stack.values["Environment"] == environment
    assert stack.outputs["Phase"] == "ingest"
    assert deploy["stack_name"] == f"pik-{environment}"
    assert deploy["confirm_changeset"] is (name != "local")
    assert deploy["fail_on_empty_changeset"] is False
    assert not {"region", "profile", "s3_bucket"} & deploy.keys()
    assert config["build"]["parameters"]["cached"] is False  # a cached build misses a new lambda.lock
