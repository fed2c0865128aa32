"""A SAM template as CloudFormation reads it for given parameters: conditions evaluated, ``Fn::If`` resolved.

Only what our own template uses is known; anything else raises :class:`UsageError`, so that a new construct cannot pass
unnoticed. Nothing here talks to AWS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pik.aws.artifact import CODE, code_digest
from pik.aws.template import ATTRIBUTES, Evaluated, Resource, require_known
from pik.errors import UsageError
from pik.partitions import partition

# Stands for the stack where there is none.
PSEUDO: Mapping[str, str] = {
    "AWS::StackName": "pik-test",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:111122223333:stack/pik-test/1a2b3c4d-0000-4000-8000-000000000000",
    "AWS::Region": "eu-west-1",
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
GLOBALS = {"Function": "AWS::Serverless::Function", "Api": "AWS::Serverless::Api"}
_NOTHING = object()


def pseudo(region: str, account: str, stack: str, stack_id: str = "") -> dict[str, str]:
    """Return CloudFormation's pseudo parameters for a stack; without an id, for one that is not there yet.

    >>> pseudo("eu-west-1", "111122223333", "pik-dev")["AWS::Partition"]
    'aws'
    """
    here = partition(region)
    new = f"arn:{here.name}:cloudformation:{region}:{account}:stack/{stack}/<new>"
    return {
        "AWS::StackName": stack,
        "AWS::StackId": stack_id or new,
        "AWS::Region": region,
        "AWS::AccountId": account,
        # A stack's own ARN knows better than its region: the embedded AWS has one partition for every region.
        "AWS::Partition": stack_id.split(":")[1] if stack_id.startswith("arn:") else here.name,
        "AWS::URLSuffix": here.suffix,
    }


class Evaluator:
    """A parsed template for one set of parameters.

    ``values``: every parameter's value; ``resources`` and ``outputs``: as written, resolved, only those that would
    exist.

    Raises:
        UsageError: a parameter that the template has not, or a construct that is not known.
    """

    def __init__(
        self,
        document: Mapping[str, Any],
        parameters: Mapping[str, str] | None = None,
        pseudo: Mapping[str, str] = PSEUDO,
    ) -> None:
        self.document = document
        self.pseudo = pseudo
        self.values = _values(document.get("Parameters", {}), parameters or {})
        for resource in document["Resources"].values():
            require_known("attribute", resource, {"Type", "Properties", "Metadata", *ATTRIBUTES})
        self.resources = self._existing(document["Resources"])
        outputs = self._existing(document.get("Outputs", {}))
        self.outputs = {name: item["Value"] for name, item in outputs.items()}

    def evaluated(self, folder: Path | None = None) -> Evaluated:
        """Return what would exist, Globals merged into it, and code as digests instead of addresses."""
        written = self.document["Resources"]
        found = self._existing({name: self._with_globals(one) for name, one in written.items()})
        return Evaluated(
            dict(self.values),
            {
                name: Resource(
                    one["Type"],
                    _with_code_digest(one.get("Properties", {}), folder),
                    # A condition is kept as it is written: what matters of a store is that it has none.
                    {key: one.get(key, written[name].get(key)) for key in ATTRIBUTES if written[name].get(key)},
                )
                for name, one in found.items()
            },
            self.outputs,
        )

    def rule_failures(self) -> list[str]:
        """Return what the template's Rules say against the parameters."""
        failures = []
        for rule in self.document.get("Rules", {}).values():
            if self._true(rule["RuleCondition"]):
                failures += [a["AssertDescription"] for a in rule["Assertions"] if not self._true(a["Assert"])]
        return failures

    def condition(self, name: str) -> bool:
        """Evaluate a named condition."""
        conditions = self.document.get("Conditions", {})
        require_known("condition", [name], conditions)
        return self._true(conditions[name])

    def resolve(self, value: Any) -> Any:
        """Resolve parameters, pseudo parameters, ``Fn::If``, ``Fn::Sub``; leave references to resources readable."""
        if isinstance(value, list):
            return [item for item in map(self.resolve, value) if item is not _NOTHING]
        if not isinstance(value, dict):
            return value
        if _is_function(value):
            ((function, argument),) = value.items()
            known = self._functions()
            require_known("function", [function], known)
            return known[function](argument)
        resolved = {name: self.resolve(item) for name, item in value.items()}
        return {name: item for name, item in resolved.items() if item is not _NOTHING}

    def _existing(self, items: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: self.resolve({key: part for key, part in item.items() if key != "Condition"})
            for name, item in items.items()
            if "Condition" not in item or self.condition(item["Condition"])
        }

    def _with_globals(self, resource: Mapping[str, Any]) -> dict[str, Any]:
        sections = self.document.get("Globals", {})
        require_known("section of Globals", sections, GLOBALS)
        for name, common in sections.items():
            if GLOBALS[name] == resource["Type"]:
                return {**resource, "Properties": _merged(common, resource.get("Properties", {}))}
        return dict(resource)

    def _functions(self) -> dict[str, Callable[[Any], Any]]:
        return {
            "Ref": self._ref,
            "Fn::GetAtt": lambda argument: self._of_resource(*argument),
            "Fn::If": lambda argument: self.resolve(argument[1 if self.condition(argument[0]) else 2]),
            "Fn::Select": lambda argument: self.resolve(argument[1])[int(argument[0])],
            "Fn::Split": lambda argument: self.resolve(argument[1]).split(argument[0]),
            "Fn::Sub": self._sub,
        }

    def _ref(self, name: str) -> Any:
        if name == "AWS::NoValue":
            return _NOTHING
        known = {**self.pseudo, **self.values}
        return known[name] if name in known else self._of_resource(name)

    def _of_resource(self, *parts: str) -> str:
        require_known("name", parts[:1], self.document["Resources"])
        return f"<{'.'.join(parts)}>"

    def _sub(self, argument: Any) -> str:
        text, names = (argument, {}) if isinstance(argument, str) else argument
        known = {**self.pseudo, **self.values, **{name: self.resolve(value) for name, value in names.items()}}

        def filled(match: re.Match[str]) -> str:
            name = match[1]
            return str(known[name]) if name in known else self._of_resource(*name.split(".", 1))

        return re.sub(r"\$\{([^!}]+)\}", filled, text).replace("${!", "${")

    def _true(self, expression: Mapping[str, Any]) -> bool:
        ((function, argument),) = expression.items()
        if function == "Condition":
            return self.condition(argument)
        if function == "Fn::Equals":
            left, right = (str(self.resolve(side)) for side in argument)
            return left == right
        require_known("function", [function], {"Fn::And", "Fn::Or", "Fn::Not"})
        answers = [self._true(part) for part in argument]
        return {"Fn::And": all(answers), "Fn::Or": any(answers), "Fn::Not": not answers[0]}[function]


