"""Bring an environment to a phase: plan, build, deploy, and say what changed. Only ever forwards; back is a rollback.

Every deploy executes a plan (:mod:`pik.rollout.plan.plan`): its own, made a moment before, or one that was seen.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik import phases
from pik.aws import event_source_mapping, stack
from pik.aws.guard import Place, guard
from pik.aws.retry import FIRST, patiently
from pik.aws.stack import Say, Stack
from pik.environments import Environment
from pik.errors import AwsError, Refused
from pik.ledger import Entry, Kind
from pik.rollout.deploy.converge import converge
from pik.rollout.deploy.unfinished import close
from pik.rollout.gates import evidence_status
from pik.rollout.gates.deployed import deployed
from pik.rollout.gates.recording import BEFORE, capture, enter, moved, record, refusals
from pik.rollout.plan import records, sam
from pik.rollout.plan.diff import same
from pik.rollout.plan.plan import Plan, make
from pik.rollout.plan.preconditions import refuse_unless_forward
from pik.signals import ended_in_order, undisturbed, unfailing


@dataclass(frozen=True)
class Deployment:
    """What a deploy did: whether anything changed, from which phase to which, in how many seconds, and the digests.

    ``plan``: the digest of the plan that was executed; ``recorded``: the receipt of what is in the ledger, or why it
    is not there.
    """

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
    plan: str = ""
    recorded: str = ""

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
    override: str = "",
    on_progress: Say | None = None,
) -> Deployment:
    """Bring ``environment`` to ``phase`` with the sources at hand.

    ``dry_run``: the deployment setting, None keeps what is set. ``parameters``: other stack parameters to set; those
    not named keep the value they have. Doing it again changes nothing and says so. ``override``: a person's reason to
    deploy into a protected environment what the one before it has not proven.

    Raises Refused for a step down (that is a rollback), a phase raised where that takes a promotion, a closed gate
    (:mod:`pik.rollout.gates.decide`), or a plan that would cost a data store its data; AwsError with the failing
    resource's reason when CloudFormation gives up.

    >>> deploy(environment("local"), "replay").sentence           # doctest: +SKIP
    'local is at phase 2 replay, before: ingest (8.1 s)'
    """
    say, started = unfailing(on_progress), time.monotonic()
    with ended_in_order():
        place = patiently(environment, lambda: guard(environment), say=say, silence=FIRST)
        target = phases.phase(phase)
        with refusals(environment, place, f"deploy --phase {target.name}", target.name):
            refuse_unless_forward(environment, target, place.stack)
            unrecorded = _close(environment, place, say)
            plan = make(
                environment, place, phase, dry_run=dry_run, parameters=parameters, predict=False, on_progress=say
            )
            _admit(environment, place, plan, override, say)
        return _execute(environment, place, plan, started, say, unrecorded=unrecorded)


def apply(environment: Environment, given: Plan, *, override: str = "", on_progress: Say | None = None) -> Deployment:
    """Execute exactly the plan that is given, or nothing.

    The plan is made again from what is there now: when the two have not the same digest, something is not as it was
    when the plan was seen. ``override``: as for :func:`deploy`.

    Raises:
        Refused: the plan is another one now, or may not be applied; nothing was done.
        AwsError: CloudFormation gave up.

    >>> apply(environment("local"), Plan.read(Path("plan.json"))).plan     # doctest: +SKIP
    '5c1e…'
    """
    say, started = unfailing(on_progress), time.monotonic()
    with ended_in_order():
        place = patiently(environment, lambda: guard(environment), say=say, silence=FIRST)
        with refusals(environment, place, f"deploy --plan {given.digest[:16]}", given.phase):
            if given.promotes:
                raise Refused(
                    f"this plan promotes {given.environment} to {given.phase}",
                    reason="a promotion has a gate, and the processor a canary",
                    next_step="pik promote --plan FILE",
                )
            _close(environment, place, say)
            now = as_seen(environment, place, given, say)
            refuse_unless_forward(environment, phases.phase(now.phase), place.stack)
            _admit(environment, place, now, override, say)
        return _execute(environment, place, now, started, say)


def _close(environment: Environment, place: Place, say: Say) -> bool:
    """Record the end of a change that was interrupted, before another begins; return whether nothing is recorded yet.

    A first deploy has no ledger before it is done: when it is interrupted, the next one records it.
    """
    if place.stack is None or "EvidenceBucket" not in place.stack.outputs:
        return False
    book = close(environment, place, place.stack, deployed(environment, place.stack), say)
    return book is not None and not book.entries


def as_seen(environment: Environment, place: Place, given: Plan, on_progress: Say | None) -> Plan:
    """Return a plan made anew; raise Refused when it is not the one that was seen."""
    _refuse_elsewhere(environment, place, given)
    now = make(
        environment,
        place,
        given.phase,
        deployed=given.kind == "deployed",
        parameters=given.asked,
        predict=False,
        on_progress=on_progress,
    )
    if now.digest != given.digest:
        raise Refused(
            "what a deploy would do has changed since the plan was made: nothing was changed",
            reason=f"different now: {', '.join(given.differences(now))}\n"
            f"  given  {given.digest}  ({given.made})\n  now    {now.digest}",
            next_step=f"look at it again:\npik plan --env {given.environment} --phase {given.phase} --out FILE",
        )
    return now


def _admit(environment: Environment, place: Place, plan: Plan, override: str, say: Say) -> None:
    """Refuse what would cost a data store its data, whoever asks; and what the environment before has not proven."""
    if plan.refusals:
        raise Refused(
            f"{environment.name}: this cannot be deployed; nothing was changed",
            reason="\n".join(plan.refusals),
            next_step="put it back in the template; docs/plan.md says how data is moved on purpose",
        )
    if plan.empty or environment.config.protection == "open":
        return
    target = phases.phase(plan.phase)
    gate = evidence_status.deployment(environment, place, target, plan.target.template, plan.target.code)
    enter(environment, place, gate, override, say)


def _refuse_elsewhere(environment: Environment, place: Place, given: Plan) -> None:
    """A plan is of one stack: the same template deployed elsewhere is another plan."""
    here = (environment.name, place.account, environment.region, environment.stack)
    there = (given.environment, given.account, given.region, given.stack)
    if here != there:
        raise Refused(
            "the plan was made for another environment: nothing was changed",
            reason=f"the plan: {' · '.join(there)}; here: {' · '.join(here)}",
            next_step=f"pik plan --env {environment.name} --out FILE",
        )


def _execute(
    environment: Environment, place: Place, plan: Plan, started: float, say: Say, *, unrecorded: bool = False
) -> Deployment:
    log = records.new(environment, "deploy")
    begun = _begin(environment, place, place.stack, plan, say) if place.stack and plan.base != plan.target else {}
    try:
        changed = _change(environment, plan, place.stack, log, say)
    except BaseException as error:
        _fell_short(environment, place, plan, begun, error, say)
        raise
    after = patiently(environment, lambda: stack.require(environment), say=say)
    _protect(environment, after, say)
    changed |= patiently(environment, lambda: event_source_mapping.as_declared(environment, after, say), say=say)
    digests = patiently(environment, lambda: stack.digests(environment), say=say)
    deployment = Deployment(
        changed=changed,
        environment=environment.name,
        phase=plan.phase,
        previous=plan.previous,
        seconds=round(time.monotonic() - started, 2),
        stack_status=after.status,
        template_digest=digests.template,
        code_digest=digests.code,
        parameters=after.parameters,
        log=str(log),
        plan=plan.digest,
    )
    if changed or begun or unrecorded:
        facts = {"phase": plan.phase, "plan": plan.digest, "changed": changed, "state": "done", **begun}
        files = [] if begun else [("plan.json", _json(plan.as_dict()), "application/json")]
        with undisturbed():
            there = replace(place, stack=after)  # a first deploy makes the ledger
            entry = record(environment, Kind.DEPLOY, deployment.sentence, evidence=files, place=there, **facts)
        say(str(entry))
        deployment = replace(deployment, recorded=str(entry))
    records.write(log, environment, "deploy", asdict(deployment))
    return deployment


def _protect(environment: Environment, found: Stack, say: Say) -> None:
    """Have CloudFormation refuse to delete the stack, where not everybody may do as they like; say so when it cannot.

    Its stores are retained, but the APIs with their addresses are not.
    https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/using-cfn-protect-stacks.html
    """
    if found.protected or environment.config.protection == "open":
        return
    client = environment.client("cloudformation")
    try:
        client.update_termination_protection(StackName=environment.stack, EnableTerminationProtection=True)
    except (ClientError, BotoCoreError) as error:
        say(f"the stack is not protected against its deletion: {error}")
        return
    say(f"{environment.stack} is protected against its deletion from now on")


def _begin(environment: Environment, place: Place, found: Stack, plan: Plan, say: Say) -> dict[str, Any]:
    """Record what will be deployed and the state to roll back to; return what the record of the outcome repeats of it.

    If the deploy is killed, the next command reads this record, and ``pik rollback --deploy`` reverts the deploy.
    """
    before = capture(environment, found, deployed(environment, found))
    files = [
        ("plan.json", _json(plan.as_dict()), "application/json"),
        (f"{BEFORE}.json", _json(stack.deployed(environment)), "application/json"),
    ]
    entry = record(
        environment,
        Kind.DEPLOY,
        f"deploy at phase {phases.phase(plan.phase).label} begins",
        evidence=files,
        place=place,
        phase=plan.phase,
        state="begun",
        before=before,
        plan=plan.digest,
        target={"template": plan.target.template, "code": plan.target.code},
    )
    say(str(entry))
    return {"begun": entry.number, "before": before} if isinstance(entry, Entry) else {"before": before}


def _fell_short(
    environment: Environment, place: Place, plan: Plan, begun: dict[str, Any], error: BaseException, say: Say
) -> None:
    """Record the outcome of a deploy that failed; nothing for a first deploy, which has no ledger yet."""
    if not begun:
        return
    why = getattr(error, "message", "") or ("interrupted" if isinstance(error, KeyboardInterrupt) else str(error))
    with undisturbed():
        changed = moved(environment, begun["before"])
        facts = {"phase": plan.phase, "plan": plan.digest, "state": "failed", "changed": changed, **begun}
        say(str(record(environment, Kind.DEPLOY, f"not completed: {why}", place=place, **facts)))


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1).encode()


def _change(environment: Environment, plan: Plan, before: Stack | None, log: Path, say: Say) -> bool:
    """Apply the plan to the stack; return whether the stack changed."""
    if plan.base == plan.target:
        return False
    if plan.kind == "deployed" and before:
        return converge(environment, before, plan.settings, say).updated != before.updated
    return _deploy_sources(environment, plan, before, log, say)


def _deploy_sources(environment: Environment, plan: Plan, before: Stack | None, log: Path, say: Say) -> bool:
    built = sam.build(environment, log, say)
    digests = built.digests()
    if (digests.template, digests.code) != (plan.target.template, plan.target.code):
        raise Refused(
            "the sources were changed after the plan was made: nothing was changed",
            reason=f"planned: template {plan.target.template[:16]}…, code {plan.target.code[:16]}…; "
            f"built: template {digests.template[:16]}…, code {digests.code[:16]}…",
            next_step="the same command again",
        )
    say(f"sam deploy to {environment.stack}")
    follow = stack.Follower(environment, say)
    later = _PROTECTION if before is None and _protects(plan) else {}
    settings = plan.settings | dict.fromkeys(later, "false")
    try:
        arguments = sam.deploy_arguments(environment, built, settings, before.tags if before else None)
        code = sam.run(environment, arguments, log, follow)
    except KeyboardInterrupt:
        say(_interrupted(environment))
        raise
    follow()
    if code != 0:
        raise _failure(environment, follow, log)
    after = patiently(environment, lambda: stack.require(environment), say=say)
    if later:
        say("the stack is created; its tables are protected against deletion from now on")
        converge(environment, after, later, say)
    return before is None or after.updated != before.updated


_PROTECTION = {"DeletionProtection": "true"}


def _protects(plan: Plan) -> bool:
    """Whether the plan creates tables that nobody can delete: CloudFormation neither, when the creation fails."""
    found = (one for change in plan.changes if change.action == "add" for one in change.properties)
    return any(one.path == "DeletionProtectionEnabled" and same(one.after, True) for one in found)


def _interrupted(environment: Environment) -> str:
    try:
        found = stack.read(environment)
    except AwsError as error:
        return f"interrupted; CloudFormation continues what it has begun ({error.message})"
    if found and found.in_progress:
        return (
            f"interrupted; CloudFormation continues by itself: {found.status}. "
            f"`pik status --env {environment.name}` says how it ended"
        )
    return f"interrupted; the stack is {found.status if found else 'not there'}, CloudFormation is not at work"


def _failure(environment: Environment, follow: stack.Follower, log: Path) -> AwsError:
    event = follow.failure()
    found = patiently(environment, lambda: stack.read(environment))
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
