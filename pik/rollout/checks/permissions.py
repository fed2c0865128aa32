"""Are the permissions that are in force those that the deployed template declares? Read from IAM, compared in full."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from pik.aws import stack
from pik.aws.evaluation import Evaluator, pseudo
from pik.aws.guard import guard
from pik.aws.stack import aws_errors
from pik.environments import Environment
from pik.results import Check
from pik.rollout.checks.verdicts import check

Policies = dict[str, Any]  # normalised policy documents, by "Role/policy" or "ManagedPolicy"
Holders = dict[str, tuple[str, str]]  # type and physical id of each role and managed policy, by logical id
_ROLE, _MANAGED = "AWS::IAM::Role", "AWS::IAM::ManagedPolicy"
_REFERENCE = re.compile(r"<([A-Za-z0-9]+)(?:\.([A-Za-z]+))?>")
_ARNS = {  # what Fn::GetAtt Arn of a resource is, from its physical id
    "AWS::DynamoDB::Table": "arn:{partition}:dynamodb:{region}:{account}:table/{name}",
    "AWS::S3::Bucket": "arn:{partition}:s3:::{name}",
    "AWS::SQS::Queue": "arn:{partition}:sqs:{region}:{account}:{name}",
    "AWS::Serverless::Function": "arn:{partition}:lambda:{region}:{account}:function:{name}",
    "AWS::Logs::LogGroup": "arn:{partition}:logs:{region}:{account}:log-group:{name}:*",
}


def permissions(environment: Environment) -> Check:
    """Compare every role and managed policy of the stack with the deployed template."""
    with aws_errors(environment, "read the roles and policies of the stack"):
        holders, wanted = declared(environment)
        found = in_force(environment, holders)
    differences = list(compared(wanted, found))
    return check(
        "permissions are as declared",
        not differences if wanted else None,
        yes=f"{len(wanted)} policies are, statement by statement, what the deployed template says",
        no="; ".join(differences[:5]),
        unknown="the template declares no role",
        evidence={"policies": ", ".join(sorted(wanted)), "different": differences or "none"},
    )


def compared(wanted: Policies, found: Policies) -> Iterator[str]:
    """Yield what differs, a sentence each. Pure."""
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found:
            yield f"{name} is declared in the template, but does not exist"
        elif name not in wanted:
            yield f"{name} exists, but is not declared in the template"
        else:
            for sid in sorted(wanted[name].keys() | found[name].keys()):
                if wanted[name].get(sid) != found[name].get(sid):
                    yield f"{name}: statement {sid} {_what(sid, wanted[name], found[name])}"


def _what(sid: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    if sid not in found:
        return "is missing"
    return "is not as declared" if sid in wanted else "is not declared"


def declared(environment: Environment) -> tuple[Holders, Policies]:
    """Return the deployed template's roles and managed policies, and what it declares of each.

    References are replaced by what they stand for.
    """
    place = guard(environment)
    there = place.stack or stack.require(environment)
    physical = stack.resources(environment)
    known = pseudo(environment.region, place.account, there.name, there.id)
    resources = Evaluator(stack.deployed(environment), there.parameters, known).evaluated().resources

    def stands_for(match: re.Match[str]) -> str:
        logical, attribute = match.groups()
        name = physical.get(logical, match.group(0))
        if attribute != "Arn":
            return name
        pattern = _ARNS.get(resources[logical].type, "{name}") if logical in resources else "{name}"
        short = name.rpartition("/")[2] if "SQS" in resources[logical].type else name
        partition = known["AWS::Partition"]
        return pattern.format(partition=partition, region=environment.region, account=place.account, name=short)

    def resolved(document: Any) -> Any:
        return json.loads(_REFERENCE.sub(stands_for, json.dumps(document)))

    holders: Holders = {}
    found: Policies = {}
    for name, resource in resources.items():
        if resource.type in (_ROLE, _MANAGED):
            holders[name] = (resource.type, physical.get(name, ""))
        if resource.type == _MANAGED:
            found[name] = normalised(resolved(resource.properties["PolicyDocument"]))
        elif resource.type == _ROLE:
            for policy in resource.properties.get("Policies", ()):
                found[f"{name}/{policy['PolicyName']}"] = normalised(resolved(policy["PolicyDocument"]))
    return holders, found


def in_force(environment: Environment, holders: Holders) -> Policies:
    """Return what IAM says of the stack's roles and managed policies."""
    iam = environment.client("iam")
    found: Policies = {}
    for name, (kind, physical) in holders.items():
        if kind == _MANAGED:
            version = iam.get_policy(PolicyArn=physical)["Policy"]["DefaultVersionId"]
            document = iam.get_policy_version(PolicyArn=physical, VersionId=version)["PolicyVersion"]["Document"]
            found[name] = normalised(_parsed(document))
        else:
            for policy in _all(iam, "list_role_policies", "PolicyNames", physical):
                document = iam.get_role_policy(RoleName=physical, PolicyName=policy)["PolicyDocument"]
                found[f"{name}/{policy}"] = normalised(_parsed(document))
            for attached in _all(iam, "list_attached_role_policies", "AttachedPolicies", physical):
                found[f"{name}/{attached['PolicyArn']}"] = {}
    return found


def _all(iam: Any, operation: str, part: str, role: str) -> Iterator[Any]:
    """Every policy of a role: IAM answers in pages."""
    for page in iam.get_paginator(operation).paginate(RoleName=role):
        yield from page[part]


def _parsed(document: Any) -> Any:
    return json.loads(unquote(document)) if isinstance(document, str) else document


def normalised(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a policy's statements by their Sid, lists in order, one-or-many always many."""
    statements = document["Statement"]
    found = {}
    for number, statement in enumerate(statements if isinstance(statements, list) else [statements]):
        shown = {
            key: sorted(map(str, value if isinstance(value, list) else [value]))
            if key in ("Action", "NotAction", "Resource", "NotResource")
            else value
            for key, value in statement.items()
        }
        found[str(statement.get("Sid", number))] = shown
    return found
