"""Take an environment back to a lower phase: stop consumption first (seconds), then the stack, then the proof.

The stack converges on the template and the code that are *deployed* (``UsePreviousTemplate``), with the toggles
changed: going back never ships what happens to lie in somebody's checkout, and needs neither a build nor ``sam``.
It is allowed from every state and asks for no evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik import phases
from pik.aws import event_source_mapping, stack
from pik.aws.guard import guard
from pik.aws.queues import messages, queue_counts
from pik.aws.retry import FIRST, patiently
from pik.aws.stack import Say, Stack, aws_errors
from pik.environments import Environment
from pik.errors import AwsError, PikError, Refused, UsageError
from pik.ledger import Kind
from pik.rollout.checks import intact
from pik.rollout.checks.intact import Comparison
from pik.rollout.deploy.converge import at_rest, converge
from pik.rollout.gates.recording import record
from pik.rollout.plan import records
from pik.rollout.plan.preconditions import way_out
from pik.signals import ended_in_order, undisturbed, unfailing

TARGETS = (phases.REPLAY.name, phases.INGEST.name)
# How long is waited on the embedded AWS for what is in flight, and on AWS where the function's timeout cannot be read.
# What failed stays in flight until its visibility timeout ends, and nothing is consumed meanwhile: no use in waiting.
DRAIN_SECONDS = 35.0


@dataclass(frozen=True)
class Rollback:
    """What a rollback did and what it found.

    ``stopped_after``: seconds until nothing consumed the queue any more, counted on AWS as the function's timeout after
    the event source mapping was disabled; ``queue_before`` and ``queue_after``: messages in the queue (approximate on
    AWS: evidence, not a verdict); ``stores``: what became of each store.
    """

    changed: bool
    environment: str
    phase: str
    previous: str
    seconds: float
    stopped_after: float
    queue_before: int | None
    queue_after: int | None
    dead_letters: int | None
    stack_status: str
    mappings_left: int
    stores: tuple[Comparison, ...] = field(default=(), repr=False)
    log: str = ""
    recorded: str = ""

    @property
    def stores_intact(self) -> bool | None:
        """Whether every store is the same one with all that was sampled; None when that could not be looked at."""
        found = [one.intact for one in self.stores]
        if False in found:
            return False
        return True if found and None not in found else None

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        where = f"{self.environment} is at phase {phases.phase(self.phase).label}"
        if not self.changed and not self.stopped_after:
            return f"{where}; nothing to roll back"
        stores = {True: "every store is the same", False: "STORES CHANGED", None: "stores not compared"}
        before = f", before: {self.previous}" if self.changed else ""
        kept = "an unknown number of" if self.queue_after is None else f"{self.queue_after}"
        return (
            f"{where}{before}; consumption stopped after {self.stopped_after:.1f} s, "
            f"{kept} messages kept in the queue, {stores[self.stores_intact]} ({self.seconds:.1f} s)"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return it as one JSON-able object."""
        plain = {name: value for name, value in vars(self).items() if name != "stores"}
        stores = {one.store: one.as_dict() for one in self.stores}
        return {**plain, "stores_intact": self.stores_intact, "stores": stores}


def rollback(
    environment: Environment,
    to: str = "replay",
    *,
    on_progress: Say | None = None,
    after_stop: Callable[[], None] | None = None,
) -> Rollback:
    """Take ``environment`` back to ``replay`` (processor off) or ``ingest`` (replay off as well).

    Disables the event source mapping first and waits until it is; nothing in a store is touched. When the environment
    is at that phase or below already, a mapping that should not be enabled is still disabled, and nothing else happens.
    ``after_stop`` is called once nothing is consumed any more (a rehearsal sends its messages there).
    Raises NotDeployed without a stack, AwsError when CloudFormation gives up (consumption stays stopped).

    >>> rollback(environment("local")).sentence                    # doctest: +SKIP
    'local is at phase 2 replay, before: processor; consumption stopped after 0.3 s, 120 messages kept …'
    """
    if to not in TARGETS:
        raise UsageError(f"cannot roll back to {to}", next_step=f"one of {', '.join(TARGETS)}")
    with ended_in_order():
        return _recorded(environment, to, unfailing(on_progress), after_stop)


def _recorded(environment: Environment, to: str, say: Say, after_stop: Callable[[], None] | None) -> Rollback:
    consumption = Consumption(environment, say)
    place = patiently(environment, lambda: guard(environment), say=say, silence=FIRST)
    found = place.stack or stack.require(environment)  # nothing deployed: it says so
    try:
        done = _roll_back(environment, found, phases.phase(to), consumption, after_stop)
    except (PikError, KeyboardInterrupt) as error:
        why = getattr(
            error, "message", f"interrupted; to finish the rollback, run pik rollback --env {environment.name} again"
        )
        with undisturbed():
            failed = f"not completed: {why}"
            say(str(record(environment, Kind.ROLLBACK, failed, place=place, phase=to, state="failed")))
        if isinstance(error, KeyboardInterrupt):
            say(f"{why}. {consumption.report}")
        raise
    if not done.changed and not done.stopped_after:
        return done  # nothing was done; a record would only make evidence look older than it is
    facts = {name: value for name, value in done.as_dict().items() if name not in ("phase", "log", "recorded")}
    with undisturbed():
        what: dict[str, Any] = {"phase": done.phase, "state": "done", "facts": facts}
        recorded = record(environment, Kind.ROLLBACK, done.sentence, place=place, **what)
    say(str(recorded))
    return replace(done, recorded=str(recorded))


