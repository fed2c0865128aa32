"""Read template.yaml as CloudFormation would for given parameters: conditions evaluated, ``Fn::If`` resolved.

Only what the template uses is known; anything else raises, so that a new construct cannot pass unnoticed.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from pik import project

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
PSEUDO = {
    "AWS::StackName": "pik-test",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:111122223333:stack/pik-test/1a2b3c4d-0000-4000-8000-000000000000",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
_NOTHING = object()


class _Loader(yaml.SafeLoader):
    pass


def _long_form(loader: _Loader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    value: Any
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        assert isinstance(node, yaml.MappingNode)
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt":
        value = value.split(".", 1)
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _long_form)


def load() -> dict[str, Any]:
    """Return template.yaml with every function in its long form."""
    document: dict[str, Any] = yaml.load(project.TEMPLATE.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    return document


@dataclass
class Stack:
    """The template for one set of parameters. ``resources`` and ``outputs`` hold only what would exist."""

    document: dict[str, Any]
    parameters: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        defaults = {name: str(spec.get("Default", "")) for name, spec in self.document["Parameters"].items()}
        unknown = self.parameters.keys() - defaults.keys()
        assert not unknown, unknown
        self.values = {**defaults, **self.parameters}
        self.resources = self._existing("Resources")
        self.outputs = {name: item["Value"] for name, item in self._existing("Outputs").items()}

    def of_type(self, *types: str) -> dict[str, dict[str, Any]]:
        """Return the properties of the resources of these types, by logical id."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] in types
        }

    def environment_of(self, function: str) -> dict[str, Any]:
        """Return the environment variables of a function, the common ones included."""
        common = self.resolve(self.document["Globals"]["Function"]["Environment"]["Variables"])
        own = self.resources[function]["Properties"]["Environment"]["Variables"]
        return {**common, **own}

    def rule_failures(self) -> list[str]:
        """Return what the template's Rules say against the parameters."""
        failures = []
        for rule in self.document["Rules"].values():
            if self._true(rule["RuleCondition"]):
                failures += [a["AssertDescription"] for a in rule["Assertions"] if not self._true(a["Assert"])]
        return failures

    def condition(self, name: str) -> bool:
        """Evaluate a named condition."""
        return self._true(self.document["Conditions"][name])

    def resolve(self, value: Any) -> Any:
        """Resolve parameters, pseudo parameters, ``Fn::If``, ``Fn::Sub``; leave references to resources readable."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (function, argument), *_ = value.items()
            if function == "Ref" or function.startswith("Fn::"):
                return self._functions()[function](argument)
        resolved = {name: self.resolve(item) for name, item in value.items()}
        return {name: item for name, item in resolved.items() if item is not _NOTHING}

    def _existing(self, section: str) -> dict[str, dict[str, Any]]:
        return {
            name: self.resolve({k: v for k, v in item.items() if k != "Condition"})
            for name, item in self.document[section].items()
            if "Condition" not in item or self.condition(item["Condition"])
        }

    def _functions(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "Ref": self._ref,
            "Fn::GetAtt": lambda argument: "<" + ".".join(argument) + ">",
            "Fn::If": lambda argument: self.resolve(argument[1 if self.condition(argument[0]) else 2]),
            "Fn::Select": lambda argument: self.resolve(argument[1])[int(argument[0])],
            "Fn::Split": lambda argument: self.resolve(argument[1]).split(argument[0]),
            "Fn::Sub": self._sub,
        }

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        return self.values.get(name, PSEUDO.get(name, f"<{name}>"))

    def _sub(self, argument: Any) -> str:
        text, names = (argument, {}) if isinstance(argument, str) else argument
        known = {**PSEUDO, **self.values, **{name: self.resolve(value) for name, value in names.items()}}
        filled = re.sub(r"\$\{([^!}]+)\}", lambda match: str(known.get(match[1], f"<{match[1]}>")), text)
        return filled.replace("${!", "${")

    def _true(self, expression: dict[str, Any]) -> bool:
        ((function, argument),) = expression.items()
        if function == "Condition":
            return self.condition(argument)
        if function == "Fn::Equals":
            left, right = (self.resolve(side) for side in argument)
            return bool(left == right)
        answers = [self._true(part) for part in argument]
        return {"Fn::And": all(answers), "Fn::Or": any(answers), "Fn::Not": not answers[0]}[function]


PHASES = {
    "ingest": {"EnableReplay": "false", "EnableProcessor": "false"},
    "replay": {"EnableReplay": "true", "EnableProcessor": "false"},
    "processor": {"EnableReplay": "true", "EnableProcessor": "true"},
}


def phases(document: dict[str, Any], **parameters: str) -> dict[str, Stack]:
    """Return the stack of every phase."""
    return {name: Stack(document, {**toggles, **parameters}) for name, toggles in PHASES.items()}


def conditional_stores(document: dict[str, Any]) -> list[str]:
    """Return the stores that a condition could take away."""
    return [n for n, r in document["Resources"].items() if r["Type"] in STORES and "Condition" in r]


def unretained_stores(document: dict[str, Any]) -> list[str]:
    """Return the stores that deleting or replacing the stack would delete."""
    policies = ("DeletionPolicy", "UpdateReplacePolicy")
    return [
        name
        for name, resource in document["Resources"].items()
        if resource["Type"] in STORES and any(resource.get(policy) != "Retain" for policy in policies)
    ]


def changing_stores(document: dict[str, Any]) -> list[str]:
    """Return the stores that are not exactly the same in every phase, with a dry run or without."""
    stacks = [*phases(document).values(), *phases(document, DryRun="true").values()]
    names = [name for name, resource in document["Resources"].items() if resource["Type"] in STORES]
    first = stacks[0]
    return [n for n in names if any(s.resources.get(n) != first.resources.get(n) for s in stacks)]


def statements(stack: Stack) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield every IAM statement of the roles and managed policies, with the logical id of where it is."""
    for name, properties in stack.of_type("AWS::IAM::Role", "AWS::IAM::ManagedPolicy").items():
        documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
        for document in [*documents, properties.get("PolicyDocument")]:
            if document:
                yield from ((name, statement) for statement in document["Statement"])


def as_list(value: Any) -> list[Any]:
    """Return a one-or-many value of a policy as a list."""
    return value if isinstance(value, list) else [value]


def mutated(document: dict[str, Any], change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    """Return a copy of the template with ``change`` applied to its resources: to see a test fail."""
    changed = copy.deepcopy(document)
    change(changed["Resources"])
    return changed
