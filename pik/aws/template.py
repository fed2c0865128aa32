"""SAM templates as data: which types hold data, and a template read with every function in its long form.

What a template makes of its parameters is :mod:`pik.aws.evaluation`'s.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from pik.errors import UsageError

STORES = frozenset({"AWS::DynamoDB::Table", "AWS::S3::Bucket", "AWS::SQS::Queue", "AWS::Logs::LogGroup"})
STATELESS = frozenset(
    {
        "AWS::Serverless::Api",
        "AWS::Serverless::Function",
        "AWS::Lambda::EventSourceMapping",
        "AWS::IAM::Role",
        "AWS::IAM::ManagedPolicy",
        "AWS::S3::BucketPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::SSM::Parameter",
        "AWS::CloudWatch::Alarm",
        "AWS::CloudWatch::Dashboard",
        "AWS::Glue::Database",
        "AWS::Glue::Table",
        "AWS::Athena::WorkGroup",
    }
)
# What a resource may have beside its type, properties and metadata.
ATTRIBUTES = ("DeletionPolicy", "UpdateReplacePolicy", "Condition", "DependsOn")
TRANSFORM = "AWS::Serverless-2016-10-31"
_SECTIONS = {
    *("AWSTemplateFormatVersion", "Transform", "Description", "Metadata", "Globals"),
    *("Parameters", "Rules", "Conditions", "Resources", "Outputs"),
}
_LARGEST_INTEGER = 2**53 - 1  # of canonical JSON


@dataclass(frozen=True)
class Resource:
    """One resource that exists for the parameters given; ``attributes``: those of :data:`ATTRIBUTES` it has."""

    type: str
    properties: dict[str, Any] = field(default_factory=dict)
    attributes: dict[str, Any] = field(default_factory=dict)

    @property
    def store(self) -> bool:
        """Whether it holds data. A type that nobody has looked at yet is taken for one that does."""
        return self.type not in STATELESS


@dataclass(frozen=True)
class Evaluated:
    """What a template makes of its parameters: their values, the resources and the outputs that would exist.

    References to resources stay readable: ``<EventsTable>``, ``<EventsTable.Arn>``.
    """

    parameters: dict[str, str] = field(default_factory=dict)
    resources: dict[str, Resource] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


# libyaml's parser where PyYAML has it (its wheels do): the same result in a fifth of the time.
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Loader(_SafeLoader):  # type: ignore[misc]
    """YAML with CloudFormation's short tags; a date is text, as it is for CloudFormation."""


def _long_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)  # noqa: S101 - the three kinds of node there are
        value = loader.construct_mapping(node, deep=True)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def parse(body: str | Mapping[str, Any]) -> dict[str, Any]:
    """Return a template, given as YAML, as JSON or as boto3 reads JSON, with every function in its long form.

    Raises:
        UsageError: it is no template, or uses a section that is not known here.

    >>> parse("Resources: {Q: {Type: T, Properties: {Arn: !GetAtt R.Arn}}}")["Resources"]["Q"]["Properties"]
    {'Arn': {'Fn::GetAtt': ['R', 'Arn']}}
    """
    try:
        document = yaml.load(body, Loader=_Loader) if isinstance(body, str) else body  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        raise UsageError("the template cannot be read", reason=str(error)) from None
    if not isinstance(document, Mapping) or not isinstance(document.get("Resources"), Mapping):
        raise UsageError("this is no CloudFormation template", reason="it has no Resources")
    require_known("section", document, _SECTIONS)
    require_known("transform", [str(document.get("Transform", TRANSFORM))], {TRANSFORM})
    plain: dict[str, Any] = _plain(document)
    return plain


def _plain(value: Any) -> Any:
    """JSON values only, and ``Fn::GetAtt`` always as a list, whatever way it was written."""
    if isinstance(value, Mapping):
        found = {str(name): _plain(item) for name, item in value.items()}
        if set(found) == {"Fn::GetAtt"} and isinstance(found["Fn::GetAtt"], str):
            return {"Fn::GetAtt": found["Fn::GetAtt"].split(".", 1)}
        return found
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return str(value)
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


def require_known(what: str, found: Iterable[str], known: Container[str]) -> None:
    """Raise UsageError for the first name that is not known."""
    for name in found:
        if name not in known:
            raise UsageError(
                f"the template uses the {what} {name}, which is not known",
                reason="a plan that leaves something out would be wrong",
                next_step="correct it, or teach it to pik/aws/template.py",
            )
