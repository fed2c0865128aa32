"""How a plan looks: as text in a terminal, as a table in a notebook. Values are shown, never interpreted."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pik import phases
from pik.markup import render
from pik.rollout.plan.diff import Action, Change, PropertyChange
from pik.rollout.plan.effects import SHORT
from pik.text import printable

if TYPE_CHECKING:
    from pik.rollout.plan.planned import Plan

LONGEST = 90  # of a value
CONTEXT = 24  # characters left and right of where two long texts differ
MOST_VERSIONS = 10
_MARKS: dict[Action, str] = {"add": "+", "change": "~", "replace": "!", "remove": "-"}
_WORDS: dict[Action, str] = {"add": "add", "change": "change in place", "replace": "replace", "remove": "remove"}
_REPLACES = {"no": "", "yes": "replaces", "may": "may replace", "unknown": "unknown: may replace"}
_KINDS = {
    "sources": "the template and code at hand",
    "deployed": "the template and code that are deployed, with other parameters",
}


def text(plan: Plan) -> str:
    """Return the plan as a terminal shows it."""
    lines = [*_head(plan), ""]
    if plan.empty:
        lines.append("nothing changes: what is deployed is already what is intended")
    for change in plan.changes:
        lines += _resource(change)
    for title, parts in (("parameters", plan.parameters), ("outputs", plan.outputs)):
        lines += [f"  {title}"] * bool(parts) + [f"      {_property(one)}" for one in parts]
    lines += _section("means", plan.effects)
    if plan.prediction:
        lines += _section("predicted", [plan.prediction.sentence, *_versions(plan)])
    lines += _section("REFUSED: this plan cannot be applied", plan.refusals)
    lines += ["", f"digest  {plan.digest}   {counted(plan)}"]
    lines += [f"{'next' if n == 0 else '':<8}{line}" for n, line in enumerate(plan.command.splitlines())]
    return "\n".join(map(printable, lines))


def counted(plan: Plan) -> str:
    """Return how many resources are added, changed, replaced and removed, in words."""
    found = Counter(one.action for one in plan.changes)
    return ", ".join(f"{_WORDS[action]} {found[action]}" for action in _WORDS if found[action]) or "no resource changes"


def _head(plan: Plan) -> list[str]:
    came, goes = _phase(plan.previous), _phase(plan.phase)
    phase = goes if came == goes else f"{came} -> {goes}"
    digests = "   ".join(f"{name} {_digests(plan, name)}" for name in ("template", "code"))
    rehearsed = plan.target.parameters.get("Platform") == "embedded"
    where = "  REHEARSAL on the embedded AWS, nothing in your account" if rehearsed else ""
    return [
        f"plan    {plan.environment}  account {plan.account}  {plan.region}  stack {plan.stack}{where}",
        f"phase   {phase}   {digests}",
        f"with    {_KINDS[plan.kind]}",
    ]


def _phase(name: str) -> str:
    return name if name == phases.OFF.name else phases.phase(name).label


def _digests(plan: Plan, name: str) -> str:
    after = f"{getattr(plan.target, name)[:SHORT]}…"
    before = f"{getattr(plan.base, name)[:SHORT]}…" if plan.base else "none"
    return after if before == after else f"{before} -> {after}"


def _resource(change: Change) -> Iterator[str]:
    store = "  DATA STORE" if change.store else ""
    yield f"  {_MARKS[change.action]} {change.id:<24} {_action(change):<16} {change.type}{store}"
    if change.action in ("change", "replace"):
        yield from (f"      {_property(one)}" for one in change.properties)


def _action(change: Change) -> str:
    return _WORDS[change.action] if change.certain else "may replace"


def _property(one: PropertyChange) -> str:
    before, after = pair(one)
    replaces = f"   [{_REPLACES[one.replacement]}]" if one.replacement != "no" else ""
    return f"{one.path}  {before} -> {after}{replaces}"


def pair(one: PropertyChange) -> tuple[str, str]:
    """Return both sides of a property change in a few words; of long texts, where they differ."""
    if one.path == "code":
        return tuple(f"{str(side)[:SHORT]}…" if side else "(none)" for side in (one.before, one.after))  # type: ignore[return-value]
    if _plain_list(one.before) and _plain_list(one.after):
        return _elements(one.before, one.after)
    before, after = shown(one.before), shown(one.after)
    if max(len(before), len(after)) <= LONGEST:
        return before, after
    if one.before is None or one.after is None:
        return _cut(before), _cut(after)
    return _where_different(before, after)


def _plain_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str | int | float) for item in value)


def _elements(before: list[Any], after: list[Any]) -> tuple[str, str]:
    """Both sides of a list of names by what only one of them has."""
    gone, new = [item for item in before if item not in after], [item for item in after if item not in before]
    if not gone and not new:
        return _cut(shown(before)), _cut(shown(after))  # another order

    def side(has: list[Any], has_not: list[Any]) -> str:
        parts = [("with", has), ("without", has_not)]
        return _cut(", ".join(f"{word} {', '.join(map(shown, items))}" for word, items in parts if items))

    return side(gone, new), side(new, gone)


def _where_different(before: str, after: str) -> tuple[str, str]:
    most = min(len(before), len(after))
    start = next((n for n in range(most) if before[n] != after[n]), most)
    end = next((n for n in range(most - start) if before[-1 - n] != after[-1 - n]), most - start)
    first = max(0, start - CONTEXT)

    def part(side: str) -> str:
        last = min(len(side), len(side) - end + CONTEXT)
        return f"{'…' * (first > 0)}{_cut(side[first:last])}{'…' * (last < len(side))}"

    return part(before), part(after)


def _cut(value: str) -> str:
    return value if len(value) <= LONGEST else f"{value[: LONGEST - 1]}…"


def shown(value: Any) -> str:
    """Return a value as text that a terminal cannot take for anything else."""
    if value is None:
        return "(none)"
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True))


def _versions(plan: Plan) -> Iterator[str]:
    if plan.prediction is None:
        return
    for one in plan.prediction.versions[:MOST_VERSIONS]:
        name = " · ".join((one.entity_id, one.day, one.replay_id))
        yield f"{name}: {one.inputs:,} added, then {one.input_count:,}"
    left = len(plan.prediction.versions) - MOST_VERSIONS
    if left > 0:
        yield f"… and {left:,} more (--json lists them all)"


def _section(title: str, sentences: Any) -> list[str]:
    found = [f"  {sentence}" for sentence in sentences]
    return [title, *found] if found else []


def html(plan: Plan) -> str:
    """Return the plan as an HTML fragment; every value is escaped, so it is text, never markup."""
    return render(
        "plan.html",
        plan=plan,
        head=[line.partition(" ")[2].strip().replace("  ", " · ") for line in _head(plan)],
        properties=_properties,
        action=_action,
        pair=pair,
        replaces=_REPLACES,
        written=[plan.prediction.sentence, *_versions(plan)] if plan.prediction else [],
        counted=counted(plan),
    )


def _properties(change: Change) -> tuple[PropertyChange, ...]:
    """What a change has a row for: its properties, or one row without any."""
    parts = change.properties if change.action in ("change", "replace") else ()
    return parts or (PropertyChange("", None, None),)
