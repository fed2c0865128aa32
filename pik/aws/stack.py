"""What CloudFormation says about an environment's stack: state, parameters, digests, events, history."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik import clock, phases
from pik.aws import artifact, template
from pik.aws.artifact import Digests
from pik.environments import Environment, as_aws_error
from pik.errors import AwsError, NotDeployed

Say = Callable[[str], None]


# What can be updated as it is; an import of resources ends in a state of its own.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
HEALTHY = frozenset(
    {
        *("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE"),
        *("IMPORT_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"),
    }
)


def silent(_: str) -> None:
    """Report nothing; the default of every ``on_progress``."""


@dataclass(frozen=True)
class Stack:
    """One stack as CloudFormation describes it."""

    name: str
    status: str
    reason: str
    updated: datetime
    parameters: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, str] = field(default_factory=dict)
    id: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    protected: bool = False  # against its deletion

    @property
    def phase(self) -> phases.Phase:
        """The phase its parameters make."""
        return phases.deployed_phase(self.parameters)

    @property
    def canary(self) -> bool:
        """Whether the processor is on as a canary: a promotion is being watched, or was left in the middle."""
        return self.phase.processor and self.parameters.get("Canary") == "true"

    @property
    def in_progress(self) -> bool:
        """Whether CloudFormation is at work on it."""
        return self.status.endswith("_IN_PROGRESS")

    @property
    def healthy(self) -> bool:
        """Whether it can be updated as it is."""
        return self.status in HEALTHY


@dataclass(frozen=True)
class StackEvent:
    """One thing that happened to one resource."""

    id: str
    time: datetime
    resource: str
    type: str
    status: str
    reason: str

    @property
    def failed(self) -> bool:
        """Whether it is a failure of its own, not the consequence of another resource's."""
        return self.status.endswith("_FAILED") and "cancelled" not in self.reason.lower()

    def __str__(self) -> str:
        return f"{self.resource} {self.status.lower().replace('_', ' ')}"


@contextmanager
def aws_errors(environment: Environment, doing: str) -> Iterator[None]:
    """Turn what botocore raises into an AwsError that says what was being done."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        known = as_aws_error(error)
        raise AwsError(
            f"{environment.name}: could not {doing}",
            reason=f"{known.message}: {known.reason}",
            next_step=known.next_step or f"pik status --env {environment.name}",
        ) from error


def read(environment: Environment) -> Stack | None:
    """Return the environment's stack, or None when there is none."""
    with aws_errors(environment, f"read the stack {environment.stack}"):
        try:
            found = environment.client("cloudformation").describe_stacks(StackName=environment.stack)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in str(error):
                return None
            raise
    if found["StackStatus"] in {"DELETE_COMPLETE", "REVIEW_IN_PROGRESS"}:
        return None
    return Stack(
        name=found["StackName"],
        status=found["StackStatus"],
        reason=found.get("StackStatusReason", ""),
        updated=found.get("LastUpdatedTime") or found["CreationTime"],
        parameters={p["ParameterKey"]: p.get("ParameterValue", "") for p in found.get("Parameters", [])},
        outputs={o["OutputKey"]: o["OutputValue"] for o in found.get("Outputs", [])},
        id=found.get("StackId", ""),
        tags={tag["Key"]: tag["Value"] for tag in found.get("Tags", [])},
        protected=bool(found.get("EnableTerminationProtection")),
    )


def resources(environment: Environment) -> dict[str, str]:
    """Return the physical id of every resource of the environment's stack by its logical id."""
    return {name: found for name, (_, found) in typed_resources(environment).items()}


def typed_resources(environment: Environment) -> dict[str, tuple[str, str]]:
    """Return the type and the physical id of every resource of the environment's stack by its logical id."""
    with aws_errors(environment, f"list the resources of {environment.stack}"):
        pages = environment.client("cloudformation").get_paginator("list_stack_resources")
        return {
            item["LogicalResourceId"]: (item["ResourceType"], item.get("PhysicalResourceId", ""))
            for page in pages.paginate(StackName=environment.stack)
            for item in page["StackResourceSummaries"]
            if item["ResourceStatus"] != "DELETE_COMPLETE"
        }


