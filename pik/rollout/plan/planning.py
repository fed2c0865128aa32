"""From two templates and what the environment is like to a plan: pure, so that every plan can be tested without AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from pik import events, phases
from pik.aws import artifact
from pik.aws.evaluation import Evaluator
from pik.aws.guard import Place
from pik.aws.stack import Stack
from pik.aws.template import Evaluated
from pik.environments import Environment
from pik.errors import Refused
from pik.rollout.plan.diff import Change, changes, outputs, values
from pik.rollout.plan.effects import Situation, consumes, effects
from pik.rollout.plan.planned import Plan, Side
from pik.rollout.plan.preconditions import refuse_unless_forward


@dataclass(frozen=True)
class Template:
    """A parsed template with its parameters; ``folder``: where its code lies when it was built here."""

    given: Evaluator
    folder: Path | None = None

    @cached_property
    def evaluated(self) -> Evaluated:
        """What would exist."""
        return self.given.evaluated(self.folder)

    @cached_property
    def side(self) -> Side:
        """Its digests."""
        digests = artifact.digests(self.given.document, self.folder)
        return Side(digests.template, digests.code, self.evaluated.parameters)

    def with_all_on(self, values: Mapping[str, str]) -> Evaluated:
        """What would exist in the last phase with these parameters, as far as the template has them."""
        declared = self.given.values
        known = {name: value for name, value in values.items() if name in declared}
        given = Evaluator(self.given.document, known | phases.PROCESSOR.parameters, self.given.pseudo)
        return given.evaluated(self.folder)


def compare(
    environment: Environment,
    place: Place,
    target: phases.Phase,
    before: Template | None,
    after: Template,
    situation: Situation,
) -> Plan:
    """Return the plan that leads from what is deployed (None: nothing) to what is intended, nothing predicted yet."""
    was, will = before.evaluated if before else None, after.evaluated
    found = changes(was, will)
    same = before is not None and before.given.document is after.given.document
    return Plan(
        environment=environment.name,
        account=place.account,
        region=environment.region,
        stack=environment.stack,
        stack_id=place.stack.id if place.stack else "",
        kind="deployed" if same else "sources",
        previous=place.stack.phase.name if place.stack else phases.OFF.name,
        phase=target.name,
        base=before.side if before else None,
        target=after.side,
        changes=found,
        parameters=values(was.parameters if was else {}, will.parameters),
        outputs=outputs(was, will, found),
        opens_tap=situation.mapping_disabled and consumes(will.parameters),
        effects=(*effects(was, will, found, situation), *_dormant(before, after, found)),
        refusals=tuple(_refusals(environment, place.stack, target, after, found, promotes=same)),
        made=events.format_time(datetime.now(UTC)),
        by=place.caller,
    )


def _dormant(before: Template | None, after: Template, found: tuple[Change, ...]) -> Iterator[str]:
    """What differs in the templates but is off before and after, so that nothing of it is deployed."""
    if before is None:
        return
    on = {*before.given.resources, *after.given.resources}
    sides = [template.with_all_on(after.given.values) for template in (before, after)]
    off = sorted(one.id for one in changes(*sides) if one.id not in on)
    if off:
        yield f"off in this phase, and different in the template: {', '.join(off)}" + ("" if found else _LATER)


_LATER = (
    "; CloudFormation may leave the deployed template as it is until something that is on changes, "
    "and a promotion uses the deployed one"
)


def _refusals(
    environment: Environment,
    before: Stack | None,
    target: phases.Phase,
    after: Template,
    found: tuple[Change, ...],
    *,
    promotes: bool,
) -> Iterator[str]:
    try:
        refuse_unless_forward(environment, target, before, promotes=promotes)
    except Refused as refused:
        yield f"{refused.message}: {refused.reason} (do this: {refused.next_step})"
    yield from after.given.rule_failures()
    for change in found:
        if change.refused:
            yield from _of_store(change)
        elif change.action == "change":
            yield from _of_indexes(change)


# What of an index can be changed where it is; its key and projection cannot.
_TUNED = ("ProvisionedThroughput", "OnDemandThroughput", "WarmThroughput", "ContributorInsightsSpecification")
_INDEX = re.compile(r"GlobalSecondaryIndexes\[([^]]+)\](?:\.(\w+))?")


def _of_indexes(change: Change) -> Iterator[str]:
    """DynamoDB adds or deletes one index in an update, and changes none; CloudFormation finds out half-way.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-dynamodb-table.html
    """
    found = [match for one in change.properties if (match := _INDEX.match(one.path))]
    whole = sorted({match[1] for match in found if not match[2]} | set(_all_or_none(change)))
    changed = sorted({match[1] for match in found if match[2] and match[2] not in _TUNED})
    for name in changed:
        yield f"{change.id}: the index {name} cannot be changed; add another one, and remove it in a later deploy"
    if len(whole) > 1:
        yield f"{change.id}: the indexes {', '.join(whole)} cannot come or go in one deploy; one at a time"


def _all_or_none(change: Change) -> Iterator[str]:
    """The indexes of a table that had none before, or has none afterwards."""
    for one in change.properties:
        if one.path == "GlobalSecondaryIndexes":
            yield from (index["IndexName"] for index in (one.before or one.after or []))


def _of_store(change: Change) -> Iterator[str]:
    name = f"{change.id} (data store)"
    if change.action == "remove":
        yield f"{name} would be removed from the stack, which would go on without its data"
    elif change.action == "replace":
        causes = ", ".join(one.path for one in change.properties if one.replacement != "no")
        would = "would be replaced" if change.certain else "may be replaced (it is not known that it is not)"
        yield f"{name} {would}: {causes} changes, and the stack would go on with an empty one"
    for policy in change.unretained:
        when = "the stack is deleted" if policy == "DeletionPolicy" else "it is replaced"
        yield f"{name} would lose its {policy} Retain: its data would be deleted when {when}"
