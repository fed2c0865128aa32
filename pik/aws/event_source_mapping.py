"""The processor's event source mapping: it reads the queue for the processor. Disabling it takes seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from botocore.exceptions import ClientError

from pik.aws.retry import transient
from pik.aws.stack import Say, Stack, aws_errors
from pik.environments import Environment
from pik.errors import AwsError

# Lambda refuses a change while an earlier one is under way.
# https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html#API_UpdateEventSourceMapping_Errors
_BUSY = frozenset({"ResourceInUseException", "ResourceConflictException"})
_GONE = "ResourceNotFoundException"


@dataclass(frozen=True)
class EventSourceMapping:
    """One event source mapping of the stack's queue."""

    uuid: str
    state: str
    function: str


def find(environment: Environment, outputs: dict[str, str]) -> list[EventSourceMapping]:
    """Return the mappings that read the stack's queue, whoever made them."""
    queue = outputs.get("QueueArn")
    if not queue:
        return []
    with aws_errors(environment, "read the event source mappings"):
        pages = environment.client("lambda").get_paginator("list_event_source_mappings")
        found = [item for page in pages.paginate(EventSourceArn=queue) for item in page["EventSourceMappings"]]
    return [EventSourceMapping(m["UUID"], m["State"], m["FunctionArn"].rpartition(":")[2]) for m in found]


def switch(environment: Environment, outputs: dict[str, str], *, on: bool, patience: float = 120.0) -> float:
    """Enable or disable every mapping of the queue and wait until AWS says so; return the seconds it took.

    Asks again when a mapping is back in the other state: an update of the stack may have enabled it meanwhile. A
    throttled or lost answer, and Lambda being busy with an earlier change, are tried again; a mapping that is gone
    reads nothing.

    Raises:
        AwsError: a mapping has not reached the state after ``patience`` seconds, or AWS refused.
    """
    started, problem, state = time.monotonic(), "", "unknown"
    wanted, other = ("Enabled", "Disabled") if on else ("Disabled", "Enabled")
    gone: set[str] = set()
    while True:
        try:
            waiting = [one for one in find(environment, outputs) if one.state != wanted and one.uuid not in gone]
            if not waiting:
                return time.monotonic() - started
            state = waiting[0].state
            gone |= {one.uuid for one in waiting if one.state == other and not _request(environment, one, on)}
        except AwsError as error:
            if not transient(error):
                raise
            problem = f"; {error.reason}"
        if time.monotonic() - started > patience:
            raise AwsError(
                f"{environment.name}: the event source mapping is still {state}",
                reason=f"waited {patience:.0f} s for {wanted}{problem}",
                next_step="run the same command again",
            )
        time.sleep(0.1 if environment.embedded else 2.0)


def _request(environment: Environment, one: EventSourceMapping, on: bool) -> bool:
    """Ask for the other state; return False when the mapping is not there any more, and was to be disabled."""
    with aws_errors(environment, "switch the event source mapping"):
        try:
            environment.client("lambda").update_event_source_mapping(UUID=one.uuid, Enabled=on)
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code == _GONE and not on:
                return False
            if code not in _BUSY:
                raise
    return True


def as_declared(environment: Environment, found: Stack, say: Say) -> bool:
    """Enable the mapping when the phase wants it and something (a rollback) disabled it; return whether it did."""
    if not found.phase.processor or found.parameters.get("DryRun") == "true":
        return False
    if all(one.state == "Enabled" for one in find(environment, found.outputs)):
        return False
    seconds = switch(environment, found.outputs, on=True)
    say(f"event source mapping enabled again ({seconds:.1f} s)")
    return True
