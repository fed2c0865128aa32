"""What whoever deploys must be allowed, for one environment: made from the template, so that it cannot fall behind.

Five parts, each a managed policy (IAM takes 6,144 characters in one): ``stack`` is for CloudFormation, ``sam`` and the
roles; ``stores`` and ``resources`` for what the stack consists of; ``reading`` is what viewers may, ``running`` what
operators and producers may, for the checks, the canary and the ledger.

No pattern ends right after the stack's name: ``pik-dev-*`` would fit what belongs to ``pik-dev-2``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pik import phases, project
from pik.aws.evaluation import Evaluator, pseudo
from pik.aws.template import parse
from pik.partitions import partition
from pik.rollout.plan import naming

MOST = 6144  # characters of a managed policy, white space not counted
Document = dict[str, Any]
_REFERENCE = re.compile(r"<([A-Za-z0-9]+)(?:\.[A-Za-z]+)?>")


@dataclass(frozen=True)
class Rights:
    """What CloudFormation does with one type, with the deployer's rights: actions on ``resources``.

    ``resources``: ARNs with ``{partition}``, ``{region}``, ``{account}`` and ``{stack}`` in them, and ``{name}`` for
    what the names of all resources of the type ``named`` begin with (its own type when empty). The actions are those
    that the resource providers' schemas name for the properties that the template uses; a test compares.
    """

    actions: str
    resources: tuple[str, ...]
    condition: Mapping[str, Any] | None = None
    named: str = ""


_ARN = "arn:{partition}:%s:{region}:{account}:%s"
RIGHTS: Mapping[str, Rights] = {
    "AWS::DynamoDB::Table": Rights(
        "dynamodb: CreateTable DeleteTable DescribeContinuousBackups DescribeContributorInsights "
        "DescribeKinesisStreamingDestination DescribeTable DescribeTimeToLive GetResourcePolicy ListTagsOfResource "
        "TagResource UntagResource UpdateContinuousBackups UpdateTable UpdateTimeToLive",
        (_ARN % ("dynamodb", "table/{stack}-{name}*"),),
    ),
    "AWS::S3::Bucket": Rights(
        "s3: CreateBucket DeleteBucket GetBucket* Get*Configuration ListBucket ListTagsForResource "
        "PutBucketOwnershipControls PutBucketPublicAccessBlock PutBucketTagging PutBucketVersioning "
        "PutEncryptionConfiguration PutLifecycleConfiguration TagResource UntagResource",
        ("arn:{partition}:s3:::{stack}-{name}*",),
    ),
    "AWS::S3::BucketPolicy": Rights(
        "s3: DeleteBucketPolicy GetBucketPolicy PutBucketPolicy",
        ("arn:{partition}:s3:::{stack}-{name}*",),
        named="AWS::S3::Bucket",
    ),
    "AWS::SQS::Queue": Rights(
        "sqs: CreateQueue DeleteQueue GetQueueAttributes GetQueueUrl ListQueueTags SetQueueAttributes TagQueue "
        "UntagQueue",
        (_ARN % ("sqs", "{stack}-{name}*"),),
    ),
    "AWS::SQS::QueuePolicy": Rights(
        "sqs: GetQueueAttributes SetQueueAttributes",
        (_ARN % ("sqs", "{stack}-{name}*"),),
        named="AWS::SQS::Queue",
    ),
    "AWS::Logs::LogGroup": Rights(
        "logs: CreateLogGroup DeleteLogGroup DeleteRetentionPolicy ListTagsForResource PutRetentionPolicy TagResource "
        "UntagResource",
        (_ARN % ("logs", "log-group:{stack}-{name}*"),),
    ),
    "AWS::Serverless::Function": Rights(
        "lambda: AddPermission CreateFunction DeleteFunction DeleteFunctionConcurrency GetFunction "
        "GetFunctionCodeSigningConfig GetFunctionConfiguration GetFunctionRecursionConfig GetPolicy "
        "GetRuntimeManagementConfig ListTags PutFunctionConcurrency RemovePermission TagResource UntagResource "
        "UpdateFunctionCode UpdateFunctionConfiguration",
        (_ARN % ("lambda", "function:{stack}-{name}*"),),
    ),
    "AWS::Lambda::EventSourceMapping": Rights(
        "lambda: CreateEventSourceMapping DeleteEventSourceMapping GetEventSourceMapping UpdateEventSourceMapping",
        ("*",),  # they have no names; the condition binds them to the functions of the stack
        {"ArnLike": {"lambda:FunctionArn": [_ARN % ("lambda", "function:{stack}-{name}*")]}},
        named="AWS::Serverless::Function",
    ),
    "AWS::Serverless::Api": Rights(
        "apigateway: DELETE GET PATCH POST PUT UpdateRestApiPolicy",
        # APIs have no names in ARNs.
        tuple(f"arn:{{partition}}:apigateway:{{region}}::/{path}" for path in ("restapis", "restapis/*", "tags/*")),
    ),
    "AWS::IAM::Role": Rights(
        "iam: CreateRole DeleteRole DeleteRolePermissionsBoundary DeleteRolePolicy GetRole GetRolePolicy "
        "ListAttachedRolePolicies ListRolePolicies PutRolePermissionsBoundary PutRolePolicy TagRole UntagRole "
        "UpdateAssumeRolePolicy UpdateRole UpdateRoleDescription",
        ("arn:{partition}:iam::{account}:role/{stack}-{name}*",),
    ),
    "AWS::IAM::ManagedPolicy": Rights(
        "iam: CreatePolicy CreatePolicyVersion DeletePolicy DeletePolicyVersion GetPolicy GetPolicyVersion "
        "ListEntitiesForPolicy ListPolicyVersions",
        ("arn:{partition}:iam::{account}:policy/{stack}-{name}*",),
    ),
    "AWS::SSM::Parameter": Rights(
        "ssm: AddTagsToResource DeleteParameter GetParameter GetParameters ListTagsForResource PutParameter "
        "RemoveTagsFromResource",
        (_ARN % ("ssm", "parameter/pik/{stack}/*"),),
    ),
    "AWS::CloudWatch::Alarm": Rights(
        "cloudwatch: DeleteAlarms DescribeAlarms ListTagsForResource PutMetricAlarm TagResource UntagResource",
        (_ARN % ("cloudwatch", "alarm:{stack}-{name}*"),),
    ),
    "AWS::CloudWatch::Dashboard": Rights(
        "cloudwatch: DeleteDashboards GetDashboard ListTagsForResource PutDashboard TagResource UntagResource",
        ("arn:{partition}:cloudwatch::{account}:dashboard/{stack}",),
    ),
    "AWS::Glue::Database": Rights(
        "glue: CreateDatabase DeleteDatabase GetDatabase UpdateDatabase",
        (_ARN % ("glue", "catalog"), _ARN % ("glue", "database/{stack}")),
    ),
    "AWS::Glue::Table": Rights(
        "glue: CreateTable DeleteTable GetTable UpdateTable",
        (_ARN % ("glue", "catalog"), _ARN % ("glue", "database/{stack}"), _ARN % ("glue", "table/{stack}/*")),
    ),
    "AWS::Athena::WorkGroup": Rights(
        "athena: CreateWorkGroup DeleteWorkGroup GetWorkGroup ListTagsForResource TagResource UntagResource "
        "UpdateWorkGroup",
        (_ARN % ("athena", "workgroup/{stack}"),),
    ),
}
PARTS: Mapping[str, tuple[str, ...]] = {
    "stack": ("AWS::IAM::Role", "AWS::IAM::ManagedPolicy"),
    "stores": (
        *("AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::S3::BucketPolicy"),
        *("AWS::SQS::Queue", "AWS::SQS::QueuePolicy", "AWS::Logs::LogGroup"),
    ),
    "resources": (
        *("AWS::Serverless::Function", "AWS::Lambda::EventSourceMapping", "AWS::Serverless::Api"),
        *("AWS::SSM::Parameter", "AWS::CloudWatch::Alarm", "AWS::CloudWatch::Dashboard"),
        *("AWS::Glue::Database", "AWS::Glue::Table", "AWS::Athena::WorkGroup"),
    ),
}
# Whose rights whoever deploys has as well; the canary sends an event of its own.
ROLES: Mapping[str, tuple[str, ...]] = {
    "reading": ("ViewerPolicy",),
    "running": ("OperatorPolicy", "ProducerPolicy"),
}
Beginnings = Mapping[str, list[str]]  # what names of resources begin with, after the stack's, by type


def policies(region: str, account: str, stack: str, environment: str, *, boundary: str = "") -> dict[str, Document]:
    """Return the managed policies of a deployer of one stack, by name: those of :data:`PARTS`, and of :data:`ROLES`.

    ``boundary``: ARN of the permissions boundary that every role must have. Whoever may create roles without one, and
    pass them to a function, can get any right.

    >>> sorted(policies("eu-west-1", "111122223333", "pik-prod", "prod"))
    ['reading', 'resources', 'running', 'stack', 'stores']
    """
    names = {"partition": partition(region).name, "region": region, "account": account, "stack": stack}
    template = parse(project.TEMPLATE.read_text(encoding="utf-8"))
    begin = _beginnings(template)
    made = {}
    for part, kinds in PARTS.items():
        statements = [_statement(kind, RIGHTS[kind], begin) for kind in kinds]
        if part == "stack":
            bounded = [one for statement in statements for one in _bounded(statement, boundary)]
            statements = [*_CLOUDFORMATION, _pass_to_lambda(begin), *bounded]
        made[part] = _document(_filled(statements, names))
    known, values = pseudo(region, account, stack), {**phases.PROCESSOR.parameters, "Environment": environment}
    found = Evaluator(template, values, known).evaluated().resources
    for part, roles in ROLES.items():
        documents = [found[role].properties["PolicyDocument"] for role in roles]
        statements = list(_as_patterns(documents, template["Resources"], known))
        made[part] = _document(_filled([_of_own_functions(one, begin) for one in statements], names))
    return made


def _beginnings(template: Document) -> Beginnings:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for name, resource in template["Resources"].items():
        found[resource["Type"]].add(naming.begins(name, resource))
    return {kind: sorted(names) for kind, names in found.items()}


def _each(patterns: Iterable[str], names: Iterable[str]) -> list[str]:
    """The patterns, those with ``{name}`` once for each name."""
    return [one for pattern in patterns for one in dict.fromkeys(pattern.replace("{name}", name) for name in names)]


def _statement(kind: str, rights: Rights, begin: Beginnings) -> Document:
    service, _, actions = rights.actions.partition(": ")
    sid = "".join(kind.split("::")[1:]).replace("Serverless", "")
    names = begin.get(rights.named or kind, [])
    conditions = {
        operator: {key: _each(patterns, names) for key, patterns in one.items()}
        for operator, one in (rights.condition or {}).items()
    }
    return {
        "Sid": sid,
        "Effect": "Allow",
        "Action": [f"{service}:{action}" for action in actions.split()],
        "Resource": _each(rights.resources, names),
        **({"Condition": conditions} if conditions else {}),
    }


def _of_own_functions(statement: Document, begin: Beginnings) -> Document:
    """The statement; bound to the stack's functions when it is about event source mappings, which have no names."""
    if not any(one.endswith(":event-source-mapping:*") for one in statement["Resource"]):
        return statement
    kind = "AWS::Lambda::EventSourceMapping"
    return {**statement, "Condition": _statement(kind, RIGHTS[kind], begin)["Condition"]}


