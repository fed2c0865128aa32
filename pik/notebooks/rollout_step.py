"""What every step of the rollout has: an environment, its banner, the way to its phase, and a typed result."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from pik import phases
from pik.aws import stack
from pik.aws.guard import guard
from pik.environments import environment
from pik.errors import Refused
from pik.notebooks.banner import Banner, banner
from pik.results import Check, Proof, StepResult
from pik.rollout.confirm import confirm
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback
from pik.rollout.gates.deployed import Deployed, deployed


@dataclass(frozen=True)
class Transition:
    """How a step got to its phase; ``recorded``: the ledger's receipts."""

    changed: bool
    previous: str
    sentence: str
    recorded: tuple[str, ...]
    seconds: float
    how: str = "deploy"


class RolloutStep:
    """What every step has: an environment, its banner, and the way forward to its phase."""

    phase: phases.Phase
    proves = True  # whether its checks are those that the next phase asks for

    def __init__(self, env: str, *, from_start: bool = False, deploy: bool = True) -> None:
        self.environment = environment(env)
        self.from_start = from_start
        self.deploys = deploy
        self.changes: list[str] = []
        self.moved: Transition | None = None
        self._began: Deployed | None = None
        self._agreed = False

    @property
    def banner(self) -> Banner:
        """Where this is; refused when what answers is another environment."""
        guard(self.environment)
        return replace(banner(self.environment), changes=self.does)

    def agree(self) -> None:
        """Have the person at the notebook agree, once, before anything is changed; see :func:`confirm`."""
        if not self._agreed:
            confirm(self.environment.name, self.does)
            self._agreed = True

    @property
    def does(self) -> str:
        """What this changes, in words."""
        return f"deploys phase {self.phase.label} and tries it" if self.deploys else f"tries phase {self.phase.label}"

    def deploy(self) -> pd.DataFrame:
        """Bring the environment to this step's phase; return what changed.

        An environment at a higher phase is rolled back first where that is harmless (``local``) or requested
        (``from_start``); elsewhere the step refuses. A step that only verifies (``deploy`` false) deploys nothing and
        requires the environment to be at its phase.
        """
        self.agree()
        if not self.deploys:
            return self._as_it_is()
        self._step_back()
        self.moved = self._forward()
        self._began = deployed(self.environment)
        if self.moved.changed:
            self.changes.append(self.moved.sentence)
        return facts_frame(
            {
                "phase": f"{self.phase.label} (before: {self.moved.previous})",
                "changed": self.moved.sentence,
                "template digest": self._began.template,
                "code digest": self._began.code,
                "recorded": " · ".join(self.moved.recorded) or "nothing: nothing was changed",
            }
        )

    def _forward(self) -> Transition:
        """Promote what is deployed when this is the next phase, or finish that; else deploy the sources at hand."""
        found, started = stack.read(self.environment), time.monotonic()
        if found and (found.phase.next is self.phase or (found.canary and found.phase is self.phase)):
            done = promote(self.environment, self.phase.name)
            return Transition(done.changed, done.previous, done.sentence, done.recorded, done.seconds, "promotion")
        made = deploy(self.environment, self.phase.name)
        recorded = (made.recorded,) if made.recorded else ()
        return Transition(made.changed, made.previous, made.sentence, recorded, time.monotonic() - started)

    def _as_it_is(self) -> pd.DataFrame:
        """Say what is deployed; refuse when that is another phase."""
        found, name = stack.require(self.environment), self.environment.name
        if found.phase is not self.phase:
            raise Refused(
                f"{name} is at phase {found.phase.label}; this verifies phase {self.phase.label}",
                reason="evidence is about the phase that an environment is in",
                next_step=f"pik run verify-{found.phase.name} --env {name}\nor bring it to {self.phase.name} first",
            )
        self._began = deployed(self.environment, found)
        return facts_frame(
            {
                "phase": self.phase.label,
                "changed": "nothing: this only verifies",
                "stack": f"{self.environment.stack} {found.status}",
                "template digest": self._began.template,
                "code digest": self._began.code,
            }
        )

    def _step_back(self) -> None:
        found = stack.read(self.environment)
        if found is None or found.phase.number <= self.phase.number:
            return
        name = self.environment.name
        if not (self.environment.name == "local" or self.from_start):
            raise Refused(
                f"{name} is at phase {found.phase.label}; this step verifies phase {self.phase.label}",
                reason="the step would have to roll the environment back first",
                next_step=f"pik run rollout --env {name} -p from_start=true\nor:\npik rollback --env {name}",
            )
        self.changes.append(rollback(self.environment, self.phase.name).sentence)

    def _result(self, checks: Iterable[Check], words: str, facts: dict[str, Any]) -> StepResult:
        done = tuple(checks)
        seconds = round(self.moved.seconds, 2) if self.moved else 0.0
        more: dict[str, Any] = {"deploy_seconds": seconds} if self.moved else {}
        if self._began:
            more |= {"template_digest": self._began.template, "code_digest": self._began.code}
        took = f"{self.moved.how} {seconds:.1f} s, " if self.moved else ""
        return StepResult(
            title=self.phase.label,
            headline=f"{took}{words}",
            checks=done,
            facts=facts | more,
            changes=tuple(self.changes),
            undo=self._undo(),
            proof=self._proof(),
        )

    def _proof(self) -> Proof | None:
        """What the checks are about: exactly what is deployed, if it is this step's phase, and was all the time."""
        there = deployed(self.environment)
        if not self.proves or there.phase is not self.phase or self._began not in (None, there):
            return None
        return Proof(phase=there.phase.name, template=there.template, code=there.code, parameters=there.parameters)

    def _undo(self) -> str:
        previous = phases.PHASES[self.phase.number - 1]
        if previous is phases.OFF:
            return ""
        return f"pik rollback --env {self.environment.name} --to {previous.name}"


def facts_frame(facts: dict[str, str]) -> pd.DataFrame:
    """Return named facts as a frame of two columns."""
    return pd.DataFrame({"what": list(facts), "found": list(facts.values())})
