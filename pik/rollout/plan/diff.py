"""What differs between two evaluated templates, property by property, and what CloudFormation makes of each difference.

Pure: nothing here talks to AWS. A resource is added, changed in place, replaced or removed; what is not known to happen
in place is never called so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from pik.aws.artifact import CODE
from pik.aws.template import ATTRIBUTES, Evaluated, Resource
from pik.rollout.plan.replacement import Replacement, replacement

Action = Literal["add", "change", "replace", "remove"]
_ORDER = ("remove", "replace", "change", "add")
# Names by which the elements of a list are recognised, so that an added statement is one, and not a change of all.
_KEYS = ("Sid", "Id", "PolicyName", "IndexName", "AttributeName", "ResourcePath", "Name", "Key")
_REFERENCE = re.compile(r"<(\w+)(?:\.[\w.]+)?>")
# What keeps a resource's data. RetainExceptOnCreate deletes only what the operation that fails has just created, and is
# no UpdateReplacePolicy: https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/aws-attribute-deletionpolicy.html
_RETAIN: Mapping[str, frozenset[str]] = {
    "DeletionPolicy": frozenset({"Retain", "RetainExceptOnCreate"}),
    "UpdateReplacePolicy": frozenset({"Retain"}),
}


@dataclass(frozen=True)
class PropertyChange:
    """One property that differs: where (``Policies[processor].PolicyDocument.Statement[Consume].Action``), and how.

    ``before`` and ``after`` are None where there is nothing; ``replacement`` says whether this alone makes
    CloudFormation replace the resource (``may`` and ``unknown``: nobody can say that it does not).
    """

    path: str
    before: Any
    after: Any
    replacement: Replacement = "no"


@dataclass(frozen=True)
class Change:
    """What happens to one resource, with every property that differs.

    ``replace`` stands for everything that is not certain to happen in place; ``certain`` tells the two apart.
    ``store``: it holds data, or is of a type that nobody has looked at yet.
    """

    id: str
    type: str
    action: Action
    store: bool
    properties: tuple[PropertyChange, ...] = ()

    @property
    def certain(self) -> bool:
        """Whether the action is what will happen, not what may."""
        return self.action != "replace" or any(one.replacement == "yes" for one in self.properties)

    @property
    def unretained(self) -> tuple[str, ...]:
        """The policies (``DeletionPolicy``, ``UpdateReplacePolicy``) that no longer keep the resource's data."""
        if self.action == "add":
            return ()
        policies = ((one, _RETAIN[one.path]) for one in self.properties if one.path in _RETAIN)
        return tuple(one.path for one, keeps in policies if one.before in keeps and one.after not in keeps)

    @property
    def refused(self) -> bool:
        """Whether it would cost a data store its data, or could."""
        return self.store and (self.action in ("replace", "remove") or bool(self.unretained))


def changes(before: Evaluated | None, after: Evaluated) -> tuple[Change, ...]:
    """Return what CloudFormation does to get from one evaluated template to another; data stores first.

    What refers to a resource that is replaced changes with it.

    >>> new = Evaluated(resources={"Queue": Resource("AWS::SQS::Queue")})
    >>> [(one.id, one.action, one.store) for one in changes(None, new)]
    [('Queue', 'add', True)]
    """
    old, new = (before or Evaluated()).resources, after.resources
    found = {name: _change(name, old.get(name), new.get(name)) for name in {**old, **new}}
    kept = _followed({name: one for name, one in found.items() if one}, old, new)
    return tuple(sorted(kept.values(), key=lambda one: (not one.store, _ORDER.index(one.action), one.id)))