def _pass_to_lambda(begin: Beginnings) -> Document:
    return _allow(
        "PassToLambda",
        "iam: PassRole",
        *_each(RIGHTS["AWS::IAM::Role"].resources, begin["AWS::IAM::Role"]),
        Condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}},
    )


# Actions that give a role its rights: IAM can demand the boundary for each of them.
_BINDING = {"iam:CreateRole", "iam:DeleteRolePolicy", "iam:PutRolePermissionsBoundary", "iam:PutRolePolicy"}


def _bounded(statement: Document, boundary: str) -> Iterator[Document]:
    """The statement, in two where a boundary is demanded for some of its actions; then it cannot be taken away."""
    binding = [action for action in statement["Action"] if action in _BINDING]
    if not boundary or not binding:
        yield statement
        return
    forbidden = {*binding, "iam:DeleteRolePermissionsBoundary"}
    yield {**statement, "Action": [action for action in statement["Action"] if action not in forbidden]}
    condition = {"Condition": {"StringEquals": {"iam:PermissionsBoundary": boundary}}}
    yield {**statement, "Sid": f"{statement['Sid']}Bounded", "Action": binding, **condition}


def _document(statements: list[Document]) -> Document:
    return {"Version": "2012-10-17", "Statement": statements}


def _filled(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, names) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, names) for item in value]
    return re.sub(r"\{(\w+)\}", lambda match: names[match[1]], value)


