"""The deployer's policy, held against the template, the resource providers' schemas and IAM's limits."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from pik import project
from pik.aws.evaluation import pseudo
from pik.rollout.deploy import deployer
from pik.rollout.deploy.deployer import RIGHTS
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


def _named(stack: str) -> set[str]:
    """The ARNs of what a stack consists of, with the names that CloudFormation gives (API Gateway's have none)."""
    kinds = {name: resource["Type"] for name, resource in TEMPLATE["Resources"].items()}
    own = {"Queue": f"{stack}-queue-1a2b3c4d"}
    physical = {name: own.get(name, f"{stack}-{name}-1A2B3C4D5E6F") for name in kinds}
    physical |= {name: physical[name].lower() for name, kind in kinds.items() if kind == "AWS::S3::Bucket"}
    formats = {
        "AWS::DynamoDB::Table": "dynamodb:eu-west-1:111122223333:table/{}",
        "AWS::S3::Bucket": "s3:::{}",
        "AWS::SQS::Queue": "sqs:eu-west-1:111122223333:{}",
        "AWS::Logs::LogGroup": "logs:eu-west-1:111122223333:log-group:{}",
        "AWS::Serverless::Function": "lambda:eu-west-1:111122223333:function:{}",
        "AWS::IAM::Role": "iam::111122223333:role/{}",
        "AWS::IAM::ManagedPolicy": "iam::111122223333:policy/{}",
        "AWS::CloudWatch::Alarm": "cloudwatch:eu-west-1:111122223333:alarm:{}",
    }
    found = {"arn:aws:" + formats[kind].format(physical[name]) for name, kind in kinds.items() if kind in formats}
    within = {f"{one}/raw/x" for one in found if ":s3:::" in one} | {
        f"{one}/index/x" for one in found if "table/" in one
    }
    whole = {
        f"arn:aws:cloudformation:eu-west-1:111122223333:stack/{stack}/1a2b",
        f"arn:aws:ssm:eu-west-1:111122223333:parameter/pik/{stack}/rollout",
        f"arn:aws:cloudwatch::111122223333:dashboard/{stack}",
        f"arn:aws:glue:eu-west-1:111122223333:database/{stack}",
        f"arn:aws:glue:eu-west-1:111122223333:table/{stack}/raw",
        f"arn:aws:athena:eu-west-1:111122223333:workgroup/{stack}",
        f"arn:aws:execute-api:eu-west-1:111122223333:api/{stack.removeprefix('pik-')}/POST/ingest",
    }
    return found | within | whole


def _allowed(name: str) -> list[str]:
    """Every pattern of a resource in the deployer's policies, conditions included, and in those of the stack."""
    stack, found = f"pik-{name}", list[str]()
    made = deployer.policies("eu-west-1", ACCOUNT, stack, name)
    for statement in (one for document in made.values() for one in document["Statement"]):
        found += tools.as_list(statement["Resource"])
        found += statement.get("Condition", {}).get("ArnLike", {}).get("lambda:FunctionArn", [])
    known = pseudo("eu-west-1", ACCOUNT, stack)
    full = tools.Stack(TEMPLATE, {**tools.PHASES["processor"], "Environment": name}, known)
    for _, statement in tools.statements(full):
        found += tools.as_list(statement["Resource"])
    return [one for one in found if one != "*"]


def test_the_policies_of_an_environment_reach_all_that_is_its_own() -> None:
    patterns = _allowed("dev")
    assert {one for one in _named("pik-dev") if not any(fnmatchcase(one, pattern) for pattern in patterns)} == set()


@pytest.mark.parametrize("other", ["dev-2", "dev-events", "dev-ingest", "dev-raw", "dev-queues", "dev-dead-letters"])
def test_no_policy_of_an_environment_reaches_one_of_which_the_name_goes_on(other: str) -> None:
    """What belongs to pik-dev-2 begins with "pik-dev-", too."""
    patterns = _allowed("dev")
    reached = {(one, pattern) for one in _named(f"pik-{other}") for pattern in patterns if fnmatchcase(one, pattern)}
    assert reached == set()


def test_what_a_deployer_may_do_with_event_source_mappings_is_bound_to_the_stacks_functions() -> None:
    made = deployer.policies("eu-west-1", ACCOUNT, "pik-prod", "prod")
    changing = ("lambda:CreateEventSourceMapping", "lambda:DeleteEventSourceMapping", "lambda:UpdateEventSourceMapping")
    found = [s for part in made.values() for s in part["Statement"] if set(changing) & set(s["Action"])]
    assert len(found) == 2
    for statement in found:
        functions = statement["Condition"]["ArnLike"]["lambda:FunctionArn"]
        assert f"arn:aws:lambda:eu-west-1:{ACCOUNT}:function:pik-prod-Processor*" in functions


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
    made = deployer.policies("eu-west-1", ACCOUNT, "pik-prod", "prod")
    both = [statement for part in ("reading", "running") for statement in made[part]["Statement"]]
    assert {action for statement in both for action in statement["Action"]} == wanted
    assert "<" not in json.dumps(both)
