"""Raise the phase of what is deployed, on evidence: gate, plan, capture, move, watch, record.

A promotion sets the toggles and nothing else: template and code stay those that were verified. The processor comes as a
canary, which takes itself back when something is wrong. Every step is in the ledger, refusals too.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from pik import ledger
from pik.environments import Environment
from pik.errors import CheckFailed, PikError, Refused
from pik.ledger import Kind
from pik.rollout import phases, records, standing
from pik.rollout.canary import Canary, Limits, Outcome, foresee
from pik.rollout.converge import converge
from pik.rollout.deploy import as_seen
from pik.rollout.deployed import Deployed, deployed
from pik.rollout.forward import refuse_unless_ready
from pik.rollout.gates import Gate
from pik.rollout.guard import Place, guard
from pik.rollout.phases import Phase
from pik.rollout.plan import Plan, plan
from pik.rollout.recording import about, capture, enter, record, refusals
from pik.rollout.rollback import rollback
from pik.rollout.stack import Say, Stack, silent


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
    canary: Outcome | None = None
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
        AwsError: CloudFormation did not get there.

    >>> promote(environment("staging"), "processor").sentence          # doctest: +SKIP
    'staging is at phase 3 processor, before: replay; canary: 120 of 120 messages counted as predicted, 0 failed …'
    """
    say, target = on_progress or silent, phases.phase(to)
    place = guard(environment)
    with refusals(environment, place, f"promote --to {target.name}", target.name):
        found = _ready(environment, place, target)
        if found.phase is target:
            return Promotion(False, environment.name, target.name, target.name, 0.0)
        gate = standing.promotion(environment, place, target)
        enter(environment, gate, override, say)
        if seen:
            planned = as_seen(environment, place, seen, say)
        else:
            planned = plan(environment, target.name, deployed=True, predict=False, on_progress=say)
        if planned.refusals:
            raise Refused(
                f"the plan for {environment.name} is refused",
                reason="; ".join(planned.refusals),
                next_step=f"pik plan --env {environment.name} --phase {target.name} --deployed",
            )
    return _Move(environment, found, target, gate, planned, limits, say).go()


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
    """One promotion that was let through: capture, converge, watch, record."""

    environment: Environment
    found: Stack
    target: Phase
    gate: Gate
    planned: Plan
    limits: Limits | None
    say: Say
    recorded: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def go(self) -> Promotion:
        """Do it."""
        before = deployed(self.environment, self.found)
        self._begin(before)
        try:
            outcome = self._with_canary() if self._watched else self._at_once()
        except (PikError, KeyboardInterrupt) as error:
            sentence = f"did not reach phase {self.target.label}: {getattr(error, 'message', 'interrupted')}"
            self._note(record(self.environment, Kind.PROMOTION, sentence, phase=self.target.name, state="failed"))
            raise
        done = f"phase {self.found.phase.label} -> {self.target.label}"
        self._note(record(self.environment, Kind.PROMOTION, done, phase=self.target.name, state="done"))
        result = Promotion(
            changed=True,
            environment=self.environment.name,
            phase=self.target.name,
            previous=self.found.phase.name,
            seconds=round(time.monotonic() - self.began, 2),
            plan_digest=self.planned.digest,
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

    def _begin(self, before: Deployed) -> None:
        """Record what is going to be done, from which state: that is what one would go back to."""
        sentence = f"phase {self.found.phase.label} -> {self.target.label} begins"
        predicate = {
            "sentence": sentence,
            "phase": self.target.name,
            "state": "begun",
            "before": capture(self.environment, self.found, before),
            "plan": self.planned.digest,
            "gate": [{"name": one.name, "met": one.met, "found": one.sentence} for one in self.gate.requirements],
        }
        file = ("plan.json", json.dumps(self.planned.as_dict(), indent=1).encode(), "application/json")
        write = ledger.append if self.gate.enforced else ledger.record
        self._note(
            write(self.environment, Kind.PROMOTION, subjects=about(before), predicate=predicate, evidence=[file])
        )

    def _note(self, entry: object) -> None:
        self.recorded.append(str(entry))
        self.say(str(entry))

    def _at_once(self) -> Outcome | None:
        self.say(f"CloudFormation takes {self.environment.stack} to phase {self.target.label}")
        converge(self.environment, self.found, self.target.parameters, self.say)
        return None

    def _with_canary(self) -> Outcome:
        """Switch the processor on for two at once, watch it, then let it go on; or take it back."""
        canary = Canary(self.environment, foresee(self.environment, self.say), self.limits)
        self.say(f"{self.target.label} as a canary: {canary.expected} messages are foreseen to be counted")
        try:
            now = converge(self.environment, self.found, {**self.target.parameters, "Canary": "true"}, self.say)
            outcome = canary.watch(self.say)
        except BaseException:
            self._back("the canary could not be watched to its end")
            raise
        seen = {name: value for name, value in outcome.as_dict().items() if name != "sentence"}
        sentence = f"canary: {outcome.sentence}"
        self._note(record(self.environment, Kind.CANARY, sentence, phase=self.target.name, **seen))
        if not outcome.passed:
            raise self._failed(outcome, self._back(outcome.sentence))
        self.say("the canary passed; more processors may work at once")
        converge(self.environment, now, {"Canary": "false"}, self.say)
        return outcome

    def _back(self, why: str) -> str:
        """Take the processor back, whatever happened; return what came of it."""
        self.say(f"rolling back: {why}")
        try:
            return rollback(self.environment, self.found.phase.name, on_progress=self.say).sentence
        except PikError as error:
            self.say(f"the rollback did not get there: {error.message}; {error.next_step}")
            return f"{error.message}; {error.next_step}"

    def _failed(self, outcome: Outcome, came: str) -> CheckFailed:
        env = self.environment.name
        return CheckFailed(
            f"the canary failed: {outcome.sentence}",
            reason=f"rolled back by itself: {came}",
            next_step=f"pik run queue-and-dlq --env {env}; mend the processor, pik deploy --env {env} --phase "
            f"{self.found.phase.name}, pik run verify-{self.found.phase.name} --env {env}, then promote again",
        )
