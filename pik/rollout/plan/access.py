"""What a change of policies means: who may now do what, who no longer may, and what is no longer denied."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from pik.aws.template import Evaluated, Resource

_REFERENCE = re.compile(r"<(\w+)(?:\.[\w.]+)?>")
_DOCUMENTS = ("PolicyDocument", "AssumeRolePolicyDocument")


class Right(NamedTuple):
    """One action that a policy allows or denies; ``principal`` is empty where the policy's holder is meant."""

    effect: str
    principal: str
    resource: str
    condition: str
    action: str


def access(before: Evaluated | None, after: Evaluated) -> tuple[str, ...]:
    """Return what changes for those who hold, or are named by, a policy that is there before and after.

    Of a policy that is taken away, what it denied is told; what a new one allows is not: its text is in the plan.

    >>> role = Resource("AWS::IAM::Role", {"Policies": [{"PolicyDocument": {"Statement": [
    ...     {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "<RawBucket.Arn>/*"}]}}]})
    >>> access(Evaluated(resources={"R": Resource("AWS::IAM::Role")}), Evaluated(resources={"R": role}))
    ('IAM: R may now also s3:GetObject on RawBucket/*',)
    """
    old = (before or Evaluated()).resources
    sentences = []
    for name in sorted(old):
        new = after.resources.get(name)
        had, has = _rights(old[name]), _rights(new) if new else set[Right]()
        lost = had - has if new else {one for one in had if one.effect == "Deny"}
        sentences += [*_sentences(name, has - had, gained=True), *_sentences(name, lost, gained=False)]
    return tuple(sentences)


def _rights(resource: Resource) -> set[Right]:
    documents = [resource.properties.get(name) for name in _DOCUMENTS]
    documents += [policy.get("PolicyDocument") for policy in resource.properties.get("Policies", [])]
    return {
        right
        for document in documents
        if isinstance(document, Mapping)
        for statement in _many(document.get("Statement"))
        for right in _of_statement(statement)
    }


def _of_statement(statement: Mapping[str, Any]) -> Iterator[Right]:
    condition = json.dumps(statement["Condition"], sort_keys=True) if statement.get("Condition") else ""
    principals = _principals(statement)
    for action in _named(statement, "Action"):
        for resource in _named(statement, "Resource"):
            for principal in principals:
                yield Right(str(statement.get("Effect")), principal, resource, condition, action)


def _named(statement: Mapping[str, Any], name: str) -> list[str]:
    """The actions or resources of a statement; ``NotAction`` and ``NotResource`` mean all but those."""
    if f"Not{name}" in statement:
        return [f"everything but {', '.join(map(_plain, _many(statement[f'Not{name}'])))}"]
    return [_plain(one) for one in _many(statement.get(name, ""))]


def _principals(statement: Mapping[str, Any]) -> list[str]:
    given = statement.get("Principal", statement.get("NotPrincipal"))
    if given is None:
        return [""]
    prefix = "everybody but " if "NotPrincipal" in statement else ""
    if isinstance(given, Mapping):
        return [f"{prefix}{_plain(one)}" for values in given.values() for one in _many(values)]
    return ["everybody" if given == "*" and not prefix else f"{prefix}{_plain(given)}"]


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _plain(value: Any) -> str:
    return _REFERENCE.sub(r"\1", str(value))


def _sentences(name: str, rights: Iterable[Right], *, gained: bool) -> Iterator[str]:
    together: defaultdict[Right, list[str]] = defaultdict(list)
    for right in sorted(rights):
        together[right._replace(action="")].append(right.action)
    for right, actions in together.items():
        who = f"{right.principal}, by {name}," if right.principal else name
        verb = _VERBS[right.effect == "Deny", gained]
        where = f" on {right.resource}" if right.resource else ""
        condition = f", if {right.condition}" if right.condition else ""
        yield f"IAM: {who} {verb} {', '.join(actions)}{where}{condition}"


_VERBS = {
    (False, True): "may now also",
    (False, False): "may no longer",
    (True, True): "is now denied",
    (True, False): "is no longer denied",
}
