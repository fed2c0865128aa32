"""What replaces a resource, held against the resource providers' schemas that cfn-lint brings along."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pik import project
from pik.aws.evaluation import evaluate
from pik.aws.template import STATELESS, STORES, parse
from pik.rollout.plan.replacement import RULES, SAM, Replacement, replacement

FOUND = sorted(project.TOOLS.glob("*/lib/python3*/site-packages/cfnlint/data/schemas"))
TYPES = sorted({*RULES})
needs_schemas = pytest.mark.skipif(not FOUND, reason="cfn-lint is not installed (make setup)")


def schema(kind: str) -> dict[str, Any]:
    folder: Path = FOUND[0]
    name = json.loads((folder / "providers" / "us-east-1.json").read_text())[kind]
    found: dict[str, Any] = json.loads((folder / "resources" / f"{name}.json").read_text())
    return found


def paths(listed: list[str] | None) -> set[str]:
    return {path.removeprefix("/properties/") for path in listed or []}


@needs_schemas
@pytest.mark.parametrize("kind", TYPES)
def test_the_table_says_what_the_resource_provider_says(kind: str) -> None:
    found, rules = schema(kind), RULES[kind]
    assert rules.create_only == paths(found.get("createOnlyProperties"))
    assert rules.conditional == paths(found.get("conditionalCreateOnlyProperties"))
    assert rules.names <= found["properties"].keys()
    assert not rules.in_place & paths(found.get("readOnlyProperties"))


@needs_schemas
def test_what_the_schema_says_in_its_text_only_is_still_said() -> None:
    text = schema("AWS::DynamoDB::Table")["properties"]["AttributeDefinitions"]["description"]
    assert "Changing the type of an existing ``AttributeDefinition`` requires replacement" in text


@needs_schemas
def test_no_list_hides_another() -> None:
    for kind, rules in RULES.items():
        whole = {path for path in (*rules.create_only, *rules.conditional) if "/" not in path}
        assert not rules.in_place & whole, kind


def test_every_property_of_the_template_is_known() -> None:
    document = parse(project.TEMPLATE.read_text(encoding="utf-8"))
    phase = {"EnableReplay": "true", "EnableProcessor": "true"}
    for more in ({"Environment": "local"}, {"Environment": "prod", "AccessLogs": "true", "AlarmTopicArn": "arn:x"}):
        for name, one in evaluate(document, {**phase, **more}).resources.items():
            answers = {key: replacement(one.type, (key,), 1, 2) for key in one.properties}
            assert "unknown" not in answers.values(), (name, answers)


def test_every_type_is_known_and_no_other() -> None:
    become = {made[0] for properties in SAM.values() for made in properties.values() if made}
    assert {*RULES} | {*SAM} == STORES | STATELESS | become
    assert all(RULES[made[0]].names >= {made[1]} for properties in SAM.values() for made in properties.values() if made)


@pytest.mark.parametrize(
    ("kind", "path", "before", "after", "answer"),
    [
        ("AWS::DynamoDB::Table", "TableName", None, "mine", "yes"),
        ("AWS::DynamoDB::Table", "KeySchema/KeyType", "HASH", "RANGE", "may"),
        ("AWS::DynamoDB::Table", "AttributeDefinitions/AttributeType", "S", "N", "yes"),
        ("AWS::DynamoDB::Table", "AttributeDefinitions", None, {"AttributeName": "x", "AttributeType": "S"}, "no"),
        ("AWS::DynamoDB::Table", "AttributeDefinitions", {"AttributeName": "x", "AttributeType": "S"}, None, "no"),
        ("AWS::DynamoDB::Table", "BillingMode", "PAY_PER_REQUEST", "PROVISIONED", "no"),
        ("AWS::DynamoDB::Table", "SomethingNew", None, True, "unknown"),
        ("AWS::Kinesis::Stream", "ShardCount", 1, 2, "unknown"),
        ("AWS::Glue::Table", "TableInput/Name", "raw", "row", "yes"),
        ("AWS::Glue::Table", "TableInput/Description", "a", "b", "no"),
        ("AWS::Glue::Table", "TableInput", {"Name": "raw", "x": 1}, {"Name": "raw", "x": 2}, "no"),
        ("AWS::Glue::Table", "TableInput", {"Name": "raw"}, {"Name": "row"}, "yes"),
        ("AWS::Glue::Table", "TableInput", [{"Name": "raw"}], [{"Name": "row"}], "yes"),
        ("AWS::IAM::ManagedPolicy", "Description", "a", "b", "yes"),
        ("AWS::Serverless::Function", "FunctionName", None, "f", "yes"),
        ("AWS::Serverless::Function", "CodeUri", "a", "b", "no"),
        ("AWS::Serverless::Function", "Events/Post/Properties/Path", "/a", "/b", "no"),
        ("AWS::Serverless::Function", "SnapStart", None, {}, "unknown"),
        ("AWS::Serverless::Api", "StageName", "dev", "prod", "yes"),
        ("AWS::Serverless::Api", "GatewayResponses/THROTTLED", {}, None, "no"),
    ],
)
def test_a_change_replaces_or_not(kind: str, path: str, before: Any, after: Any, answer: Replacement) -> None:
    assert replacement(kind, tuple(path.split("/")), before, after) == answer