def _roll_back(
    environment: Environment,
    found: Stack,
    target: phases.Phase,
    consumption: Consumption,
    after_stop: Callable[[], None] | None,
) -> Rollback:
    say, previous = consumption.say, found.phase
    log = records.new(environment, "rollback")
    consumption.stop(found)
    if after_stop:
        after_stop()
    settled = _settle(environment, found, consumption)
    before = intact.stores(environment, settled)
    waiting = _messages(environment, settled, "QueueUrl")
    changed = settled.phase.number > target.number
    if changed:
        say(f"CloudFormation takes {environment.stack} to phase {target.label}")
        _converge(environment, settled, target, consumption)
    after = patiently(environment, lambda: stack.require(environment), say=say)
    left = patiently(environment, lambda: event_source_mapping.find(environment, after.outputs), say=say)
    if consumption.problem and any(one.state != "Disabled" for one in left):
        raise AwsError(
            f"{environment.name}: {consumption.state}",
            reason=f"the event source mapping is {left[0].state}: {consumption.problem}",
            next_step=f"aws lambda update-event-source-mapping --no-enabled --uuid {left[0].uuid} --region "
            f"{environment.region}\npik rollback --env {environment.name}",
        )
    done = Rollback(
        changed=changed,
        environment=environment.name,
        phase=after.phase.name,
        previous=previous.name,
        seconds=round(time.monotonic() - consumption.began, 2),
        stopped_after=round(consumption.stopped_after, 2),
        queue_before=waiting,
        queue_after=_messages(environment, after, "QueueUrl"),
        dead_letters=_messages(environment, after, "DeadLetterQueueUrl"),
        stack_status=after.status,
        mappings_left=len(left),
        stores=intact.compare(environment, before),
        log=str(log.with_suffix(".json")),
    )
    records.write(log, environment, "rollback", done.as_dict())
    return done


def _messages(environment: Environment, found: Stack, output: str) -> int | None:
    """Messages in a queue, None when AWS does not say: a rollback does not end for that."""
    try:
        return messages(environment, found.outputs[output])
    except (ClientError, BotoCoreError, KeyError):
        return None


class Consumption:
    """Disables each event source mapping of the queue when it appears, and knows when the last message was consumed.

    ``problem`` says why a mapping could not be disabled; the rollback goes on then, because CloudFormation removes it.
    """

    def __init__(self, environment: Environment, say: Say) -> None:
        self.environment = environment
        self.say = say
        self.began = time.monotonic()
        self.stopped_after = 0.0
        self.problem = ""

    @property
    def report(self) -> str:
        """The state of consumption after an interrupted rollback, as a sentence."""
        if not self.stopped_after:
            return "It is not known whether the queue is still consumed"
        return f"{self.state[0].upper()}{self.state[1:]}; nothing is lost meanwhile"

    @property
    def state(self) -> str:
        """Whether the queue is consumed, for messages."""
        return "the queue MAY STILL BE CONSUMED" if self.problem else "the queue is no longer consumed"

    def stop(self, found: Stack) -> None:
        """Disable what reads the queue and wait for what is being processed."""
        try:
            reading = patiently(
                self.environment, lambda: event_source_mapping.find(self.environment, found.outputs), say=self.say
            )
            if all(one.state == "Disabled" for one in reading) and (self.stopped_after or not reading):
                return
            # Also when somebody else has disabled it, perhaps just now: what it had received is still processed.
            event_source_mapping.switch(self.environment, found.outputs, on=False)
        except AwsError as error:
            self.problem = f"{error.message}: {error.reason}"
            self.say(
                f"could not disable the event source mapping, going on: CloudFormation removes it ({self.problem})"
            )
            return
        self.problem = ""
        self.stopped_after = self._elapsed()
        self.say(f"event source mapping disabled after {self.stopped_after:.1f} s")
        if self.environment.embedded:
            self._drain(found)
        else:
            self._wait(found)

    def _wait(self, found: Stack) -> None:
        """Wait until the last invocation that began before the mapping was disabled has ended, or timed out."""
        seconds = self._timeout(found)
        self.say(f"waiting {seconds:.0f} s (the function's timeout) until the messages in progress are processed")
        time.sleep(seconds)
        self.stopped_after = self._elapsed()

    def _timeout(self, found: Stack) -> float:
        name = found.outputs.get("ProcessorFunction")
        try:
            answer = self.environment.client("lambda").get_function_configuration(FunctionName=name) if name else {}
        except (ClientError, BotoCoreError):
            return DRAIN_SECONDS
        return float(answer.get("Timeout", DRAIN_SECONDS))

    def _drain(self, found: Stack) -> None:
        """Wait for what is in flight, which the embedded AWS counts exactly."""
        deadline, queue = time.monotonic() + DRAIN_SECONDS, found.outputs["QueueUrl"]
        before = self._in_flight(queue)
        while before and (now := self._in_flight(queue)):
            if now < before:
                self.stopped_after = self._elapsed()
            if time.monotonic() > deadline:
                self.say(f"{now} messages failed; they return to the queue when their visibility timeout ends")
                return
            before = now
            time.sleep(0.2)
        if before:
            self.stopped_after = self._elapsed()

    def _in_flight(self, queue: str) -> int:
        counts = patiently(self.environment, lambda: queue_counts(self.environment, queue))
        return counts["ApproximateNumberOfMessagesNotVisible"]

    def _elapsed(self) -> float:
        return time.monotonic() - self.began


