"""Which property's change makes CloudFormation replace a resource: for the types in our template, and no others.

The facts are the resource providers' own (``createOnlyProperties`` and ``conditionalCreateOnlyProperties`` of their
schemas); a test compares. What is not listed here is *unknown*, never taken for a change in place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

#: Whether a change replaces the resource. ``may``: the schema says that it depends; ``unknown``: nobody has looked yet.
Replacement = Literal["no", "yes", "may", "unknown"]


@dataclass(frozen=True)
class Rules:
    """What is known of one type, by property (``TableInput/Name``: a property below one).

    ``in_place``: properties updated without replacement. ``create_only``: a change replaces. ``conditional``: a change
    may replace. ``edited``: a change of what is there replaces; to add or remove an element does not.
    """

    in_place: frozenset[str]
    create_only: frozenset[str] = frozenset()
    conditional: frozenset[str] = frozenset()
    edited: frozenset[str] = frozenset()

    @property
    def names(self) -> set[str]:
        """Every top-level property that is known."""
        paths = {*self.create_only, *self.conditional, *self.edited}
        return {*self.in_place, *(path.partition("/")[0] for path in paths)}


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


RULES: Mapping[str, Rules] = {
    "AWS::DynamoDB::Table": Rules(
        _names(
            "BillingMode ContributorInsightsSpecification DeletionProtectionEnabled GlobalSecondaryIndexes "
            "PointInTimeRecoverySpecification SSESpecification StreamSpecification TableClass Tags "
            "TimeToLiveSpecification"
        ),
        create_only=_names("ImportSourceSpecification TableName"),
        conditional=_names("KeySchema"),
        # Said in the schema's text only: "Changing the type of an existing AttributeDefinition requires replacement".
        edited=_names("AttributeDefinitions/AttributeType"),
    ),
    "AWS::S3::Bucket": Rules(
        _names(
            "BucketEncryption CorsConfiguration LifecycleConfiguration LoggingConfiguration MetricsConfigurations "
            "NotificationConfiguration OwnershipControls PublicAccessBlockConfiguration Tags VersioningConfiguration"
        ),
        create_only=_names("BucketName BucketNamePrefix BucketNamespace"),
    ),
    "AWS::SQS::Queue": Rules(
        _names(
            "DelaySeconds KmsDataKeyReusePeriodSeconds KmsMasterKeyId MaximumMessageSize MessageRetentionPeriod "
            "ReceiveMessageWaitTimeSeconds RedriveAllowPolicy RedrivePolicy SqsManagedSseEnabled Tags VisibilityTimeout"
        ),
        create_only=_names("FifoQueue QueueName"),
    ),
    "AWS::Logs::LogGroup": Rules(
        _names("DataProtectionPolicy KmsKeyId RetentionInDays Tags"), create_only=_names("LogGroupName")
    ),
    "AWS::Lambda::Function": Rules(
        _names(
            "Architectures Code DeadLetterConfig Description Environment EphemeralStorage Handler Layers LoggingConfig "
            "MemorySize ReservedConcurrentExecutions Role Runtime Tags Timeout TracingConfig"
        ),
        create_only=_names("FunctionName PackageType TenancyConfig"),
        conditional=_names("DurableConfig"),
    ),
    "AWS::Lambda::EventSourceMapping": Rules(
        _names(
            "BatchSize Enabled FilterCriteria FunctionName FunctionResponseTypes MaximumBatchingWindowInSeconds "
            "ScalingConfig Tags"
        ),
        create_only=_names("EventSourceArn SelfManagedEventSource StartingPosition StartingPositionTimestamp"),
    ),
    "AWS::ApiGateway::RestApi": Rules(
        _names("BinaryMediaTypes Body Description EndpointConfiguration MinimumCompressionSize Name Policy Tags")
    ),
    "AWS::ApiGateway::Stage": Rules(
        _names("AccessLogSetting CanarySetting Description MethodSettings Tags TracingEnabled Variables"),
        create_only=_names("RestApiId StageName"),
    ),
    "AWS::IAM::Role": Rules(
        _names(
            "AssumeRolePolicyDocument Description ManagedPolicyArns MaxSessionDuration PermissionsBoundary Policies "
            "Tags"
        ),
        create_only=_names("Path RoleName"),
    ),
    "AWS::IAM::ManagedPolicy": Rules(
        _names("Groups PolicyDocument Roles Users"), create_only=_names("Description ManagedPolicyName Path")
    ),
    "AWS::S3::BucketPolicy": Rules(_names("PolicyDocument"), create_only=_names("Bucket")),
    "AWS::SQS::QueuePolicy": Rules(_names("PolicyDocument Queues")),
    "AWS::SSM::Parameter": Rules(
        _names("AllowedPattern Description Policies Tags Tier Type Value"), create_only=_names("Name")
    ),
    "AWS::CloudWatch::Alarm": Rules(
        _names(
            "ActionsEnabled AlarmActions AlarmDescription ComparisonOperator DatapointsToAlarm Dimensions "
            "EvaluationPeriods ExtendedStatistic InsufficientDataActions MetricName Metrics Namespace OKActions Period "
            "Statistic Tags Threshold TreatMissingData Unit"
        ),
        create_only=_names("AlarmName"),
    ),
    "AWS::CloudWatch::Dashboard": Rules(_names("DashboardBody"), create_only=_names("DashboardName")),
    "AWS::Glue::Database": Rules(_names("CatalogId DatabaseInput"), create_only=_names("DatabaseName")),
    "AWS::Glue::Table": Rules(_names("TableInput"), create_only=_names("CatalogId DatabaseName Name TableInput/Name")),
    "AWS::Athena::WorkGroup": Rules(
        _names("Description RecursiveDeleteOption State Tags WorkGroupConfiguration"), create_only=_names("Name")
    ),
}

_FUNCTION, _API, _STAGE = "AWS::Lambda::Function", "AWS::ApiGateway::RestApi", "AWS::ApiGateway::Stage"
#: What SAM makes of its types' properties: (type, property). ``None``: parts of other resources that hold nothing (the
#: permission of an API to call a function).
SAM: Mapping[str, Mapping[str, tuple[str, str] | None]] = {
    "AWS::Serverless::Function": {
        **{
            name: (_FUNCTION, name)
            for name in (
                *("Architectures", "Description", "Environment", "EphemeralStorage", "FunctionName", "Handler"),
                *("Layers", "LoggingConfig", "MemorySize", "PackageType", "ReservedConcurrentExecutions", "Role"),
                *("Runtime", "Tags", "Timeout"),
            )
        },
        "CodeUri": (_FUNCTION, "Code"),
        "Tracing": (_FUNCTION, "TracingConfig"),
        "Events": None,
    },
    "AWS::Serverless::Api": {
        **{name: (_API, name) for name in ("BinaryMediaTypes", "Description", "EndpointConfiguration", "Name")},
        **dict.fromkeys(("Auth", "GatewayResponses", "OpenApiVersion"), (_API, "Body")),
        **{name: (_STAGE, name) for name in ("AccessLogSetting", "MethodSettings", "StageName", "TracingEnabled")},
    },
}


def replacement(kind: str, path: tuple[str, ...], before: Any, after: Any) -> Replacement:
    """Return whether a change of one property replaces a resource of type ``kind``.

    Args:
        kind: the type, SAM's or CloudFormation's.
        path: the property, and the names below it as far as the change reaches down; elements of lists are left out.
        before: what is there, None when nothing is.
        after: what is to be there.

    >>> replacement("AWS::SQS::Queue", ("QueueName",), "a", "b")
    'yes'
    >>> replacement("AWS::SQS::Queue", ("SomethingNew",), None, "b")
    'unknown'
    """
    if kind in SAM:
        top, *below = path
        if top not in SAM[kind]:
            return "unknown"
        becomes = SAM[kind][top]
        return replacement(becomes[0], (becomes[1], *below), before, after) if becomes else "no"
    rules = RULES.get(kind)
    if rules is None or path[0] not in rules.names:
        return "unknown"
    if _touched(rules.create_only, path, before, after) or _edited(rules.edited, path, before, after):
        return "yes"
    return "may" if _touched(rules.conditional, path, before, after) else "no"


def _touched(rules: Iterable[str], path: tuple[str, ...], before: Any, after: Any) -> bool:
    return any(_differ(tuple(rule.split("/")), path, before, after) for rule in rules)


def _edited(rules: Iterable[str], path: tuple[str, ...], before: Any, after: Any) -> bool:
    return before is not None and after is not None and _touched(rules, path, before, after)


def _differ(rule: tuple[str, ...], path: tuple[str, ...], before: Any, after: Any) -> bool:
    """Whether what the rule names is changed by a change at ``path``, which may lie above it."""
    if path[: len(rule)] == rule:
        return True
    rest = rule[len(path) :]
    return rule[: len(path)] == path and _below(before, rest) != _below(after, rest)


def _below(value: Any, names: tuple[str, ...]) -> Any:
    if not names:
        return value
    if isinstance(value, list):
        return [_below(item, names) for item in value]
    return _below(value.get(names[0]), names[1:]) if isinstance(value, Mapping) else None
