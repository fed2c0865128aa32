"""Questions that tests ask of template.yaml, evaluated by :mod:`pik.aws.evaluation` as a plan evaluates it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from pik import project
from pik.aws.evaluation import Evaluator
from pik.aws.template import STATELESS, STORES, parse

__all__ = ["STATELESS", "STORES", "Stack", "load", "phases"]


def load() -> dict[str, Any]:
    """Return template.yaml with every function in its long form."""
    return parse(project.TEMPLATE.read_text(encoding="utf-8"))


class Stack(Evaluator):
    """The template for one set of parameters. ``resources`` and ``outputs`` hold only what would exist."""

    def of_type(self, *types: str) -> dict[str, dict[str, Any]]:
        """Return the properties of the resources of these types, by logical id, without what Globals add."""
        return {
            name: resource.get("Properties", {})
            for name, resource in self.resources.items()
            if resource["Type"] in types
        }

    def environment_of(self, function: str) -> dict[str, Any]:
        """Return the environment variables of a function, the common ones included."""
        variables: dict[str, Any] = self.evaluated().resources[function].properties["Environment"]["Variables"]
        return variables


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
    policies = {"DeletionPolicy": "RetainExceptOnCreate", "UpdateReplacePolicy": "Retain"}
    return [
        name
        for name, resource in document["Resources"].items()
        if resource["Type"] in STORES and any(resource.get(policy) != keeps for policy, keeps in policies.items())
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