def _allow(sid: str, actions: str, *resources: str, **more: Any) -> Document:
    service, _, names = actions.partition(": ")
    listed = [f"{service}:{name}" for name in names.split()]
    return {"Sid": sid, "Effect": "Allow", "Action": listed, "Resource": list(resources), **more}


_SAM = "aws-sam-cli-managed-default"  # the stack that `sam` keeps for its bucket of artifacts
_CLOUDFORMATION: list[Document] = [
    _allow(
        "Stack",
        "cloudformation: CancelUpdateStack ContinueUpdateRollback CreateChangeSet DeleteChangeSet DeleteStack "
        "DescribeChangeSet DescribeStackEvents DescribeStackResource DescribeStackResources DescribeStacks "
        "ExecuteChangeSet GetTemplate GetTemplateSummary ListStackResources RollbackStack TagResource "
        "UpdateStack UpdateTerminationProtection",
        _ARN % ("cloudformation", "stack/{stack}/*"),
        _ARN % ("cloudformation", f"stack/{_SAM}/*"),
    ),
    _allow(
        "Transform",
        "cloudformation: CreateChangeSet",
        "arn:{partition}:cloudformation:{region}:aws:transform/Serverless-2016-10-31",
    ),
    _allow("NoResource", "cloudformation: GetTemplateSummary ListStacks ValidateTemplate", "*"),
    _allow(
        "Artifacts",
        "s3: CreateBucket GetBucketLocation GetBucketPolicy GetEncryptionConfiguration GetObject ListBucket "
        "PutBucketPolicy PutBucketPublicAccessBlock PutBucketTagging PutBucketVersioning PutEncryptionConfiguration "
        "PutObject",
        f"arn:{{partition}}:s3:::{_SAM}-*",
    ),
    _allow("MappingTags", "lambda: ListTags TagResource UntagResource", _ARN % ("lambda", "event-source-mapping:*")),
    # For `pik doctor`: what may I, who am I, what does the account allow. None of them names a resource.
    _allow("Doctor", "iam: ListAccountAliases SimulatePrincipalPolicy", "*"),
    # A role of IAM Identity Center has a path, which its session's ARN does not tell; and who is bounded may know it.
    _allow(
        "Self",
        "iam: GetRole GetUser",
        "arn:{partition}:iam::{account}:role/aws-reserved/sso.amazonaws.com/*",
        "arn:{partition}:iam::{account}:user/${aws:username}",
    ),
    _allow("Quotas", "lambda: GetAccountSettings", "*"),
]


