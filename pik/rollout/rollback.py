"""Take an environment back to a lower phase: the tap first (seconds), then the stack, then the proof.

The stack converges on the template and the code that are *deployed* (``UsePreviousTemplate``), with the toggles
changed: going back never ships what happens to lie in somebody's checkout, and needs neither a build nor ``sam``.
It is allowed from every state and asks for no evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from pik.environments import Environment
from pik.errors import AwsError, Refused, UsageError
from pik.rollout import mapping, phases, records, stack
from pik.rollout.guard import guard
from pik.rollout.inventory import Difference, Inventory, inventory, messages, queue_counts
from pik.rollout.stack import Say, Stack, aws_errors, silent

TARGETS = (phases.REPLAY.name, phases.INGEST.name)
CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
# Messages a running function holds come back to the queue or are done by then (function timeout, and slack).
DRAIN_SECONDS = 90.0


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
    started = time.monotonic()
    found = guard(environment).stack or stack.require(environment)
    target = phases.phase(to)
    previous = found.phase
    log = records.new(environment, "rollback")
    stopped_after = _stop(environment, found, started, say)
    if after_stop:
        after_stop()
    before = _inventory(environment)
    waiting = messages(environment, found.outputs["QueueUrl"])
    settled = _settle(environment, found, say)
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
        seconds=round(time.monotonic() - started, 2),
        stopped_after=round(stopped_after, 2),
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


def _stop(environment: Environment, found: Stack, started: float, say: Say) -> float:
    """Close the tap, wait for what is in flight; return the seconds until the last message was consumed."""
    if not mapping.find(environment, found.outputs):
        return 0.0
    mapping.switch(environment, found.outputs, on=False)
    stopped = time.monotonic() - started
    say(f"event source mapping disabled after {stopped:.1f} s")
    deadline = time.monotonic() + DRAIN_SECONDS
    queue = found.outputs["QueueUrl"]
    while queue_counts(environment, queue)["ApproximateNumberOfMessagesNotVisible"]:
        if time.monotonic() > deadline:
            say("messages are still in flight; they return to the queue when their visibility timeout ends")
            break
        time.sleep(0.2 if environment.embedded else 2.0)
        stopped = time.monotonic() - started
    return stopped


def _inventory(environment: Environment) -> Inventory | None:
    try:
        return inventory(environment)
    except Refused:
        return None  # too much to read: a rollback does not wait for that


def _settle(environment: Environment, found: Stack, say: Say, patience: float = 3600.0) -> Stack:
    """Wait until CloudFormation is at rest; let it finish its own rollback when that got stuck."""
    client = environment.client("cloudformation")
    deadline = time.monotonic() + patience
    with aws_errors(environment, "continue CloudFormation's rollback"):
        if found.status == "UPDATE_ROLLBACK_FAILED":
            say("continuing CloudFormation's own rollback")
            client.continue_update_rollback(StackName=environment.stack)
            found = stack.require(environment)
        elif found.status == "UPDATE_IN_PROGRESS":
            say("cancelling the update that is under way")
            try:
                client.cancel_update_stack(StackName=environment.stack)
            except ClientError:
                say("it cannot be cancelled any more: waiting for its end")
            found = stack.require(environment)
    while found.in_progress:
        if time.monotonic() > deadline:
            raise _stuck(environment, found)
        time.sleep(0.5 if environment.embedded else 5.0)
        found = stack.require(environment)
    return found


def _stuck(environment: Environment, found: Stack) -> AwsError:
    return AwsError(
        f"{environment.name}: the queue is no longer consumed, but the stack is {found.status}",
        reason=found.reason or "CloudFormation did not finish",
        next_step=f"pik rollback --env {environment.name} again once it is at rest; nothing is lost meanwhile",
    )


def _converge(environment: Environment, found: Stack, target: phases.Phase, say: Say) -> None:
    follow = stack.Follower(environment, say)
    parameters = [
        {"ParameterKey": key, "ParameterValue": target.parameters[key]}
        if key in target.parameters
        else {"ParameterKey": key, "UsePreviousValue": True}
        for key in found.parameters
    ]
    with aws_errors(environment, "update the stack (the queue is no longer consumed)"):
        environment.client("cloudformation").update_stack(
            StackName=environment.stack,
            UsePreviousTemplate=True,
            Parameters=parameters,
            Capabilities=CAPABILITIES,
        )
        while (now := stack.require(environment)).in_progress:
            follow()
            time.sleep(0.3 if environment.embedded else 3.0)
        follow()
    if now.phase.number > target.number or not now.healthy or now.status == "UPDATE_ROLLBACK_COMPLETE":
        failure = follow.failure()
        raise AwsError(
            f"{environment.name}: the queue is no longer consumed, but the stack is {now.status}",
            reason=failure.reason if failure else now.reason,
            next_step=f"pik rollback --env {environment.name} again; nothing is lost meanwhile",
        )
