"""Take an environment back to a lower phase: the tap first (seconds), then the stack, then the proof.

The stack converges on the template and the code that are *deployed* (``UsePreviousTemplate``), with the toggles
changed: going back never ships what happens to lie in somebody's checkout, and needs neither a build nor ``sam``.
It is allowed from every state and asks for no evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from botocore.exceptions import ClientError

from pik.environments import Environment
from pik.errors import AwsError, PikError, Refused, UsageError
from pik.ledger import Kind
from pik.rollout import mapping, phases, records, stack
from pik.rollout.converge import at_rest, converge
from pik.rollout.guard import guard
from pik.rollout.inventory import Difference, Inventory, inventory, messages, queue_counts
from pik.rollout.recording import record
from pik.rollout.stack import Say, Stack, aws_errors, silent

TARGETS = (phases.REPLAY.name, phases.INGEST.name)
# What a running function holds is done by then, or failed: the function's timeout, and slack. What failed stays in
# flight until its visibility timeout ends, and nothing is consumed meanwhile: there is no use in waiting for it.
DRAIN_SECONDS = 35.0


@dataclass(frozen=True)
class Rollback:
    """What a rollback did and what it found.

    ``stopped_after``: seconds until nothing consumed the queue any more; ``queue_before`` and ``queue_after``: messages
    kept; ``before`` and ``after``: inventories of every store taken once consumption had stopped and at the end, None
    when there was too much to read.
    """

    changed: bool
    environment: str
    phase: str
    previous: str
    seconds: float
    stopped_after: float
    queue_before: int
    queue_after: int
    dead_letters: int
    stack_status: str
    mappings_left: int
    before: Inventory | None = field(default=None, repr=False)
    after: Inventory | None = field(default=None, repr=False)
    log: str = ""
    recorded: str = ""

    @property
    def differences(self) -> dict[str, Difference]:
        """How each store changed; empty when no inventory could be taken."""
        return self.before.difference(self.after) if self.before and self.after else {}

    @property
    def lost_nothing(self) -> bool | None:
        """Whether every store still has all it had; None when that could not be looked at."""
        if not self.differences:
            return None
        return all(difference.lost_nothing for difference in self.differences.values())

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        where = f"{self.environment} is at phase {phases.phase(self.phase).label}"
        if not self.changed:
            return f"{where}; nothing to roll back"
        untouched = {True: "every store untouched", False: "STORES CHANGED", None: "stores not compared"}
        return (
            f"{where}, before: {self.previous}; consumption stopped after {self.stopped_after:.1f} s, "
            f"{self.queue_after} messages kept in the queue, {untouched[self.lost_nothing]} ({self.seconds:.1f} s)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return everything but the inventories' items, JSON-able."""
        return {
            "changed": self.changed,
            "environment": self.environment,
            "phase": self.phase,
            "previous": self.previous,
            "seconds": self.seconds,
            "stopped_after": self.stopped_after,
            "queue_before": self.queue_before,
            "queue_after": self.queue_after,
            "dead_letters": self.dead_letters,
            "stack_status": self.stack_status,
            "mappings_left": self.mappings_left,
            "lost_nothing": self.lost_nothing,
            "stores": {
                name: {**asdict(difference), "count": self.after.counts[name] if self.after else None}
                for name, difference in self.differences.items()
            },
            "digests_before": self.before.digests if self.before else {},
            "digests_after": self.after.digests if self.after else {},
            "log": self.log,
            "recorded": self.recorded,
        }


def rollback(
    environment: Environment,
    to: str = "replay",
    *,
    on_progress: Say | None = None,
    after_stop: Callable[[], None] | None = None,
) -> Rollback:
    """Take ``environment`` back to ``replay`` (processor off) or ``ingest`` (replay off as well).

    Stops the event source mapping first and waits until it is disabled; nothing in a store is touched. When the
    environment is at that phase or below already, a mapping that should not be open is still closed, and nothing else
    happens. ``after_stop`` is called once nothing is consumed any more (a rehearsal sends its messages there).
    Raises NotDeployed without a stack, AwsError when CloudFormation gives up (the tap stays closed).

    >>> rollback(environment("local")).sentence                    # doctest: +SKIP
    'local is at phase 2 replay, before: processor; consumption stopped after 0.3 s, 120 messages kept …'
    """
    if to not in TARGETS:
        raise UsageError(f"cannot roll back to {to}", next_step=f"one of {', '.join(TARGETS)}")
    say = on_progress or silent
    tap = Tap(environment, say)
    found = guard(environment).stack or stack.require(environment)
    try:
        done = _roll_back(environment, found, phases.phase(to), tap, after_stop)
    except PikError as error:
        say(str(record(environment, Kind.ROLLBACK, f"did not get there: {error.message}", phase=to, state="failed")))
        raise
    if not done.changed and not done.stopped_after:
        return done  # nothing was done; a record would only make evidence look older than it is
    facts = {name: value for name, value in done.as_dict().items() if name not in ("phase", "log", "recorded")}
    recorded = record(environment, Kind.ROLLBACK, done.sentence, phase=done.phase, state="done", facts=facts)
    say(str(recorded))
    return replace(done, recorded=str(recorded))