def evaluate(
    document: Mapping[str, Any],
    parameters: Mapping[str, str] | None = None,
    pseudo: Mapping[str, str] = PSEUDO,
    *,
    folder: Path | None = None,
) -> Evaluated:
    """Return what a parsed template makes of its parameters.

    Args:
        document: what :func:`parse` returned.
        parameters: values; what is not named has its default.
        pseudo: the stack's name and id, region, account and so on, by their names (``AWS::Region``).
        folder: where a built template's code lies.

    Raises:
        UsageError: there is no such parameter, or the template uses what is not known here.
    """
    return Evaluator(document, parameters, pseudo).evaluated(folder)


def _values(declared: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    for name in given:
        if name not in declared:
            near = get_close_matches(name, declared, n=1)
            hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(declared)}"
            raise UsageError(f"the template has no parameter {name}", next_step=hint)
    return {name: str(spec.get("Default", "")) for name, spec in declared.items()} | dict(given)


def _is_function(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    name = next(iter(value))
    return bool(name == "Ref" or name.startswith("Fn::"))


def _merged(common: Any, own: Any) -> Any:
    """What SAM makes of a value in Globals and the resource's own: mappings merge, lists add up, else the own wins."""
    if _is_function(common) or _is_function(own):
        return own
    if isinstance(common, dict) and isinstance(own, dict):
        both = {name: _merged(common[name], own[name]) for name in common.keys() & own.keys()}
        return {**common, **own, **both}
    return common + own if isinstance(common, list) and isinstance(own, list) else own


def _with_code_digest(properties: dict[str, Any], folder: Path | None) -> dict[str, Any]:
    if CODE not in properties:
        return properties
    return {**properties, CODE: code_digest(properties[CODE], folder)}
