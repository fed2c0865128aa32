"""What a failed first create left behind: its stores, retained although nothing is in them.

Templates of earlier versions retain every store, also when its stack never came about; and where CloudFormation could
not delete one, it stays with any template. Only stacks that never were complete are looked at, and only what holds
nothing is removed: what holds anything, or cannot be looked at, stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik.aws import stack
from pik.aws.guard import guard
from pik.aws.stack import Say, aws_errors, silent
from pik.environments import Environment
from pik.rollout.plan import records

_FAILED = ("CREATE_FAILED", "ROLLBACK_FAILED", "ROLLBACK_COMPLETE", "DELETE_FAILED", "DELETE_COMPLETE")
_LEFT = ("DELETE_SKIPPED", "DELETE_FAILED")
_LOOKS, _PAUSE = 3, 1.0  # a queue's counts are approximate: zero counts only when it lasts


@dataclass(frozen=True)
class Leftover:
    """One store of a stack that never was complete: what it is, and what was found in it.

    ``empty``: None when that could not be looked at; ``removed``: it is gone now.
    """

    stack_id: str
    name: str
    type: str
    id: str
    empty: bool | None
    found: str
    removed: bool = False

    def __str__(self) -> str:
        state = "removed" if self.removed else {True: "empty", False: "KEPT", None: "KEPT"}[self.empty]
        return f"{state:<8} {self.type:<22} {self.id}" + ("" if self.removed or self.empty else f"  ({self.found})")


def leftovers(environment: Environment) -> tuple[Leftover, ...]:
    """Return what failed creates of the environment's stack left behind, with what is in it. Reads only.

    CloudFormation knows deleted stacks for 90 days. Raises Refused when this is not that environment; AwsError.
    """
    guard(environment)
    with aws_errors(environment, "look for what a failed create left behind"):
        return tuple(_looked_at(environment, *one) for one in _left(environment))


def remove(environment: Environment, seen: tuple[Leftover, ...], say: Say = silent) -> tuple[Leftover, ...]:
    """Remove the empty ones of ``seen``, each after another look at it; return what became of each, which is recorded.

    Buckets are deleted by S3 only when they are empty; the tables' deletion protection is switched off before.
    """
    guard(environment)
    done = []
    for one in seen:
        found, what = _emptiness(environment, one.type, one.id)
        now = Leftover(one.stack_id, one.name, one.type, one.id, found, what)
        if one.empty and now.empty:
            now = _removed(environment, now)
        say(str(now))
        done.append(now)
    log = records.new(environment, "leftovers")
    records.write(log, environment, "leftovers", {"stores": [asdict(one) for one in done]})
    return tuple(done)


def _left(environment: Environment) -> Iterator[tuple[str, str, str, str]]:
    """Yield stack id, logical id, type and physical id of what stacks of this name left that never were complete."""
    client = environment.client("cloudformation")
    in_use = set(stack.resources(environment).values()) if stack.read(environment) else set()
    pages = client.get_paginator("list_stacks").paginate(StackStatusFilter=list(_FAILED))
    for found in (one for page in pages for one in page["StackSummaries"] if one["StackName"] == environment.stack):
        failed_now = found["StackStatus"] != "DELETE_COMPLETE"
        if not _never_complete(client, found["StackId"], environment.stack):
            continue
        for page in client.get_paginator("list_stack_resources").paginate(StackName=found["StackId"]):
            for one in page["StackResourceSummaries"]:
                physical = one.get("PhysicalResourceId", "")
                ours = physical and (failed_now or physical not in in_use)
                if ours and one["ResourceType"] in EMPTY and one["ResourceStatus"] in _LEFT:
                    yield found["StackId"], one["LogicalResourceId"], one["ResourceType"], physical


def _never_complete(client: Any, stack_id: str, name: str) -> bool:
    """Whether the stack's events show its creation from the beginning, that it failed, and nothing else.

    Events of long ago are no longer there: without the beginning there is no telling.
    """
    pages = client.get_paginator("describe_stack_events").paginate(StackName=stack_id)
    own = (one for page in pages for one in page["StackEvents"] if one.get("LogicalResourceId") == name)
    states = {str(one.get("ResourceStatus")) for one in own}
    failed = states & {"CREATE_FAILED", "ROLLBACK_IN_PROGRESS"}
    lived = {state for state in states if state == "CREATE_COMPLETE" or state.startswith(("UPDATE_", "IMPORT_"))}
    return "CREATE_IN_PROGRESS" in states and bool(failed) and not lived


def _looked_at(environment: Environment, stack_id: str, name: str, kind: str, physical: str) -> Leftover:
    empty, found = _emptiness(environment, kind, physical)
    return Leftover(stack_id, name, kind, physical, empty, found)


def _emptiness(environment: Environment, kind: str, physical: str) -> tuple[bool | None, str]:
    try:
        found = EMPTY[kind](environment, physical)
    except (ClientError, BotoCoreError) as error:
        return None, str(error)
    return not found, found or "nothing in it"


def _table(environment: Environment, name: str) -> str:
    found = environment.client("dynamodb").scan(TableName=name, Limit=1, ConsistentRead=True)
    return "items" if found["Count"] or found.get("LastEvaluatedKey") else ""


def _bucket(environment: Environment, name: str) -> str:
    found = environment.client("s3").list_object_versions(Bucket=name, MaxKeys=1)
    return "objects, or versions of them" if found.get("Versions") or found.get("DeleteMarkers") else ""


def _queue(environment: Environment, url: str) -> str:
    counts = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    for look in range(_LOOKS):
        if look:
            time.sleep(_PAUSE)
        found = environment.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=counts)["Attributes"]
        if any(int(found[name]) for name in counts):
            return "messages"
    return ""


def _log_group(environment: Environment, name: str) -> str:
    return "logs" if environment.client("logs").describe_log_streams(logGroupName=name, limit=1)["logStreams"] else ""


#: For each type of store, what is found in one: words, or nothing.
EMPTY: dict[str, Callable[[Environment, str], str]] = {
    "AWS::DynamoDB::Table": _table,
    "AWS::S3::Bucket": _bucket,
    "AWS::SQS::Queue": _queue,
    "AWS::Logs::LogGroup": _log_group,
}


def _removed(environment: Environment, one: Leftover) -> Leftover:
    try:
        _delete(environment, one)
    except (ClientError, BotoCoreError) as error:
        return Leftover(one.stack_id, one.name, one.type, one.id, None, str(error))
    return Leftover(one.stack_id, one.name, one.type, one.id, True, one.found, removed=True)


def _delete(environment: Environment, one: Leftover) -> None:
    if one.type == "AWS::DynamoDB::Table":
        client = environment.client("dynamodb")
        if client.describe_table(TableName=one.id)["Table"].get("DeletionProtectionEnabled"):
            client.update_table(TableName=one.id, DeletionProtectionEnabled=False)
        client.delete_table(TableName=one.id)
    elif one.type == "AWS::S3::Bucket":
        environment.client("s3").delete_bucket(Bucket=one.id)
    elif one.type == "AWS::SQS::Queue":
        environment.client("sqs").delete_queue(QueueUrl=one.id)
    else:
        environment.client("logs").delete_log_group(logGroupName=one.id)
