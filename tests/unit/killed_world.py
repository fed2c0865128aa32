"""An environment in memory whose commands can be killed, or asked to end, before any step that they take.

CloudFormation goes on by itself whatever becomes of the command; a command that was killed does nothing any more, its
cleaning up included.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from pik import ledger, phases
from pik.aws import event_source_mapping, stack
from pik.aws.artifact import Digests
from pik.aws.guard import Place
from pik.aws.stack import Stack
from pik.config import EnvironmentConfig
from pik.environments import Environment
from pik.errors import NotDeployed
from pik.ledger import Entry, Kind, Ledger
from pik.ledger.entry import FIRST
from pik.results import Verdict
from pik.rollout.checks import intact
from pik.rollout.deploy.canary import CanaryOutcome
from pik.rollout.gates import evidence_status
from pik.rollout.gates.decide import Gate, Requirement
from pik.rollout.gates.deployed import Deployed
from pik.rollout.plan import records, sam
from pik.rollout.plan.planned import Plan
from tests.unit.ledger_world import entry
from tests.unit.plan_world import a_plan, resource

promote_module: Any = import_module("pik.rollout.deploy.promote")  # the package has functions of these names
deploy_module: Any = import_module("pik.rollout.deploy.deploy")
rollback_module: Any = import_module("pik.rollout.deploy.rollback")
unfinished_module: Any = import_module("pik.rollout.deploy.unfinished")
START = datetime(2026, 11, 23, 9, tzinfo=UTC)
NEW_CODE: Plan = a_plan(
    phases.REPLAY, phases.REPLAY, lambda d: resource(d, "IngestFunction")["Properties"].update(MemorySize=999)
)


class Killed(BaseException):
    """The process is no more."""


class World:
    """A stack, its event source mapping, its ledger; and what happens to the command at a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, phase: phases.Phase, *, protection: str = "guarded") -> None:
        self.environment = Environment("dev", "eu-west-1", config=EnvironmentConfig(protection=protection))  # type: ignore[arg-type]
        self.parameters = {**phase.parameters, "Environment": "dev", "Canary": "false"}
        self.digests = ("1" * 64, "2" * 64)  # of ledger_world.ABOUT
        self.status, self.updates = "UPDATE_COMPLETE", 0
        self.pending: Callable[[], None] | None = None
        self.enabled = phase.processor
        self.entries: list[Entry] = []
        self.passes, self.refuses = True, 0
        self.steps: list[str] = []
        self.at, self.happens = -1, self.kill
        self.dead = False
        self._install(monkeypatch)
        self.add(Kind.VERIFICATION, phase=phase.name, verdict="passed")

    # --- what happens to the command -------------------------------------------------------------------------------

    def step(self, name: str) -> None:
        """Take a step, unless the process is dead or dies right before it."""
        if self.dead:
            raise Killed
        self.steps.append(name)
        if len(self.steps) - 1 == self.at:
            self.happens()

    def kill(self) -> None:
        self.dead = True
        raise Killed

    def terminate(self) -> None:
        """Ask the process to end, as a supervisor or a terminal that closes does."""
        os.kill(os.getpid(), 15)

    def revive(self) -> None:
        """Start the next command: CloudFormation has finished what it had begun."""
        self.dead, self.at, self.steps = False, -1, []
        self.settle()

    # --- AWS -------------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        if self.pending:
            self.pending()
        self.pending, self.status = None, "UPDATE_COMPLETE"

    def look(self, _: Environment | None = None) -> Stack:
        if self.dead:
            raise Killed
        self.settle()
        outputs = {"QueueUrl": "queue", "QueueArn": "arn", "DeadLetterQueueUrl": "dead", "EvidenceBucket": "b"}
        updated = START + timedelta(minutes=self.updates)
        return Stack("pik-dev", self.status, "", updated, dict(self.parameters), outputs, "id", {}, True)

    def update(self, values: dict[str, str], name: str = "update") -> None:
        """Accept an update of the stack; what it does is done when somebody looks, or by itself."""
        self.step(name)
        if self.refuses:
            self.refuses -= 1
            raise NotDeployed("CloudFormation refuses")

        def done() -> None:
            self.parameters |= values
            self.updates += 1
            self.enabled = self.parameters["EnableProcessor"] == "true"

        self.pending = done

    @property
    def stack(self) -> Stack:
        return self.look()

    @property
    def book(self) -> Ledger:
        if self.dead:
            raise Killed
        return Ledger("dev", tuple(self.entries), ())

    def add(self, kind: Kind, **predicate: Any) -> Entry:
        made = entry(len(self.entries) + 1, self.entries[-1].hash if self.entries else FIRST, kind, **predicate)
        self.entries.append(made)
        return made

    def states(self, kind: Kind) -> list[str]:
        return [str(one.predicate.get("state")) for one in self.entries if one.kind is kind]

    # --- in the place of the real ones ------------------------------------------------------------------------------

    def _install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (promote_module, deploy_module, rollback_module):
            monkeypatch.setattr(module, "guard", lambda *_: Place("111122223333", "arn:ana", self.look()))
            monkeypatch.setattr(module, "record", self._record)
            monkeypatch.setattr(module, "converge", self._converge)
        for module in (promote_module, deploy_module):
            monkeypatch.setattr(module, "deployed", lambda *_: Deployed(self.look().phase, *self.digests, "3" * 64))
            monkeypatch.setattr(module, "capture", self._capture)
        monkeypatch.setattr(unfinished_module, "record", self._record)
        monkeypatch.setattr(ledger, "read", lambda *_, **__: self.book)
        monkeypatch.setattr(ledger, "append", self._write)
        monkeypatch.setattr(ledger, "record", self._write)
        monkeypatch.setattr(promote_module, "about", lambda _: {})
        monkeypatch.setattr(stack, "require", self.look)
        monkeypatch.setattr(stack, "read", self.look)
        monkeypatch.setattr(event_source_mapping, "find", self._find)
        monkeypatch.setattr(event_source_mapping, "switch", self._switch)
        monkeypatch.setattr(intact, "stores", lambda *_: {})
        monkeypatch.setattr(intact, "compare", lambda *_: ())
        monkeypatch.setattr(rollback_module, "messages", lambda *_: 7)
        monkeypatch.setattr(records, "write", lambda *_: None)
        monkeypatch.setattr("time.sleep", lambda _: None)
        object.__setattr__(self.environment, "client", lambda *_, **__: SimpleNamespace())
        self._install_promotion(monkeypatch)
        self._install_deploy(monkeypatch)

    def _write(self, _: Environment, kind: Kind, *, predicate: Any, **__: Any) -> Entry:
        self.step(f"record {kind} {predicate.get('state', '')}".strip())
        return self.add(kind, **predicate)

    def _record(
        self, _: Environment, kind: Kind, sentence: str, *, evidence: Any = (), place: Any = None, **predicate: Any
    ) -> Entry:
        return self._write(self.environment, kind, predicate={"sentence": sentence, **predicate})

    def _converge(self, _: Environment, __: Stack, values: dict[str, str], *___: Any, **____: Any) -> Stack:
        self.update(dict(values))
        return self.look()

    def _switch(self, *_: Any, on: bool) -> float:
        self.step("disable the mapping")
        self.enabled = on
        return 0.1

    def _find(self, *_: Any) -> list[event_source_mapping.EventSourceMapping]:
        consumes = self.parameters["EnableProcessor"] == "true"
        return (
            [event_source_mapping.EventSourceMapping("u", "Enabled" if self.enabled else "Disabled", "f")]
            if consumes
            else []
        )

    def _capture(self, *_: Any) -> dict[str, Any]:
        there = self.look()
        updated = there.updated.isoformat()
        return {"phase": there.phase.name, "updated": updated, "parameters": there.parameters, "dead_letters": 0}

    def _install_promotion(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = self

        class Canary:
            def __init__(self, *_: Any) -> None:
                world.step("probe")
                self.before: dict[Any, int] = {}
                self.expected, self.dead_before, self.since = 5, 0, START

            def watch(self, *_: Any) -> CanaryOutcome:
                world.step("watch")
                assert world.stack.canary  # what is watched is on
                return CanaryOutcome(Verdict.PASSED if world.passes else Verdict.FAILED, "as told", 5)

        def gate(_: Any, __: Any, target: phases.Phase) -> Gate:
            verified = world.book.verification(world.stack.phase.name)
            one = Requirement("evidence", verified is not None, "evidence of the phase before")
            return Gate("dev", target, (one,))

        def predict_trial(*_: Any) -> str:
            world.step("predict")
            return "prediction"

        monkeypatch.setattr(promote_module, "Canary", Canary)
        monkeypatch.setattr(promote_module, "predict_trial", predict_trial)
        monkeypatch.setattr(evidence_status, "promotion", gate)
        monkeypatch.setattr(promote_module, "make", lambda *_, **__: a_plan(phases.REPLAY, phases.PROCESSOR))

    def _install_deploy(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def make(*_: Any, **__: Any) -> Plan:
            there = NEW_CODE.target
            base = replace(there, template=self.digests[0], code=self.digests[1])
            return replace(NEW_CODE, base=base)

        def build(*_: Any) -> Any:
            self.step("build")
            target = NEW_CODE.target
            return SimpleNamespace(digests=lambda: Digests(target.template, target.code))

        def run(*_: Any) -> int:
            self.step("sam")
            self.update({}, "sam updates")
            update = self.pending
            assert update

            def done() -> None:
                update()
                self.digests = (NEW_CODE.target.template, NEW_CODE.target.code)

            self.pending = done
            self.step("sam waits")
            self.settle()
            return 0

        monkeypatch.setattr(deploy_module, "make", make)
        monkeypatch.setattr(sam, "build", build)
        monkeypatch.setattr(sam, "run", run)
        monkeypatch.setattr(sam, "deploy_arguments", lambda *_: [])
        monkeypatch.setattr(stack, "Follower", lambda *_: lambda: None)
        monkeypatch.setattr(stack, "deployed", lambda _: {})
        monkeypatch.setattr(stack, "digests", lambda _: Digests(*self.digests))
