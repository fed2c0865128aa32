"""What a plan's changes mean, in sentences: what people and producers will notice, and what happens to the messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pik import phases
from pik.aws.template import Evaluated
from pik.rollout.plan.access import access
from pik.rollout.plan.diff import Change, PropertyChange, same

SHORT = 8  # of a digest


@dataclass(frozen=True)
class Situation:
    """What the deployed environment is like, beside its template.

    ``waiting``: messages in the queue, None when not known; ``mapping_disabled``: the processor's event source mapping
    is disabled although the phase wants it enabled (an interrupted rollback), and a deploy enables it again.
    """

    waiting: int | None = None
    mapping_disabled: bool = False

    @property
    def consumed(self) -> str:
        """What a processor that starts finds in the queue."""
        if self.waiting is None:
            return " the messages in the queue"
        return f" {self.waiting:,} waiting {_messages(self.waiting)}" if self.waiting else ": no message waits"

    @property
    def kept(self) -> str:
        """What stays in the queue when nothing consumes it any more."""
        if self.waiting is None:
            return "its messages stay in the queue"
        stay = "stays" if self.waiting == 1 else "stay"
        return (
            f"{self.waiting:,} {_messages(self.waiting)} {stay} in the queue" if self.waiting else "the queue is empty"
        )


def _messages(count: int) -> str:
    return "message" if count == 1 else "messages"


def consumes(parameters: Mapping[str, str] | None) -> bool:
    """Whether a stack with these parameters (None: no stack) takes messages from the queue."""
    on = phases.deployed_phase(parameters).processor
    return on and (parameters or {}).get("DryRun") != "true"


def starts(before: Evaluated | None, after: Evaluated, situation: Situation) -> bool:
    """Whether messages are taken from the queue afterwards, and were not before."""
    was = consumes(before.parameters) if before else False
    return consumes(after.parameters) and (situation.mapping_disabled or not was)


def effects(
    before: Evaluated | None, after: Evaluated, found: tuple[Change, ...], situation: Situation
) -> tuple[str, ...]:
    """Return what the changes mean, one sentence each; empty when they mean nothing to anybody.

    >>> on = Evaluated(parameters={"EnableReplay": "true"})
    >>> effects(Evaluated(), on, (), Situation(waiting=3))
    ('the replay API appears: operators can send messages to the queue',)
    """
    return (
        *_created(before, found),
        *_switched(before, after, situation),
        *_code(found),
        *_settings(before, after),
        *access(before, after),
        *_stores(found),
        *_stateless(found),
    )


def _created(before: Evaluated | None, found: tuple[Change, ...]) -> Iterator[str]:
    if before is None:
        stores = sum(one.store for one in found)
        yield f"the stack is created: {len(found)} resources, {stores} of them data stores"
        yield "the ingest API appears: producers can send events"


def _switched(before: Evaluated | None, after: Evaluated, situation: Situation) -> Iterator[str]:
    old = phases.deployed_phase(before.parameters if before else None)
    new = phases.deployed_phase(after.parameters)
    was = consumes(before.parameters) if before else False
    if new.replay and not old.replay:
        yield "the replay API appears: operators can send messages to the queue"
    if old.replay and not new.replay:
        yield f"replay is switched off: its API disappears; {situation.kept}"
    if starts(before, after, situation):
        again = "the event source mapping is enabled again: " if situation.mapping_disabled and old.processor else ""
        yield f"{again}the processor starts consuming{situation.consumed}"
    elif was and not consumes(after.parameters):
        yield f"the processor stops consuming; {situation.kept}"
    elif new.processor and not old.processor:
        yield f"the processor appears, and consumes nothing while DRY_RUN is on; {situation.kept}"


def _code(found: tuple[Change, ...]) -> Iterator[str]:
    """One sentence for all functions whose code changes in the same way."""
    moved: dict[tuple[str, str], list[str]] = {}
    for change in found:
        for one in change.properties:
            if one.path == "code" and change.action == "change":
                moved.setdefault((str(one.before), str(one.after)), []).append(
                    change.id.removesuffix("Function").lower()
                )
    for (before, after), names in sorted(moved.items()):
        yield f"code of {', '.join(names)} changes: {before[:SHORT]}… -> {after[:SHORT]}…"


def _settings(before: Evaluated | None, after: Evaluated) -> Iterator[str]:
    old = before.parameters if before else {}
    for name, on, off in (
        (
            "DryRun",
            "DRY_RUN is on: requests are answered, nothing is written",
            "DRY_RUN is off: what is accepted is written",
        ),
        ("Canary", "canary: two processors at work at once, at most", "no canary: MaximumConcurrency holds again"),
    ):
        if (after.parameters.get(name) == "true") != (old.get(name) == "true"):
            yield on if after.parameters.get(name) == "true" else off


# What a store keeps its data by: (property, what is said when its number becomes smaller).
_KEEPS = {
    "RetentionInDays": "log lines for {after} days instead of {before}: older ones are deleted",
    "ExpirationInDays": "objects for {after} days instead of {before}: older ones are deleted",
    "MessageRetentionPeriod": "messages for {after} s instead of {before}: older ones are deleted",
}
# Protection that is given up: (property, what it says while it protects).
_GUARDS = {
    ("DeletionProtectionEnabled",): "true",
    ("PointInTimeRecoverySpecification", "PointInTimeRecoveryEnabled"): "true",
    ("VersioningConfiguration", "Status"): "Enabled",
}


def _stores(found: tuple[Change, ...]) -> Iterator[str]:
    """What a change in place means for data that is there."""
    for change in found:
        if change.store and change.action == "change":
            for one in change.properties:
                yield from (f"{change.id} (data store) {loss}" for loss in _loses(one))


def deletions(found: tuple[Change, ...]) -> Iterator[str]:
    """Say which data AWS deletes by itself once stores are changed: those older than they will be kept."""
    for change in found:
        for one in change.properties if change.store and change.action == "change" else ():
            yield from (f"{change.id} {what}" for what in _expires(one))


def _expires(one: PropertyChange) -> Iterator[str]:
    name = one.path.rpartition(".")[2]
    if name in _KEEPS and _number(one.after) < _number(one.before):
        yield "keeps " + _KEEPS[name].format(before=one.before, after=one.after)
    if one.before is None and isinstance(one.after, Mapping) and "ExpirationInDays" in one.after:
        yield f"deletes objects after {one.after['ExpirationInDays']} days"


def _loses(one: PropertyChange) -> Iterator[str]:
    yield from _expires(one)
    for path, protects in _GUARDS.items():
        before, after = (_at(path, one.path, side) for side in (one.before, one.after))
        if same(before, protects) and not same(after, protects):
            yield f"is no longer protected by {path[0]}"
    if one.path.startswith("GlobalSecondaryIndexes[") and one.after is None:
        yield f"loses the index {one.path[len('GlobalSecondaryIndexes[') : -1]}"


def _at(path: tuple[str, ...], changed: str, value: Any) -> Any:
    """The value of a property when it, or what it is part of, has changed; None when neither has."""
    names = tuple(changed.split("."))
    if path[: len(names)] != names:
        return None
    for name in path[len(names) :]:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return float("inf")  # no limit: kept for ever


def _stateless(found: tuple[Change, ...]) -> Iterator[str]:
    for change in found:
        if change.store or change.action != "replace":
            continue
        may = "is replaced" if change.certain else "may be replaced"
        more = _REPLACED.get(change.type, "a new one is made, then the old one is deleted")
        yield f"{change.id} {may}: {more}"


_REPLACED = {
    "AWS::IAM::ManagedPolicy": "whoever has it attached outside the stack must get the new one",
    "AWS::Serverless::Api": "its stage is made anew, and its address changes",
    "AWS::Lambda::EventSourceMapping": "the queue is not consumed between the old one and the new one",
}
