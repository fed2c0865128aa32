"""Move a stack by its parameters alone: the template and the code stay those that are deployed.

That is how a promotion and a rollback work: neither ships what happens to lie in somebody's checkout, and neither needs
a build or ``sam``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from botocore.exceptions import BotoCoreError, ClientError

from pik.aws import stack
from pik.aws.retry import patiently, transient
from pik.aws.stack import Say, Stack, aws_errors
from pik.environments import Environment
from pik.errors import AwsError, PikError

CAPABILITIES = ["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"]
SETTING_OUT = 30.0  # seconds until a request that CloudFormation accepted shows in the stack's status
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
    token = str(uuid4())  # by which CloudFormation knows a request that is sent again
    with aws_errors(environment, "update the stack"):
        try:
            patiently(
                environment,
                lambda: environment.client("cloudformation").update_stack(
                    StackName=environment.stack,
                    **source,
                    Parameters=wanted,
                    Capabilities=CAPABILITIES,
                    ClientRequestToken=token,
                ),
                say=say,
            )
        except ClientError as error:
            if _NOTHING_TO_DO not in str(error):
                raise
            return found
        now = _settled(environment, found, say, follow)
    _looked(follow)
    there = all(now.parameters.get(key) == value for key, value in parameters.items() if key in found.parameters)
    if not there or not now.healthy or now.status == "UPDATE_ROLLBACK_COMPLETE":
        failure = follow.failure()
        raise AwsError(
            f"{environment.name}: CloudFormation did not complete the update; the stack is {now.status}",
            reason=f"{failure.resource}: {failure.reason}" if failure else now.reason,
            next_step=f"pik status --env {environment.name}",
        )
    return now


def _settled(environment: Environment, found: Stack, say: Say, look: Callable[[], None]) -> Stack:
    """Wait for the end of the update that was accepted a moment ago, also when it does not show at once."""
    began = time.monotonic()
    while True:
        now = at_rest(environment, say=say, look=look)
        shows = (now.status, now.updated, now.parameters) != (found.status, found.updated, found.parameters)
        if shows or time.monotonic() - began > SETTING_OUT:
            return now
        time.sleep(0.3 if environment.embedded else 3.0)


def at_rest(
    environment: Environment,
    *,
    say: Say = stack.silent,
    look: Callable[[], None] = lambda: None,
    patience: float = 3600.0,
    leaving: str = "",
) -> Stack:
    """Wait until CloudFormation is not at work on the stack; call ``look`` meanwhile, as far as AWS answers.

    ``leaving``: the status that a request made a moment ago makes the stack leave: such a request is only accepted, and
    the stack may go on showing it for a while (:data:`SETTING_OUT` seconds are waited).
    Raises AwsError after ``patience`` seconds, or when AWS has not answered for :data:`pik.aws.retry.SILENCE`.
    """
    began, reported = time.monotonic(), ""
    while True:
        now = patiently(environment, lambda: stack.require(environment), say=say)
        elapsed = time.monotonic() - began
        if not now.in_progress and (now.status != leaving or elapsed > SETTING_OUT):
            return now
        if now.status != reported:
            say(f"{environment.stack} is {now.status}")
            reported = now.status
        leaving = leaving if now.status == leaving else ""
        if elapsed > patience:
            raise AwsError(
                f"{environment.name}: the stack is {now.status}",
                reason=now.reason or f"waited {patience:.0f} s",
                next_step=f"pik status --env {environment.name}",
            )
        _looked(look)
        time.sleep(0.3 if environment.embedded else 3.0)


def _looked(look: Callable[[], None]) -> None:
    """Look, and let a throttled or lost answer pass: the next look is seconds away."""
    try:
        look()
    except (PikError, ClientError, BotoCoreError) as error:
        if not transient(error):
            raise