def _settle(environment: Environment, found: Stack, consumption: Consumption) -> Stack:
    """Wait until CloudFormation is at rest, and let it finish its own rollback when that got stuck.

    An update that is under way may be just about to make a mapping: whenever one turns up, it is disabled.
    """
    left = _set_going(environment, found, consumption)
    say = consumption.say
    now = at_rest(environment, say=say, look=lambda: consumption.stop(stack.require(environment)), leaving=left)
    consumption.stop(now)
    if now.healthy and "QueueUrl" in now.outputs:
        return now
    if now.status in ("UPDATE_ROLLBACK_FAILED", "UPDATE_FAILED"):
        raise _stuck(environment, now, consumption)
    raise Refused(
        f"{environment.name}: there is nothing to roll back, the stack is {now.status}",
        reason=now.reason or "the stack was never completely created, so nothing consumes a queue",
        next_step=f"{way_out(environment, now)}\nthen:\npik deploy --env {environment.name} --phase ingest",
    )


def _set_going(environment: Environment, found: Stack, consumption: Consumption) -> str:
    """Have CloudFormation go back to where it was; return the status that it leaves then, or nothing."""
    client, say = environment.client("cloudformation"), consumption.say
    status, name = found.status, environment.stack
    asks: dict[str, tuple[str, Callable[[], object]]] = {
        "UPDATE_ROLLBACK_FAILED": (
            "continuing CloudFormation's own rollback",
            lambda: client.continue_update_rollback(StackName=name),
        ),
        # A deploy that was told not to roll back.
        "UPDATE_FAILED": ("rolling the failed update back", lambda: client.rollback_stack(StackName=name)),
        "UPDATE_IN_PROGRESS": (
            "cancelling the update that is under way",
            lambda: client.cancel_update_stack(StackName=name),
        ),
    }
    if status not in asks:
        return ""
    doing, ask = asks[status]
    say(doing)
    with aws_errors(environment, f"have CloudFormation cancel or roll back its update ({consumption.state})"):
        try:
            patiently(environment, ask, say=say)
        except ClientError as error:
            # It has moved meanwhile, also because an answer was lost: what becomes of it is waited for.
            if error.response.get("Error", {}).get("Code") != "ValidationError":
                raise
            say(f"CloudFormation did not accept the request; waiting until its own operation ends: {error}")
    return "" if status == "UPDATE_IN_PROGRESS" else status


def _stuck(environment: Environment, found: Stack, consumption: Consumption) -> AwsError:
    events = patiently(environment, lambda: stack.events(environment, found.updated))
    failed = list(dict.fromkeys(event.resource for event in events if event.failed))
    skip = " ".join(name for name in failed if name != environment.stack)
    skipped = (
        f", or skip it:\naws cloudformation continue-update-rollback --stack-name {environment.stack} --region "
        f"{environment.region} --resources-to-skip {skip or 'LOGICAL_ID'}"
    )
    mend = "mend what its events say" + (skipped if found.status == "UPDATE_ROLLBACK_FAILED" else "")
    return AwsError(
        f"{environment.name}: {consumption.state}, but CloudFormation cannot move: {found.status}",
        reason=found.reason or f"failed: {skip or 'it does not say what'}",
        next_step=f"{mend}\nthen again, nothing is lost meanwhile:\npik rollback --env {environment.name}",
    )


def _converge(environment: Environment, found: Stack, target: phases.Phase, consumption: Consumption) -> None:
    try:
        converge(environment, found, {**target.parameters, "Canary": "false"}, consumption.say)
    except AwsError as error:
        raise AwsError(
            f"{error.message}; {consumption.state}",
            reason=error.reason,
            next_step=f"again, nothing is lost meanwhile:\npik rollback --env {environment.name}",
        ) from error