def require(environment: Environment) -> Stack:
    """Return the environment's stack; raise NotDeployed when there is none."""
    found = read(environment)
    if found is None:
        raise NotDeployed(
            f"{environment.name}: no stack {environment.stack} in {environment.region}",
            next_step=f"pik deploy --env {environment.name} --phase ingest",
        )
    return found


def deployed(environment: Environment) -> dict[str, Any]:
    """Return the template that is deployed, parsed (:func:`pik.aws.template.parse`)."""
    with aws_errors(environment, f"read the template of {environment.stack}"):
        answer = environment.client("cloudformation").get_template(
            StackName=environment.stack, TemplateStage="Original"
        )
    return template.parse(answer["TemplateBody"])


def digests(environment: Environment) -> Digests:
    """Return the digests of what is deployed, computed from the deployed template."""
    return artifact.digests(deployed(environment))


def events(environment: Environment, since: datetime) -> list[StackEvent]:
    """Return the stack's events since a moment, oldest first; none when the stack is not there yet."""
    found: list[StackEvent] = []
    pages = environment.client("cloudformation").get_paginator("describe_stack_events")
    try:
        for page in pages.paginate(StackName=environment.stack):
            for item in page["StackEvents"]:
                event = StackEvent(
                    id=item["EventId"],
                    time=item["Timestamp"],
                    resource=item.get("LogicalResourceId", ""),
                    type=item.get("ResourceType", ""),
                    status=item.get("ResourceStatus", ""),
                    reason=item.get("ResourceStatusReason", ""),
                )
                if event.time < since:
                    return found[::-1]
                found.append(event)
    except ClientError as error:
        if "does not exist" not in str(error):
            raise
    return found[::-1]


class Follower:
    """Reports each new stack event once: ``follow = Follower(environment, say); follow()`` as often as you like."""

    def __init__(self, environment: Environment, say: Say) -> None:
        self.environment = environment
        self.say = say
        # By AWS's clock, which dates the events, in whole seconds: one of the very second we start in is ours.
        self.since = _now(environment).replace(microsecond=0)
        self.seen: dict[str, StackEvent] = {}
        self.silent = False

    def __call__(self) -> None:
        """Look for new events and report the ones a person would want to see.

        To look is all that this does: when AWS refuses or does not answer, what is being watched goes on.
        """
        try:
            found = events(self.environment, self.since)
        except (ClientError, BotoCoreError) as error:
            if not self.silent:
                self.say(f"cannot look at the stack's events now, going on: {error}")
            self.silent = True
            return
        self.silent = False
        for event in found:
            if event.id in self.seen:
                continue
            self.seen[event.id] = event
            if event.failed or self._is_news(event):
                self.say(str(event))

    def _is_news(self, event: StackEvent) -> bool:
        if event.resource == self.environment.stack or not event.status.endswith("_COMPLETE"):
            return False
        # The embedded CloudFormation reports every resource as updated, AWS only those that changed.
        return not (self.environment.embedded and event.status == "UPDATE_COMPLETE")

    def failure(self) -> StackEvent | None:
        """Return the first failure seen that is not the consequence of another, or None."""
        failures = [event for event in self.seen.values() if event.failed]
        of_resources = [event for event in failures if event.resource != self.environment.stack]
        return next(iter(of_resources or failures), None)


def _now(environment: Environment) -> datetime:
    try:
        return clock.now(environment)
    except (ClientError, BotoCoreError):
        return datetime.now(UTC)


@dataclass(frozen=True)
class Since:
    """Since when the stack is in its phase, and who brought it there, as the phase parameter's history tells."""

    time: datetime
    who: str


def phase_since(environment: Environment, stack: Stack) -> Since | None:
    """Return since when and by whom the stack is in its phase, or None when its history cannot be read."""
    name = stack.outputs.get("RolloutParameter")
    if not name:
        return None
    pages = environment.client("ssm").get_paginator("get_parameter_history")
    try:
        history = [entry for page in pages.paginate(Name=name) for entry in page["Parameters"]]
    except (ClientError, BotoCoreError):
        return None  # a viewer may not be allowed to read it: status still answers
    if not history:
        return None
    history.sort(key=lambda entry: entry["Version"])
    first = history[-1]
    for entry in reversed(history):
        if entry["Value"] != first["Value"]:
            break
        first = entry
    return Since(first["LastModifiedDate"], re.split("[/:]", first.get("LastModifiedUser", ""))[-1] or "unknown")
