"""Raise the phase of what is deployed, on evidence: gate, plan, capture, move, watch, record.

A promotion sets the toggles and nothing else: template and code stay those that were verified. The processor comes as a
canary, which is rolled back automatically when something is wrong. The ledger records every step, refusals too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pik import ledger, phases
from pik.aws.guard import Place, guard
from pik.aws.retry import FIRST, patiently
from pik.aws.stack import Say, Stack
from pik.environments import Environment
from pik.errors import AwsError, CheckFailed, PikError, Refused
from pik.events import parse_time
from pik.ledger import Entry, Kind, Ledger
from pik.phases import Phase
from pik.rollout.deploy.canary import Canary, CanaryOutcome, Limits, predict_trial
from pik.rollout.deploy.converge import converge
from pik.rollout.deploy.deploy import as_seen
from pik.rollout.deploy.rollback import rollback
from pik.rollout.deploy.unfinished import beginning, close
from pik.rollout.gates import evidence_status
from pik.rollout.gates.decide import Gate
from pik.rollout.gates.deployed import Deployed, deployed
from pik.rollout.gates.recording import about, capture, enter, moved, record, refusals
from pik.rollout.plan import records
from pik.rollout.plan.plan import Plan, make
from pik.rollout.plan.preconditions import refuse_unless_ready
from pik.signals import ended_in_order, undisturbed, unfailing

UNWATCHED = timedelta(hours=6)  # of a canary that was left alone, log lines are read for so long


@dataclass(frozen=True)
class Promotion:
    """What a promotion did.

    ``gate``: what was asked and found; ``canary``: how the processor came out, None for other phases; ``recorded``:
    receipts of what is in the ledger, or why it is not.
    """

    changed: bool
    environment: str
    phase: str
    previous: str
    seconds: float
    plan_digest: str = ""
    gate: Gate | None = field(default=None, repr=False)
    canary: CanaryOutcome | None = None
    recorded: tuple[str, ...] = ()

    @property
    def sentence(self) -> str:
        """What happened, in one sentence."""
        where = f"{self.environment} is at phase {phases.phase(self.phase).label}"
        if not self.changed:
            return f"{where}; nothing to promote"
        watched = f"; canary: {self.canary.sentence}" if self.canary else ""
        return f"{where}, before: {self.previous}{watched} ({self.seconds:.1f} s)"

    @property
    def next_step(self) -> str:
        """The command that supplies the evidence for what is on now."""
        return f"pik run verify-{self.phase} --env {self.environment}"

    def as_dict(self) -> dict[str, Any]:
        """Return it as one JSON-able object."""
        return {
            "changed": self.changed,
            "environment": self.environment,
            "phase": self.phase,
            "previous": self.previous,
            "seconds": self.seconds,
            "plan_digest": self.plan_digest,
            "canary": self.canary.as_dict() if self.canary else None,
            "recorded": list(self.recorded),
            "next": self.next_step,
        }


def promote(
    environment: Environment,
    to: str,
    *,
    seen: Plan | None = None,
    override: str = "",
    limits: Limits | None = None,
    on_progress: Say | None = None,
) -> Promotion:
    """Raise ``environment`` to phase ``to``, the next one, with what is deployed.

    ``seen``: a plan that somebody has looked at: exactly that is done, or nothing. ``override``: a person's reason to
    go on although the gate is closed; it is recorded before anything is done, and does not help against the guard, a
    skipped phase, or a plan that would touch a data store. ``limits``: how the canary is judged, by default
    :meth:`Limits.of`.

    Raises:
        Refused: the gate is closed, or the phase is not the next one; nothing was changed, and that is recorded.
        CheckFailed: the canary failed; the environment is back where it was, by itself.
        AwsError: CloudFormation did not complete the update.

    >>> promote(environment("staging"), "processor").sentence          # doctest: +SKIP
    'staging is at phase 3 processor, before: replay; canary: 120 of 120 messages counted as predicted, 0 failed …'
    """
    with ended_in_order():
        return _promote(environment, phases.phase(to), seen, override, limits, unfailing(on_progress))


def _promote(
    environment: Environment, target: Phase, seen: Plan | None, override: str, limits: Limits | None, say: Say
) -> Promotion:
    place = patiently(environment, lambda: guard(environment), say=say, silence=FIRST)
    with refusals(environment, place, f"promote --to {target.name}", target.name):
        found = _ready(environment, place, target)
        now = deployed(environment, found)
        book = close(environment, place, found, now, say)
        if found.phase is target and not found.canary:
            return Promotion(False, environment.name, target.name, target.name, 0.0)
        if found.phase is target:
            begun = _begun(environment, found, now, book)
            move = _Move(environment, place, found, target, None, None, limits, say, begun)
        else:
            gate = evidence_status.promotion(environment, place, target)
            enter(environment, place, gate, override, say)
            planned = _planned(environment, place, target, seen, say)
            move = _Move(environment, place, found, target, gate, planned, limits, say)
    return move.go() if move.planned else move.finish()


def _planned(environment: Environment, place: Place, target: Phase, seen: Plan | None, say: Say) -> Plan:
    if seen:
        planned = as_seen(environment, place, seen, say)
    else:
        planned = make(environment, place, target.name, deployed=True, predict=False, on_progress=say)
    if planned.refusals:
        raise Refused(
            f"the plan for {environment.name} is refused",
            reason="; ".join(planned.refusals),
            next_step=f"pik plan --env {environment.name} --phase {target.name} --deployed",
        )
    return planned


def _begun(environment: Environment, found: Stack, now: Deployed, book: Ledger | None) -> Entry | None:
    """Return the entry of the promotion that was left as a canary; refuse when what is on is not what it promoted.

    Its gate was passed then. Where nobody is refused anything, a canary that nobody recorded is finished as well.
    """
    entry = beginning(book, found.phase.name)
    same = entry is not None and entry.is_about(now.template, now.code)
    if same or environment.config.protection == "open":
        return entry if same else None
    raise Refused(
        f"{environment.name} runs the processor as a canary that no promotion of the deployed code started",
        reason="it passed no gate" if entry is None else "template or code have changed since that promotion began",
        next_step=f"pik rollback --env {environment.name}",
    )


def _ready(environment: Environment, place: Place, target: Phase) -> Stack:
    """Return the stack when it may go to ``target`` as far as phases and CloudFormation are concerned."""
    name, found = environment.name, place.stack
    if found is None:
        raise Refused(
            f"nothing is deployed in {name}",
            reason="a promotion raises the phase of what is deployed",
            next_step=f"pik deploy --env {name} --phase ingest",
        )
    refuse_unless_ready(environment, found)
    if target.number < found.phase.number:
        raise Refused(
            f"{name} is at phase {found.phase.label}; {target.label} is a step back",
            next_step=f"pik rollback --env {name} --to {target.name}",
        )
    if target.number > found.phase.number + 1:
        step = phases.PHASES[found.phase.number + 1]
        raise Refused(
            f"{name} is at phase {found.phase.label}; {target.label} would skip {step.label}",
            reason=f"before it: {'; '.join(step.proof)}",
            next_step=f"pik promote --env {name} --to {step.name}",
        )
    return found


@dataclass
class _Move:
    """One promotion that was let through: capture, converge, watch, record; or one whose canary is to be finished."""

    environment: Environment
    place: Place
    found: Stack
    target: Phase
    gate: Gate | None
    planned: Plan | None
    limits: Limits | None
    say: Say
    begun: Entry | None = None
    recorded: list[str] = field(default_factory=list)
    before: dict[str, Any] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)

    def go(self) -> Promotion:
        """Do it."""
        with self._ending():
            outcome = self._with_canary() if self._watched else self._at_once()
        return self._done(outcome, self.found.phase)

    def finish(self) -> Promotion:
        """Watch the canary of an interrupted promotion to its end; then complete the promotion, or roll it back."""
        self.before = dict(self.begun.predicate.get("before") or {}) if self.begun else {}
        came = f" of ledger entry {self.begun.number}" if self.begun else ""
        self.say(f"finishing the promotion{came}: the processor runs as a canary, and is watched to its end")
        with self._ending():
            try:
                canary = Canary(self.environment, predict_trial(self.environment, self.say), self.limits)
                self._since_it_began(canary)
            except BaseException:
                self._back("the canary could not be watched to its end")
                raise
            outcome = self._watch(canary, self.found)
        return self._done(outcome, phases.phase(str(self.before.get("phase") or phases.REPLAY.name)))

    @contextmanager
    def _ending(self) -> Iterator[None]:
        """When the promotion fails, record the last step that completed and whether the stack changed."""
        try:
            yield
        except BaseException as error:
            why = getattr(error, "message", "") or (
                "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
            )
            with undisturbed():
                changed = bool(self.before) and moved(self.environment, self.before)
                sentence = f"did not reach phase {self.target.label}: {why}"
                self._record(sentence, state="failed", changed=changed)
            raise

    def _done(self, outcome: CanaryOutcome | None, previous: Phase) -> Promotion:
        with undisturbed():
            self._record(f"phase {previous.label} -> {self.target.label}", state="done")
        result = Promotion(
            changed=True,
            environment=self.environment.name,
            phase=self.target.name,
            previous=previous.name,
            seconds=round(time.monotonic() - self.began, 2),
            plan_digest=self.planned.digest if self.planned else "",
            gate=self.gate,
            canary=outcome,
            recorded=tuple(self.recorded),
        )
        records.write(records.new(self.environment, "promote"), self.environment, "promote", result.as_dict())
        return result

    @property
    def _watched(self) -> bool:
        """Whether the processor is new and will really consume (a dry run keeps the mapping disabled)."""
        return self.target.processor and self.found.parameters.get("DryRun") != "true"

    def _begin(self) -> None:
        """Record the promotion before the change, with the state to roll back to."""
        now = deployed(self.environment, self.found)
        before = capture(self.environment, self.found, now)
        sentence = f"phase {self.found.phase.label} -> {self.target.label} begins"
        gate = self.gate.requirements if self.gate else ()
        predicate = {
            "sentence": sentence,
            "phase": self.target.name,
            "state": "begun",
            "before": before,
            "plan": self.planned.digest if self.planned else "",
            "gate": [{"name": one.name, "met": one.met, "found": one.sentence} for one in gate],
        }
        plan_file = json.dumps(self.planned.as_dict() if self.planned else {}, indent=1).encode()
        file = ("plan.json", plan_file, "application/json")
        write = ledger.append if self.gate and self.gate.enforced else ledger.record
        entry = write(
            self.environment,
            Kind.PROMOTION,
            subjects=about(now),
            predicate=predicate,
            evidence=[file],
            place=self.place,
        )
        self.before, self.begun = before, entry if isinstance(entry, Entry) else None
        self._note(entry)

    def _record(self, sentence: str, **more: Any) -> None:
        predicate = more | ({"begun": self.begun.number} if self.begun else {})
        predicate |= {"phase": self.target.name}
        self._note(record(self.environment, Kind.PROMOTION, sentence, place=self.place, **predicate))

    def _note(self, entry: object) -> None:
        self.recorded.append(str(entry))
        self.say(str(entry))

    def _at_once(self) -> CanaryOutcome | None:
        self._begin()
        self.say(f"CloudFormation takes {self.environment.stack} to phase {self.target.label}")
        converge(self.environment, self.found, self.target.parameters, self.say)
        return None

    def _with_canary(self) -> CanaryOutcome:
        """Enable the processor with a concurrency of two and watch it; then lift the limit, or roll it back."""
        canary = Canary(self.environment, predict_trial(self.environment, self.say), self.limits)
        self._begin()
        self.say(f"{self.target.label} as a canary: {canary.expected} messages are predicted to be counted")
        try:
            now = converge(self.environment, self.found, {**self.target.parameters, "Canary": "true"}, self.say)
        except BaseException:
            self._back("the canary could not be watched to its end")
            raise
        return self._watch(canary, now)

    def _since_it_began(self, canary: Canary) -> None:
        """Have the canary include what happened while nobody watched it: failures, dead letters, counted events.

        Log lines are read for at most the last :data:`UNWATCHED`; dead letters and aggregates cover the whole time.
        """
        if self.begun:
            canary.since = max(parse_time(self.begun.time), canary.since - UNWATCHED)
        canary.dead_before = min(canary.dead_before, int(self.before.get("dead_letters", canary.dead_before)))
        canary.expected += sum(canary.before.values())
        canary.before = {}

    def _watch(self, canary: Canary, now: Stack) -> CanaryOutcome:
        try:
            outcome = canary.watch(self.say)
        except BaseException:
            self._back("the canary could not be watched to its end")
            raise
        seen = {name: value for name, value in outcome.as_dict().items() if name != "sentence"}
        sentence = f"canary: {outcome.sentence}"
        with undisturbed():
            seen |= {"phase": self.target.name}
            self._note(record(self.environment, Kind.CANARY, sentence, place=self.place, **seen))
        if not outcome.passed:
            raise self._failed(outcome, self._back(outcome.sentence))
        self.say("the canary passed; the limit of two concurrent processors is lifted")
        try:
            converge(self.environment, now, {"Canary": "false"}, self.say)
        except PikError as error:
            env = self.environment.name
            raise AwsError(
                f"the canary passed, but the limit of two concurrent processors could not be lifted: {error.message}",
                reason=error.reason,
                next_step=f"finish it:\npik promote --env {env} --to {self.target.name}\n"
                f"or roll it back:\npik rollback --env {env}",
            ) from error
        return outcome

    def _back(self, why: str) -> str:
        """Roll the processor back, whatever happened; return the outcome as a sentence."""
        self.say(f"rolling back: {why}")
        back = self.before.get("phase") or phases.REPLAY.name
        try:
            with undisturbed():
                return rollback(self.environment, str(back), on_progress=self.say).sentence
        except PikError as error:
            self.say(f"the rollback failed: {error.message}; {error.next_step}")
            return f"{error.message}; {error.next_step}"

    def _failed(self, outcome: CanaryOutcome, came: str) -> CheckFailed:
        env, back = self.environment.name, str(self.before.get("phase") or phases.REPLAY.name)
        return CheckFailed(
            f"the canary failed: {outcome.sentence}",
            reason=f"rolled back automatically: {came}",
            next_step=f"pik run queue-and-dlq --env {env}\nfix the processor, then:\n"
            f"pik deploy --env {env} --phase {back}\npik run verify-{back} --env {env}\nthen promote again",
        )
