"""The deployer's policy, held against the template, the resource providers' schemas and IAM's limits."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from pik import project
from pik.rollout import deployer
from pik.rollout.deployer import RIGHTS
from tests.unit import template_tools as tools
from tests.unit.template_tools import phases

FOUND = sorted(project.TOOLS.glob("*/lib/python3*/site-packages/cfnlint/data/schemas"))
TEMPLATE = tools.load()
ACCOUNT, STACK = "111122223333", "p" * 33  # the longest name that is allowed
MADE_OF = {
    "AWS::Serverless::Function": ("AWS::Lambda::Function", "AWS::Lambda::Permission"),
    "AWS::Serverless::Api": ("AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage", "AWS::ApiGateway::Deployment"),
}
# What providers do for properties that the template has not, or to list what is not ours.
UNUSED = {
    "AWS::DynamoDB::Table": "*Replica *Item DeleteResourcePolicy DescribeImport DisableK* EnableK* ImportTable "
    "ListTables PutResourcePolicy Query Scan UpdateContributorInsights UpdateK*",
    "AWS::S3::Bucket": "*Metadata* DeleteBucket?* DeleteObject ListAllMyBuckets Put*Abac Put*Acl Put*CORS Put*Logging "
    "Put*Notification Put*ObjectLock* Put*Replication* PutAccelerate* PutAnalytics* PutBucketWebsite PutIntelligent* "
    "PutInventory* PutMetrics* PutObject*",
    "AWS::S3::BucketPolicy": "ListAllMyBuckets",
    "AWS::SQS::Queue": "ListQueues",
    "AWS::Logs::LogGroup": "*KmsKey *DataProtection* *Index* *ResourcePolic* CreateLogDelivery DescribeLogGroups "
    "PutBearer* PutLogGroupDeletionProtection",
    "AWS::Serverless::Function": "*CodeSigningConfig *ScalingConfig AssociateRuntimeAlias GetLayerVersion "
    "ListFunctions PassCapacityProvider PublishVersion PutFunctionRecursionConfig PutRuntimeManagementConfig",
    "AWS::Lambda::EventSourceMapping": "ListEventSourceMappings ListTags TagResource UntagResource",
    "AWS::IAM::Role": "AttachRolePolicy DetachRolePolicy ListRoles",
    "AWS::IAM::ManagedPolicy": "Attach* Detach* ListPolicies",
    "AWS::SSM::Parameter": "DescribeParameters",
    "AWS::CloudWatch::Dashboard": "ListDashboards",
    "AWS::Glue::Database": "*Connection GetDatabases",
    "AWS::Glue::Table": "GetDatabase GetSchemaVersion GetTables PassConnection UpdateDatabase",
    "AWS::Athena::WorkGroup": "ListWorkGroups",
}
# Asked by CloudFormation or SAM although no schema says so.
BEYOND = {"sqs:GetQueueAttributes", "lambda:GetFunctionConfiguration", "lambda:ListTags", "ssm:GetParameter"}


def test_every_type_of_the_template_has_its_rights() -> None:
    types = {resource["Type"] for resource in TEMPLATE["Resources"].values()}
    assert types == set(RIGHTS)


@pytest.mark.skipif(not FOUND, reason="cfn-lint is not installed (make setup)")
@pytest.mark.parametrize("kind", sorted(RIGHTS))
def test_the_rights_are_those_that_the_resource_providers_need(kind: str) -> None:
    service, _, names = RIGHTS[kind].actions.partition(": ")
    ours = {f"{service}:{name}" for name in names.split()}
    needed = {
        action for made in MADE_OF.get(kind, (kind,)) for action in _needed(made) if action.startswith(f"{service}:")
    }
    unused = [f"{service}:{pattern}" for pattern in UNUSED.get(kind, "").split()]
    lacking = {a for a in needed if not any(fnmatchcase(a, pattern) for pattern in (*ours, *unused))}
    assert lacking == set()
    assert {a for a in ours if not any(fnmatchcase(need, a) for need in needed)} <= BEYOND


def _needed(kind: str) -> set[str]:
    folder: Path = FOUND[0]
    name = json.loads((folder / "providers" / "us-east-1.json").read_text())[kind]
    schema: dict[str, Any] = json.loads((folder / "resources" / f"{name}.json").read_text())
    return {action for handler in schema["handlers"].values() for action in handler["permissions"]}


@pytest.mark.parametrize("region", ["eu-west-1", "us-gov-west-1", "cn-north-1"])
@pytest.mark.parametrize("boundary", ["", "arn:aws:iam::111122223333:policy/Boundary"])
def test_each_policy_fits_into_iam(region: str, boundary: str) -> None:
    made = deployer.policies(region, ACCOUNT, STACK, "prod", boundary=boundary)
    for name, document in made.items():
        assert len(json.dumps(document, separators=(",", ":"))) <= deployer.MOST, name
        sids = [statement["Sid"] for statement in document["Statement"]]
        assert len(set(sids)) == len(sids)
        assert all(sid.isalnum() for sid in sids)
        assert not re.search(r"\{\w", json.dumps(document).replace("${aws:username}", ""))


def test_only_what_has_no_resource_is_allowed_everywhere() -> None:
    made = deployer.policies("eu-west-1", ACCOUNT, "pik-prod", "prod")
    broad = {
        action
        for name in ("stack", "resources")
        for statement in made[name]["Statement"]
        if "*" in statement["Resource"] and "Condition" not in statement
        for action in statement["Action"]
    }
    assert broad == {
        *("cloudformation:GetTemplateSummary", "cloudformation:ListStacks", "cloudformation:ValidateTemplate"),
        *("iam:ListAccountAliases", "iam:SimulatePrincipalPolicy", "lambda:GetAccountSettings"),
    }


def test_a_boundary_is_demanded_of_every_role_and_cannot_be_taken_away() -> None:
    boundary = "arn:aws:iam::111122223333:policy/Boundary"
    stack = deployer.policies("eu-west-1", ACCOUNT, "pik-prod", "prod", boundary=boundary)["stack"]
    creating = [s for s in stack["Statement"] if "iam:CreateRole" in s["Action"]]
    assert [s["Condition"] for s in creating] == [{"StringEquals": {"iam:PermissionsBoundary": boundary}}]
    assert not [s for s in stack["Statement"] if "iam:DeleteRolePermissionsBoundary" in s["Action"]]


def test_who_deploys_may_do_all_that_viewers_operators_and_producers_may() -> None:
    full = phases(TEMPLATE, Environment="prod")["processor"]
    wanted = {
        action
        for name, statement in tools.statements(full)
        if name in ("ViewerPolicy", "OperatorPolicy", "ProducerPolicy")
        for action in tools.as_list(statement["Action"])
    }
    running = deployer.policies("eu-west-1", ACCOUNT, "pik-prod", "prod")["running"]
    assert {action for statement in running["Statement"] for action in statement["Action"]} == wanted
    assert "<" not in json.dumps(running)
