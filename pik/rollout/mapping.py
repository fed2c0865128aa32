"""The processor's event source mapping: the tap between the queue and the processor. Closing it takes seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass

from pik.environments import Environment
from pik.errors import AwsError
from pik.rollout.stack import Say, Stack, aws_errors


@dataclass(frozen=True)
class Mapping:
    """One event source mapping of the stack's queue."""

    uuid: str
    state: str
    function: str


def find(environment: Environment, outputs: dict[str, str]) -> list[Mapping]:
    """Return the mappings that read the stack's queue, whoever made them."""
    queue = outputs.get("QueueArn")
    if not queue:
        return []
    with aws_errors(environment, "read the event source mappings"):
        pages = environment.client("lambda").get_paginator("list_event_source_mappings")
        found = [item for page in pages.paginate(EventSourceArn=queue) for item in page["EventSourceMappings"]]
    return [Mapping(m["UUID"], m["State"], m["FunctionArn"].rpartition(":")[2]) for m in found]


def switch(environment: Environment, outputs: dict[str, str], *, on: bool, patience: float = 120.0) -> float:
    """Enable or disable every mapping of the queue and wait until AWS says so; return the seconds it took.

    Raises AwsError when a mapping has not reached the state after ``patience`` seconds.
    """
    started = time.monotonic()
    wanted = "Enabled" if on else "Disabled"
    client = environment.client("lambda")
    asked: set[str] = set()
    while True:
        waiting = [found for found in find(environment, outputs) if found.state != wanted]
        if not waiting:
            return time.monotonic() - started
        for tap in waiting:
            # AWS refuses an update while an earlier one (Creating, Enabling, Disabling) is under way.
            if tap.uuid not in asked and tap.state in {"Enabled", "Disabled"}:
                with aws_errors(environment, "switch the event source mapping"):
                    client.update_event_source_mapping(UUID=tap.uuid, Enabled=on)
                asked.add(tap.uuid)
        if time.monotonic() - started > patience:
            raise AwsError(
                f"{environment.name}: the event source mapping is still {waiting[0].state}",
                reason=f"waited {patience:.0f} s for {wanted}",
                next_step="run the same command again",
            )
        time.sleep(0.1 if environment.embedded else 2.0)


def as_declared(environment: Environment, found: Stack, say: Say) -> bool:
    """Open the mapping when the phase wants it open and something (a rollback) closed it; return whether it did."""
    if not found.phase.processor or found.parameters.get("DryRun") == "true":
        return False
    if all(one.state == "Enabled" for one in find(environment, found.outputs)):
        return False
    seconds = switch(environment, found.outputs, on=True)
    say(f"event source mapping enabled again ({seconds:.1f} s)")
    return True
