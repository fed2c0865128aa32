"""Bring an environment to a phase: build, deploy, and say what changed. Only ever forwards; back is a rollback."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pik.environments import Environment
from pik.errors import AwsError, Refused, UsageError
from pik.rollout import mapping, phases, records, sam, stack
from pik.rollout.guard import guard
from pik.rollout.stack import Say, Stack, silent

# Where skipping a phase is a convenience and not a risk.
MAY_SKIP = ("local", "dev")
TOGGLES = ("EnableReplay", "EnableProcessor", "Environment", "Platform", "Canary")


@dataclass(frozen=True)
class Deployment:
    """What a deploy did: whether anything changed, from which phase to which, in how many seconds, and the digests."""

    changed: bool
    environment: str
    phase: str
    previous: str
    seconds: float
    stack_status: str
    template_digest: str
    code_digest: str
    parameters: dict[str, str]
    log: str

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        where = f"{self.environment} is at phase {phases.phase(self.phase).label}"
        if not self.changed:
            return f"{where}; nothing to change"
        came = "" if self.previous == self.phase else f", before: {self.previous}"
        return f"{where}{came} ({self.seconds:.1f} s)"


def deploy(
    environment: Environment,
    phase: str,
    *,
    dry_run: bool | None = None,
    parameters: Mapping[str, str] | None = None,
    on_progress: Say | None = None,
) -> Deployment:
    """Bring ``environment`` to ``phase`` with the sources at hand.

    ``dry_run``: the deployment setting, None keeps what is set. ``parameters``: other stack parameters to set; those
    not named keep the value they have. Doing it again changes nothing and says so.

    Raises Refused for a step down (that is a rollback) or a skipped phase outside local and dev, AwsError with the
    failing resource's reason when CloudFormation gives up.

    >>> deploy(environment("local"), "replay").sentence           # doctest: +SKIP
    'local is at phase 2 replay, before: ingest (8.1 s)'
    """
    say = on_progress or silent
    started = time.monotonic()
    target = phases.phase(phase)
    before = guard(environment).stack
    _refuse_unless_forward(environment, target, before)
    wanted = _wanted(environment, target, before, dry_run, parameters or {})
    log = records.new(environment, "deploy")
    changed = _converge(environment, wanted, before, log, say)
    after = stack.require(environment)
    changed |= _tap_as_declared(environment, after, say)
    digests = stack.digests(environment)
    deployment = Deployment(
        changed=changed,
        environment=environment.name,
        phase=target.name,
        previous=before.phase.name if before else phases.OFF.name,
        seconds=round(time.monotonic() - started, 2),
        stack_status=after.status,
        template_digest=digests.template,
        code_digest=digests.code,
        parameters=after.parameters,
        log=str(log),
    )
    records.write(log, environment, "deploy", asdict(deployment))
    return deployment


def _refuse_unless_forward(environment: Environment, target: phases.Phase, before: Stack | None) -> None:
    name = environment.name
    now = before.phase if before else phases.OFF
    if target.number < now.number:
        raise Refused(
            f"{name} is at phase {now.label}; {target.label} is a step back",
            reason="a step back must stop the event source mapping first, which a deploy does not",
            next_step=f"pik rollback --env {name} --to {target.name}",
        )
    if target.number > now.number + 1 and name not in MAY_SKIP:
        step = phases.PHASES[now.number + 1]
        raise Refused(
            f"{name} is at phase {now.label}; {target.label} would skip {step.label}",
            reason=f"before it: {'; '.join(step.proof)}",
            next_step=f"pik deploy --env {name} --phase {step.name}",
        )
    if before:
        refuse_unless_ready(environment, before)


def refuse_unless_ready(environment: Environment, found: Stack) -> None:
    """Raise Refused when CloudFormation is at work on the stack, or has left it where it cannot be updated."""
    if found.in_progress:
        raise Refused(
            f"{environment.stack} is {found.status}",
            reason="CloudFormation is at work on it; one change at a time",
            next_step=f"wait for `pik status --env {environment.name}` to say COMPLETE, then again",
        )
    if not found.healthy:
        delete = f"aws cloudformation delete-stack --stack-name {environment.stack} --region {environment.region}"
        stuck = found.status == "UPDATE_ROLLBACK_FAILED"
        fix = f"pik rollback --env {environment.name}" if stuck else f"{delete}, then again"
        raise Refused(
            f"{environment.stack} is {found.status}",
            reason=found.reason or "a stack in this state cannot be updated",
            next_step=fix,
        )


def _wanted(
    environment: Environment,
    target: phases.Phase,
    before: Stack | None,
    dry_run: bool | None,
    parameters: Mapping[str, str],
) -> dict[str, str]:
    for name in TOGGLES:
        if name in parameters:
            raise UsageError(f"{name} is set by the environment and the phase", next_step="leave it out")
    wanted = {} if before else sam.configured_parameters(environment)
    wanted |= parameters
    if dry_run is not None:
        wanted["DryRun"] = "true" if dry_run else "false"
    platform = {"Platform": "embedded"} if environment.embedded and environment.name != "local" else {}
    return wanted | target.parameters | platform | {"Environment": environment.name}


def _converge(environment: Environment, wanted: dict[str, str], before: Stack | None, log: Path, say: Say) -> bool:
    """Build and deploy; return whether the stack changed."""
    built = sam.build(environment, log, say)
    as_wanted = before and all(before.parameters.get(key) == value for key, value in wanted.items())
    if as_wanted and built.digests() == stack.digests(environment):
        return False
    say(f"sam deploy to {environment.stack}")
    follow = stack.Follower(environment, say)
    try:
        code = sam.run(environment, sam.deploy_arguments(environment, built, wanted), log, follow)
    except KeyboardInterrupt:
        say(_interrupted(environment))
        raise
    follow()
    if code != 0:
        raise _failure(environment, follow, log)
    after = stack.require(environment)
    return before is None or after.updated != before.updated


def _interrupted(environment: Environment) -> str:
    found = stack.read(environment)
    if found and found.in_progress:
        return (
            f"interrupted; CloudFormation goes on by itself: {found.status}. "
            f"`pik status --env {environment.name}` says how it ended"
        )
    return f"interrupted; the stack is {found.status if found else 'not there'}, CloudFormation is not at work"


def _failure(environment: Environment, follow: stack.Follower, log: Path) -> AwsError:
    event = follow.failure()
    found = stack.read(environment)
    state = f"the stack is {found.status}" if found else "there is no stack"
    if event:
        return AwsError(
            f"{environment.name}: {event.resource} ({event.type}) {event.status.lower().replace('_', ' ')}; {state}",
            reason=event.reason,
            next_step=f"mend it and deploy again; everything sam said: {log}",
        )
    return AwsError(
        f"{environment.name}: sam deploy failed; {state}",
        reason=sam.last_error(log),
        next_step=f"mend it and deploy again; everything sam said: {log}",
    )


def _tap_as_declared(environment: Environment, found: Stack, say: Say) -> bool:
    """Open the mapping when the phase wants it open and something (an interrupted rollback) closed it."""
    if not found.phase.processor or found.parameters.get("DryRun") == "true":
        return False
    if all(m.state == "Enabled" for m in mapping.find(environment, found.outputs)):
        return False
    seconds = mapping.switch(environment, found.outputs, on=True)
    say(f"event source mapping enabled again ({seconds:.1f} s)")
    return True
