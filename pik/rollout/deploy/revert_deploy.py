"""Revert a deploy: restore the template, code and parameters from before it, as the ledger's evidence has them.

A revert never raises the phase and builds nothing. It restores the template that was deployed then, which is kept
beside the record of the deploy, with the code that this template names (``sam`` keeps what it uploaded).
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import Any

from pik import ledger, phases
from pik.aws import event_source_mapping, stack
from pik.aws.evaluation import Evaluator, pseudo
from pik.aws.guard import Place, guard
from pik.aws.retry import FIRST, patiently
from pik.aws.stack import Say, Stack
from pik.environments import Environment
from pik.errors import AwsError, PikError, Refused, UsageError
from pik.ledger import Entry, Kind, Ledger
from pik.partitions import partition
from pik.rollout.deploy.converge import converge
from pik.rollout.deploy.rollback import Consumption
from pik.rollout.gates.deployed import TOGGLES, deployed
from pik.rollout.gates.recording import BEFORE, record
from pik.rollout.plan.diff import changes
from pik.rollout.plan.effects import deletions
from pik.rollout.plan.preconditions import refuse_unless_ready
from pik.signals import ended_in_order, undisturbed, unfailing

KEPT = ("RetentionDays", "LogRetentionDays")  # parameters that say how long data are kept


@dataclass(frozen=True)
class Reverted:
    """What a revert did: the ledger entry of the reverted deploy, the digests that are deployed now, and the seconds it
    took."""

    environment: str
    entry: int
    phase: str
    template: str
    code: str
    seconds: float
    recorded: str

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        return (
            f"{self.environment} has the template and code from before ledger entry {self.entry} again "
            f"(template {self.template[:8]}…, code {self.code[:8]}…), at phase {phases.phase(self.phase).label} "
            f"({self.seconds:.1f} s)"
        )


def revert(environment: Environment, number: int = 0, *, on_progress: Say | None = None) -> Reverted:
    """Restore what was deployed before a deploy; by default before the last one.

    Consumption is stopped meanwhile. Parameters are restored as well, but for the phase, which stays or goes down to
    what it was. Allowed without evidence, like every way back; refused where it would cost a data store its data.

    Raises:
        UsageError: there is no such deploy in the ledger, or it was the first.
        Refused: a data store that the deploy brought would be removed; or CloudFormation is at work.
        AwsError: the ledger or its evidence cannot be read, or CloudFormation did not complete the update.

    >>> revert(environment("staging")).sentence                       # doctest: +SKIP
    'staging has the template and code from before ledger entry 17 again …'
    """
    with ended_in_order():
        return _revert(environment, number, unfailing(on_progress))


def _revert(environment: Environment, number: int, say: Say) -> Reverted:
    began = time.monotonic()
    place = patiently(environment, lambda: guard(environment), say=say, silence=FIRST)
    found = place.stack or stack.require(environment)
    refuse_unless_ready(environment, found)
    entry = _deploy(ledger.read(environment, place=place), number)
    body, url = _kept(environment, place, entry)
    parameters = _parameters(entry, found, body)
    _refuse_losses(environment, found, body, parameters, place.account)
    consumption = Consumption(environment, say)
    consumption.stop(found)
    say(f"CloudFormation restores {environment.stack} to the state before ledger entry {entry.number}")
    try:
        now = converge(environment, found, parameters, say, template=url)
    except (PikError, KeyboardInterrupt) as error:
        why = getattr(error, "message", "interrupted; CloudFormation continues by itself")
        failed = f"the deploy of ledger entry {entry.number} was not reverted: {why}"
        facts: dict[str, Any] = {"phase": found.phase.name, "state": "failed", "deploy": entry.number}
        with undisturbed():
            say(str(record(environment, Kind.ROLLBACK, failed, place=place, **facts)))
        say(f"{consumption.state}; nothing is lost. To revert the deploy, run the same command again")
        raise
    event_source_mapping.as_declared(environment, now, say)
    there = deployed(environment)
    sentence = f"reverted: the deploy of ledger entry {entry.number}"
    done: dict[str, Any] = {"phase": there.phase.name, "state": "done", "deploy": entry.number}
    receipt = record(environment, Kind.ROLLBACK, sentence, place=place, **done)
    say(str(receipt))
    seconds = round(time.monotonic() - began, 2)
    return Reverted(environment.name, entry.number, there.phase.name, there.template, there.code, seconds, str(receipt))


def _deploy(book: Ledger, number: int) -> Entry:
    entry = book.entry(number) if number else next((e for e in reversed(book.changes) if e.kind is Kind.DEPLOY), None)
    if entry is None or entry.kind is not Kind.DEPLOY:
        raise UsageError(
            f"ledger entry {number} is no deploy" if number else f"no deploy is recorded in {book.environment}",
            next_step=f"pik ledger list --env {book.environment} --kind deploy",
        )
    begun = entry.predicate.get("begun")
    entry = book.entry(begun) if begun else entry  # the beginning has what was there before, and the evidence
    if not entry.predicate.get("before"):
        raise UsageError(
            f"ledger entry {entry.number} is the first deploy: there was nothing before it",
            next_step=f"pik rollback --env {book.environment} --to ingest",
        )
    return entry


def _kept(environment: Environment, place: Place, entry: Entry) -> tuple[dict[str, Any], str]:
    """Return the template from before a deploy, proven to be the one that was recorded, and its address."""
    where = ledger.locate(environment, place)
    link = next((link for link in entry.links if link.name.startswith(BEFORE)), None)
    body = where.get(link.key) if link else None
    if link is None or body is None or hashlib.sha256(body).hexdigest() != link.sha256:
        raise AwsError(
            f"{environment.name}: the template from before ledger entry {entry.number} is not there as it was recorded",
            next_step=f"pik ledger verify --env {environment.name}",
        )
    document: dict[str, Any] = json.loads(body)
    region = environment.region
    return document, f"https://s3.{region}.{partition(region).suffix}/{where.bucket}/{link.key}"  # as sam writes it


def _parameters(entry: Entry, found: Stack, document: dict[str, Any]) -> dict[str, str]:
    """The parameters of then, without raising the phase, as far as the template of then has them.

    What says how long data are kept stays as it is when it is longer now: shortened, it would have AWS delete them.
    """
    then = {str(name): str(value) for name, value in entry.predicate["before"]["parameters"].items()}
    both = [name for name in KEPT if name in then and name in found.parameters]
    then |= {name: max(then[name], found.parameters[name], key=int) for name in both}
    lower = min(found.phase, phases.deployed_phase(then), key=lambda phase: phase.number)
    wanted = {name: value for name, value in then.items() if name not in TOGGLES} | lower.parameters
    return {name: value for name, value in wanted.items() if name in document.get("Parameters", {})}


def _refuse_losses(
    environment: Environment, found: Stack, document: dict[str, Any], parameters: dict[str, str], account: str
) -> None:
    known = pseudo(environment.region, account, found.name, found.id)
    was = Evaluator(stack.deployed(environment), found.parameters, known).evaluated()
    will = Evaluator(document, parameters, known).evaluated()
    found_changes = changes(was, will)
    lost = [change.id for change in found_changes if change.refused]
    if shorter := [*deletions(found_changes)]:
        raise Refused(
            f"reverting this deploy would have AWS delete data: {'; '.join(shorter)}; nothing was done",
            reason="the deploy made the template keep them longer",
            next_step="keep the longer time in the template, change the rest, and deploy forward",
        )
    if lost:
        raise Refused(
            f"reverting this deploy would cost {', '.join(lost)} its data: nothing was done",
            reason="the deploy brought, or changed, a data store",
            next_step="keep the store in the template, change the rest, and deploy forward",
        )
