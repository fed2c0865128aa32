"""Move a stack by its parameters alone: the template and the code stay those that are deployed.

That is how a promotion and a rollback work: neither ships what happens to lie in somebody's checkout, and neither needs
a build or ``sam``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from pik.environments import Environment
from pik.errors import AwsError
from pik.rollout import stack
from pik.rollout.stack import Say, Stack, aws_errors

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
_NOTHING_TO_DO = "No updates are to be performed"


def converge(
    environment: Environment, found: Stack, parameters: Mapping[str, str], say: Say, *, template: str = ""
) -> Stack:
    """Set ``parameters`` on the stack, leave everything else as it is, wait for the end; return the stack then.

    ``template``: address of a template to go (back) to, with exactly these parameters. Otherwise those that the
    deployed template does not know are left out (a stack of an earlier version). Raises AwsError with the failing
    resource's reason when CloudFormation does not get there; it has put the stack back by then, or says why it could
    not.
    """
    follow = stack.Follower(environment, say)
    source: dict[str, Any] = {"TemplateURL": template} if template else {"UsePreviousTemplate": True}
    wanted = [
        {"ParameterKey": key, "ParameterValue": parameters[key]}
        if key in parameters
        else {"ParameterKey": key, "UsePreviousValue": True}
        for key in (parameters if template else found.parameters)
    ]
    with aws_errors(environment, "update the stack"):
        try:
            environment.client("cloudformation").update_stack(
                StackName=environment.stack,
                **source,
                Parameters=wanted,
                Capabilities=CAPABILITIES,
            )
        except ClientError as error:
            if _NOTHING_TO_DO not in str(error):
                raise
            return found
        now = at_rest(environment, say=say, look=follow)
    follow()
    there = all(now.parameters.get(key) == value for key, value in parameters.items() if key in found.parameters)
    if not there or not now.healthy or now.status == "UPDATE_ROLLBACK_COMPLETE":
        failure = follow.failure()
        raise AwsError(
            f"{environment.name}: CloudFormation did not get there; the stack is {now.status}",
            reason=f"{failure.resource}: {failure.reason}" if failure else now.reason,
            next_step=f"pik status --env {environment.name}",
        )
    return now


def at_rest(
    environment: Environment,
    *,
    say: Say = stack.silent,
    look: Callable[[], None] = lambda: None,
    patience: float = 3600.0,
) -> Stack:
    """Wait until CloudFormation is not at work on the stack; call ``look`` meanwhile. Raise AwsError in the end."""
    deadline = time.monotonic() + patience
    now = stack.require(environment)
    said = ""
    while now.in_progress:
        if now.status != said:
            say(f"{environment.stack} is {now.status}")
            said = now.status
        if time.monotonic() > deadline:
            raise AwsError(
                f"{environment.name}: the stack is {now.status}",
                reason=now.reason or f"waited {patience:.0f} s",
                next_step=f"pik status --env {environment.name}",
            )
        look()
        time.sleep(0.3 if environment.embedded else 3.0)
        now = stack.require(environment)
    return now