def values(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[PropertyChange, ...]:
    """Return which named values (parameters, outputs) differ, by name."""
    names = sorted({*before, *after})
    return tuple(
        PropertyChange(name, before.get(name), after.get(name))
        for name in names
        if not same(before.get(name), after.get(name))
    )


def outputs(before: Evaluated | None, after: Evaluated, found: tuple[Change, ...]) -> tuple[PropertyChange, ...]:
    """Return which outputs differ, with those that name a resource that is replaced."""
    old = (before or Evaluated()).outputs
    replaced = {one.id: one for one in found if one.action == "replace"}
    renewed = {
        name: f"{text}, of the new {target}"
        for name, value in after.outputs.items()
        if same(old.get(name), value)
        for _, _, text, target in _references({name: value}, replaced)
    }
    return values(old, after.outputs | renewed)


def same(before: Any, after: Any) -> bool:
    """Whether two values are one to CloudFormation, which knows text only: ``"10"`` and 10, ``"true"`` and True.

    Nothing and null are one as well: CloudFormation takes no null.
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        return all(same(before.get(name), after.get(name)) for name in {*before, *after})
    if isinstance(before, list) and isinstance(after, list):
        return len(before) == len(after) and all(map(same, before, after))
    if any(value is None or isinstance(value, Mapping | list) for value in (before, after)):
        return bool(before == after)
    return _text(before) == _text(after)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _change(name: str, old: Resource | None, new: Resource | None) -> Change | None:
    if old is None or new is None:
        one, action = (new, "add") if old is None else (old, "remove")
        assert one is not None  # noqa: S101 - one of them is there
        sides = ({}, one.properties) if action == "add" else (one.properties, {})
        parts = tuple(PropertyChange(_shown(path), before, after) for path, before, after in _tops(*sides))
        return Change(name, one.type, "add" if action == "add" else "remove", one.store, parts)
    if old.type != new.type:
        kind = PropertyChange("Type", old.type, new.type, "yes")
        return Change(name, new.type, "replace", old.store or new.store, (kind,))
    found = (*_attributes(old, new), *_properties(new.type, old.properties, new.properties))
    return _with(Change(name, new.type, "change", new.store), found) if found else None


def _with(change: Change, more: tuple[PropertyChange, ...]) -> Change:
    found = (*change.properties, *more)
    moved = change.action == "change" and any(one.replacement != "no" for one in found)
    return replace(change, action="replace" if moved else change.action, properties=found)


def _attributes(old: Resource, new: Resource) -> tuple[PropertyChange, ...]:
    """Policies of every resource; of a data store also what decides whether it is there."""
    names = ATTRIBUTES if new.store else tuple(_RETAIN)
    before, after = ({name: one.attributes.get(name) for name in names} for one in (old, new))
    return values(before, after)


def _tops(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    for name in sorted({*old, *new}):
        yield name, old.get(name), new.get(name)


def _properties(kind: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> tuple[PropertyChange, ...]:
    return tuple(
        PropertyChange(_shown(path), before, after, replacement(kind, names, before, after))
        for path, names, before, after in _compare("", (), old, new)
    )


def _shown(path: str) -> str:
    return "code" if path == CODE else path


_Found = tuple[str, tuple[str, ...], Any, Any]


def _compare(path: str, names: tuple[str, ...], before: Any, after: Any) -> Iterator[_Found]:
    """Yield what differs as far down as both sides have the same shape: path, names, before, after."""
    if same(before, after):
        return
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name, old, new in _tops(before, after):
            yield from _compare(f"{path}.{name}" if path else name, (*names, name), old, new)
        return
    pairs = _paired(before, after)
    if pairs is None:
        yield path, names, before, after
        return
    found = [one for label, old, new in pairs for one in _compare(f"{path}[{label}]", names, old, new)]
    if not found:  # the same elements in another order
        yield path, names, [label for label, old, _ in pairs if old is not None], [*_labels(after).keys()]
    yield from found


def _paired(before: Any, after: Any) -> list[tuple[str, Any, Any]] | None:
    """The elements of two lists that belong together, or None when the lists can only be compared as a whole."""
    old, new = _labels(before), _labels(after)
    if not old or not new:
        return None
    return [(label, old.get(label), new.get(label)) for label in {**old, **new}]


def _labels(value: Any) -> dict[str, Any]:
    """The elements of a list of mappings by what names each of them; empty when nothing does."""
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        return {}
    for key in _KEYS:
        found = {str(item[key]): item for item in value if isinstance(item.get(key), str)}
        if len(found) == len(value):
            return found
    return {}


def _followed(found: dict[str, Change], old: Mapping[str, Resource], new: Mapping[str, Resource]) -> dict[str, Change]:
    """Add what changes only because it refers to something that is replaced, until nothing more does."""
    followed: set[tuple[str, str]] = set()
    while True:
        replaced = {name: one for name, one in found.items() if one.action == "replace"}
        fresh = [
            (name, *reference)
            for name in sorted(old.keys() & new.keys())
            for reference in _references(new[name].properties, replaced)
            if (name, reference[0]) not in followed
        ]
        if not fresh:
            return found
        for name, path, names, text, target in fresh:
            followed.add((name, path))
            if name not in found or all(one.path != path for one in found[name].properties):
                base = found.get(name) or Change(name, new[name].type, "change", new[name].store)
                found[name] = _with(base, (_followup(base, path, names, text, replaced[target]),))


def _followup(change: Change, path: str, names: tuple[str, ...], text: str, target: Change) -> PropertyChange:
    answer = replacement(change.type, names, text, f"{text} (new)")
    if answer == "yes" and not target.certain:
        answer = "may"
    return PropertyChange(_shown(path), text, f"{text}, of the new {target.id}", answer)


def _references(value: Any, targets: Mapping[str, Change]) -> Iterator[tuple[str, tuple[str, ...], str, str]]:
    """Yield every text that names one of the targets: path, names, the text, the target."""
    for path, names, text in _leaves("", (), value):
        for match in _REFERENCE.finditer(text):
            if match[1] in targets:
                yield path, names, text, match[1]
                break


def _leaves(path: str, names: tuple[str, ...], value: Any) -> Iterator[tuple[str, tuple[str, ...], str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(f"{path}.{name}" if path else name, (*names, name), item)
    elif isinstance(value, list):
        labels = list(_labels(value)) or [str(number) for number in range(len(value))]
        for label, item in zip(labels, value, strict=True):
            yield from _leaves(f"{path}[{label}]", names, item)
    elif isinstance(value, str):
        yield path, names, value
