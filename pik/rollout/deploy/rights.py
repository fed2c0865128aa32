"""May the caller do what a deploy does? Asked of IAM (SimulatePrincipalPolicy), which answers without doing anything.

It knows the caller's policies, permissions boundary and the organization's service control policies as far as they have
no conditions: https://docs.aws.amazon.com/IAM/latest/APIReference/API_SimulatePrincipalPolicy.html
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from pik.aws.guard import Place
from pik.environments import Environment
from pik.rollout.deploy import deployer

_STAND_IN = "pik-preflight"  # for the part of a name that CloudFormation chooses


def principal(environment: Environment, caller: str) -> str:
    """Return the ARN that IAM knows a caller by: a user as it is, the role behind a session.

    Raises ClientError when a role's path cannot be looked up (roles of IAM Identity Center have one).
    """
    kind, _, name = caller.rpartition(":")[2].partition("/")
    if kind != "assumed-role":
        return caller
    role = name.partition("/")[0]
    try:
        return str(environment.client("iam").get_role(RoleName=role)["Role"]["Arn"])
    except ClientError:
        if role.startswith("AWSReservedSSO_"):
            raise
        parts = caller.split(":")
        return f"arn:{parts[1]}:iam::{parts[4]}:role/{role}"


def own_boundary(environment: Environment, caller: str) -> str:
    """Return the permissions boundary of the caller itself: companies that bound people bound what they make alike."""
    kind, _, name = caller.rpartition(":")[2].partition("/")
    iam = environment.client("iam")
    if kind == "assumed-role":
        found = iam.get_role(RoleName=name.partition("/")[0])["Role"]
    elif kind == "user":
        found = iam.get_user(UserName=name.rpartition("/")[2])["User"]
    else:
        return ""
    return str(found.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", ""))


def is_root(caller: str) -> bool:
    """Whether the caller is an account's root, which IAM does not restrict and cannot simulate."""
    return caller.endswith(":root")


def denied(
    environment: Environment,
    source: str,
    actions: Sequence[str],
    resources: Sequence[str],
    context: Mapping[str, str],
) -> list[str]:
    """Return those of ``actions`` that ``source`` may not do on all of ``resources``, each with IAM's reason."""
    entries = [
        {"ContextKeyName": key, "ContextKeyValues": [value], "ContextKeyType": "string"}
        for key, value in context.items()
    ]
    pages = environment.client("iam").get_paginator("simulate_principal_policy")
    answers = pages.paginate(
        PolicySourceArn=source, ActionNames=list(actions), ResourceArns=list(resources), ContextEntries=entries
    )
    found = [one for page in answers for one in page["EvaluationResults"] if one["EvalDecision"] != "allowed"]
    return [f"{one['EvalActionName']} on {one.get('EvalResourceName', '*')}{_why(one)}" for one in found]


def _why(result: Mapping[str, Any]) -> str:
    if result.get("OrganizationsDecisionDetail", {}).get("AllowedByOrganizations") is False:
        return " (the organization's policy)"
    if result.get("PermissionsBoundaryDecisionDetail", {}).get("AllowedByPermissionsBoundary") is False:
        return " (the permissions boundary)"
    return " (denied)" if result["EvalDecision"] == "explicitDeny" else ""


def lacking(environment: Environment, place: Place, boundary: str) -> list[str]:
    """Return what the caller may not do of all that a deploy does; empty when nothing is missing."""
    if is_root(place.caller):
        return []
    source = principal(environment, place.caller)
    context = {
        "iam:PassedToService": "lambda.amazonaws.com",
        **({"iam:PermissionsBoundary": boundary} if boundary else {}),
    }
    parts = deployer.policies(environment.region, place.account, environment.stack, environment.name)
    found: list[str] = []
    for part in deployer.PARTS:
        for statement in parts[part]["Statement"]:
            actions = [action for action in statement["Action"] if "*" not in action]  # IAM simulates no patterns
            if statement["Sid"] == "Self":  # the simulation itself has asked it
                continue
            resources = [one if one == "*" else one.replace("*", _STAND_IN) for one in statement["Resource"]]
            wanted = statement.get("Condition", {}).get("ArnLike", {}).get("lambda:FunctionArn", [])
            more = {"lambda:FunctionArn": wanted[0].replace("*", _STAND_IN)} if wanted else {}
            found += denied(environment, source, actions, resources, context | more)
    return list(dict.fromkeys(found))