def _as_patterns(
    documents: list[Document], resources: Mapping[str, Any], known: Mapping[str, str]
) -> Iterator[Document]:
    """The statements of policies of the last phase, on patterns of the names that resources will have."""
    allowed: defaultdict[str, set[str]] = defaultdict(set)
    for statement in (one for document in documents for one in document["Statement"]):
        for resource in _many(statement["Resource"]):
            allowed[_pattern(resource, resources, known)].update(_many(statement["Action"]))
    return _grouped(allowed)


def _grouped(allowed: Mapping[str, set[str]]) -> Iterator[Document]:
    """One statement for all resources that the same actions are allowed on."""
    by_actions: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for resource, actions in allowed.items():
        by_actions[tuple(sorted(actions))].append(resource)
    for number, (names, resources) in enumerate(sorted(by_actions.items()), start=1):
        yield {"Sid": f"Running{number}", "Effect": "Allow", "Action": list(names), "Resource": sorted(resources)}


def _many(value: Any) -> list[str]:
    return value if isinstance(value, list) else [value]


def _pattern(resource: str, resources: Mapping[str, Any], known: Mapping[str, str]) -> str:
    """An ARN with a reference to a resource, as an ARN that fits whatever name CloudFormation gives it."""
    match = _REFERENCE.search(resource)
    if match is None:
        return resource
    kind, begins = resources[match[1]]["Type"], naming.begins(match[1], resources[match[1]])
    names = {
        "partition": known["AWS::Partition"],
        "region": known["AWS::Region"],
        "account": known["AWS::AccountId"],
        "stack": known["AWS::StackName"],
        "name": begins,
    }
    if resource.startswith("<"):  # an ARN, with something behind it
        arn: str = _filled(RIGHTS[kind].resources[0], names)
        rest = resource[match.end() :]
        return arn + rest if rest else arn
    own = {"AWS::Serverless::Api": "*", "AWS::Lambda::EventSourceMapping": "*"}
    exact = {"AWS::Glue::Database", "AWS::Athena::WorkGroup"}
    name = known["AWS::StackName"]
    return resource.replace(match[0], own.get(kind, name if kind in exact else f"{name}-{begins}*"))
