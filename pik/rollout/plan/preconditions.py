"""What a deploy may do and which parameters it sets: forwards, one phase at a time, on a stack that is at rest.

Where an environment is guarded, a deploy raises no phase at all: that is a promotion, with evidence.
"""

from __future__ import annotations

from collections.abc import Mapping

from pik import phases
from pik.aws.stack import Stack
from pik.config import BUILT_IN, LONGEST_STACK
from pik.environments import Environment
from pik.errors import Refused, UsageError
from pik.rollout.plan import sam

TOGGLES = ("EnableReplay", "EnableProcessor", "Environment", "Platform", "Canary")


def refuse_unless_forward(
    environment: Environment, target: phases.Phase, before: Stack | None, *, promotes: bool = False
) -> None:
    """Raise Refused when the phase is a step back, skips one where that is a risk, or the stack is not at rest.

    ``promotes``: it is what is deployed whose phase would be raised.
    """
    name = environment.name
    now = before.phase if before else phases.OFF
    if before is None and len(environment.stack) > LONGEST_STACK:
        raise UsageError(
            f"the stack's name {environment.stack} has {len(environment.stack)} characters, at most {LONGEST_STACK}",
            reason="CloudFormation cuts a longer one in names of functions and roles, and policies do not meet those",
            next_step=f'a shorter one in pik.toml: stack = "…" below [environments.{name}]',
        )
    if target.number < now.number:
        raise Refused(
            f"{name} is at phase {now.label}; {target.label} is a step back",
            reason="a step back must stop the event source mapping first, which a deploy does not",
            next_step=f"pik rollback --env {name} --to {target.name}",
        )
    # Where everybody may deploy as they like, skipping a phase is a convenience.
    if target.number > now.number + 1 and environment.config.protection != "open":
        step = phases.PHASES[now.number + 1]
        first = f"pik deploy --env {name} --phase {step.name}"
        raise Refused(
            f"{name} is at phase {now.label}; {target.label} would skip {step.label}",
            reason=f"before it: {'; '.join(step.proof)}",
            next_step=first if now is phases.OFF else f"pik promote --env {name} --to {step.name}",
        )
    if before:
        refuse_unless_ready(environment, before)
    if before and before.canary and not promotes and environment.config.protection != "open":
        raise Refused(
            f"a promotion of {name} is not finished: the processor is on as a canary",
            reason="a deploy does not watch it",
            next_step=f"watch it to its end:\npik promote --env {name} --to {now.name}\n"
            f"or roll it back:\npik rollback --env {name}",
        )
    if before and not promotes and target.number > now.number and environment.config.protection != "open":
        raise Refused(
            f"{name} is {environment.config.protection}: a deploy does not raise its phase",
            reason="the phase is raised for what is deployed and was verified, not for what lies in a checkout",
            next_step=f"pik promote --env {name} --to {target.name}",
        )


def refuse_unless_ready(environment: Environment, found: Stack) -> None:
    """Raise Refused when CloudFormation is at work on the stack, or has left it where it cannot be updated."""
    if found.in_progress:
        raise Refused(
            f"{environment.stack} is {found.status}",
            reason="CloudFormation is at work on it; one change at a time",
            next_step=f"wait until this no longer says so, then again:\npik status --env {environment.name}",
        )
    if not found.healthy:
        raise Refused(
            f"{environment.stack} is {found.status}",
            reason=found.reason or "a stack in this state cannot be updated",
            next_step=f"{way_out(environment, found)}, then again",
        )


def way_out(environment: Environment, found: Stack) -> str:
    """Return the command (the first line) that helps a stack out of a state in which it cannot be updated.

    Only a stack whose creation failed, or whose deletion did, is deleted: its stores are retained. What failed to
    update is rolled back.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html
    """
    name = f"--stack-name {environment.stack} --region {environment.region}"
    if found.status in ("UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED"):
        return f"pik rollback --env {environment.name}"
    if found.status in ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED"):
        return f"aws cloudformation delete-stack {name}\na store that holds anything is retained"
    return f"aws cloudformation describe-stack-events {name}\nsays what failed; mend that"


def wanted(
    environment: Environment,
    target: phases.Phase,
    before: Stack | None,
    dry_run: bool | None,
    parameters: Mapping[str, str],
) -> dict[str, str]:
    """Return the parameters to set; those not among them keep the value that the stack has.

    Raises:
        UsageError: ``parameters`` names one that the environment and the phase decide about.
    """
    for name in TOGGLES:
        if name in parameters:
            raise UsageError(f"{name} is set by the environment and the phase", next_step="leave it out")
    found = {} if before else sam.configured_parameters(environment)
    # The template protects the tables of every environment that it does not know; one to play with is told otherwise.
    playground = environment.name not in BUILT_IN and environment.config.protection == "open"
    if playground and not before:
        found["DeletionProtection"] = "false"
    # Deletion protection comes in a second step after the first deploy: where that was interrupted, it comes now.
    if before and before.parameters.get("DeletionProtection") == "false" and not playground:
        found["DeletionProtection"] = "true"
    found |= parameters
    if dry_run is not None:
        found["DryRun"] = "true" if dry_run else "false"
    if before and before.canary:
        found["Canary"] = "false"  # where everybody may deploy as they like, this ends a promotion left in the middle
    platform = {"Platform": "embedded"} if environment.embedded and environment.name != "local" else {}
    return found | target.parameters | platform | {"Environment": environment.name}