def _roll_back(
    environment: Environment, found: Stack, target: phases.Phase, tap: Tap, after_stop: Callable[[], None] | None
) -> Rollback:
    say, previous = tap.say, found.phase
    log = records.new(environment, "rollback")
    tap.close(found)
    if after_stop:
        after_stop()
    settled = _settle(environment, found, tap)
    before = _inventory(environment)
    waiting = messages(environment, settled.outputs["QueueUrl"])
    changed = settled.phase.number > target.number
    if changed:
        say(f"CloudFormation takes {environment.stack} to phase {target.label}")
        _converge(environment, settled, target, say)
    after = stack.require(environment)
    done = Rollback(
        changed=changed,
        environment=environment.name,
        phase=after.phase.name,
        previous=previous.name,
        seconds=round(time.monotonic() - tap.began, 2),
        stopped_after=round(tap.stopped_after, 2),
        queue_before=waiting,
        queue_after=messages(environment, after.outputs["QueueUrl"]),
        dead_letters=messages(environment, after.outputs["DeadLetterQueueUrl"]),
        stack_status=after.status,
        mappings_left=len(mapping.find(environment, after.outputs)),
        before=before,
        after=_inventory(environment) if before else None,
        log=str(log.with_suffix(".json")),
    )
    records.write(log, environment, "rollback", done.as_dict())
    return done


class Tap:
    """Closes the event source mapping, as often as one turns up, and knows when the last message was consumed."""

    def __init__(self, environment: Environment, say: Say) -> None:
        self.environment = environment
        self.say = say
        self.began = time.monotonic()
        self.stopped_after = 0.0

    def close(self, found: Stack) -> None:
        """Disable what reads the queue and wait for what is in flight."""
        queue = found.outputs.get("QueueUrl")
        taps = [tap for tap in mapping.find(self.environment, found.outputs) if tap.state != "Disabled"]
        if not taps or not queue:
            return
        mapping.switch(self.environment, found.outputs, on=False)
        self.stopped_after = time.monotonic() - self.began
        self.say(f"event source mapping disabled after {self.stopped_after:.1f} s")
        deadline = time.monotonic() + DRAIN_SECONDS
        before = self._in_flight(queue)
        while before and (now := self._in_flight(queue)):
            if now < before:
                self.stopped_after = time.monotonic() - self.began
            if time.monotonic() > deadline:
                self.say(f"{now} messages failed; they return to the queue when their visibility timeout ends")
                return
            before = now
            time.sleep(0.2 if self.environment.embedded else 2.0)
        if before:
            self.stopped_after = time.monotonic() - self.began

    def _in_flight(self, queue: str) -> int:
        return queue_counts(self.environment, queue)["ApproximateNumberOfMessagesNotVisible"]


def _inventory(environment: Environment) -> Inventory | None:
    try:
        return inventory(environment)
    except Refused:
        return None  # too much to read: a rollback does not wait for that


def _settle(environment: Environment, found: Stack, tap: Tap) -> Stack:
    """Wait until CloudFormation is at rest, and let it finish its own rollback when that got stuck.

    An update that is under way may be just about to make a mapping: whenever one turns up, it is closed.
    """
    client = environment.client("cloudformation")
    with aws_errors(environment, "continue CloudFormation's rollback (the queue is no longer consumed)"):
        if found.status == "UPDATE_ROLLBACK_FAILED":
            tap.say("continuing CloudFormation's own rollback")
            client.continue_update_rollback(StackName=environment.stack)
        elif found.status == "UPDATE_IN_PROGRESS":
            tap.say("cancelling the update that is under way")
            try:
                client.cancel_update_stack(StackName=environment.stack)
            except ClientError:
                tap.say("it cannot be cancelled any more: waiting for its end")
    now = at_rest(environment, say=tap.say, look=lambda: tap.close(stack.require(environment)))
    tap.close(now)
    if now.healthy and "QueueUrl" in now.outputs:
        return now
    if now.status == "UPDATE_ROLLBACK_FAILED":
        raise _stuck(environment, now)
    delete = f"aws cloudformation delete-stack --stack-name {environment.stack} --region {environment.region}"
    raise Refused(
        f"{environment.name}: there is nothing to roll back, the stack is {now.status}",
        reason=now.reason or "it was never completely made; nothing consumes a queue",
        next_step=f"{delete} (stores are retained), then pik deploy --env {environment.name} --phase ingest",
    )


def _stuck(environment: Environment, found: Stack) -> AwsError:
    events = stack.events(environment, found.updated)
    failed = list(dict.fromkeys(event.resource for event in events if event.failed))
    skip = " ".join(name for name in failed if name != environment.stack)
    return AwsError(
        f"{environment.name}: the queue is no longer consumed, but CloudFormation cannot move: {found.status}",
        reason=found.reason or f"failed: {skip or 'it does not say what'}",
        next_step=f"mend what its events say, or skip it: aws cloudformation continue-update-rollback --stack-name "
        f"{environment.stack} --region {environment.region} --resources-to-skip {skip or 'LOGICAL_ID'}; then pik "
        f"rollback --env {environment.name} again. Nothing is lost meanwhile",
    )


def _converge(environment: Environment, found: Stack, target: phases.Phase, say: Say) -> None:
    try:
        converge(environment, found, {**target.parameters, "Canary": "false"}, say)
    except AwsError as error:
        raise AwsError(
            f"{error.message}; the queue is no longer consumed",
            reason=error.reason,
            next_step=f"pik rollback --env {environment.name} again; nothing is lost meanwhile",
        ) from error
