"""Commands that end in the middle, on the real stack: the next command says what is the case, finishes or undoes it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pik import ledger, phases, producer
from pik.aws import event_source_mapping, stack
from pik.aws.retry import patiently
from pik.environments import Environment
from pik.ledger import Kind
from pik.rollout.checks.replay import ReplayChecks
from pik.rollout.deploy.deploy import deploy
from pik.rollout.deploy.promote import promote
from pik.rollout.deploy.rollback import rollback
from pik.rollout.deploy.status import status

pytestmark = pytest.mark.slow
PIK = Path(sys.executable).with_name("pik")


@pytest.fixture(scope="module")
def env(embedded_env: Environment) -> Environment:
    """Phase 1 with some events."""
    deploy(embedded_env, "ingest", parameters={"ReplayRateLimit": "200", "ReplayBurstLimit": "400"})
    assert producer.send(list(producer.load("flights:2013-01-01"))[:120], embedded_env).safe
    return embedded_env


def started(*arguments: str) -> subprocess.Popen[str]:
    """Start a command whose standard error can be read while it runs."""
    return subprocess.Popen([PIK, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(command: subprocess.Popen[str], at: str, number: int) -> str:
    """Send a signal as soon as the command says ``at``; return all that it said on standard error."""
    assert command.stderr
    said = ""
    for line in command.stderr:
        said += line
        if at in line:
            command.send_signal(number)
            break
    else:
        raise AssertionError(f"it never said {at}: {said}")
    out, rest = command.communicate(timeout=240)
    return said + rest + out


def quiet(env: Environment) -> stack.Stack:
    """The stack once CloudFormation, which nobody interrupts, has done its work."""
    while (found := patiently(env, lambda: stack.require(env))).in_progress:
        time.sleep(0.3)
    return found


def in_phase_2(env: Environment) -> None:
    found = stack.require(env)
    if found.phase is phases.PROCESSOR:
        rollback(env, "replay")
    else:
        deploy(env, "replay")
    ReplayChecks(env, entities=10).replay()


def last(env: Environment, kind: Kind) -> dict[str, Any]:
    entry = ledger.read(env).last(kind=kind)
    assert entry
    return entry.predicate


@pytest.mark.parametrize("finish", [True, False], ids=["finished", "undone"])
def test_a_canary_whose_command_was_killed(env: Environment, finish: bool) -> None:
    in_phase_2(env)
    ended(started("promote", "--to", "processor", "--env", "local"), "canary 0 s", signal.SIGKILL)
    assert quiet(env).canary
    found = status(env)
    assert "the processor runs as a canary (ledger entry" in str(found.unfinished)
    assert "HALF DONE" in found.to_text()
    assert found.next[0].startswith("pik promote --env local --to processor")
    if finish:
        done = promote(env, "processor")
        assert done.canary
        assert done.canary.passed
        assert (stack.require(env).phase, stack.require(env).canary) == (phases.PROCESSOR, False)
        assert last(env, Kind.PROMOTION)["state"] == "done"
    else:
        assert rollback(env, "replay").stores_intact
        assert stack.require(env).phase is phases.REPLAY
    assert status(env).unfinished is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_canary_whose_command_is_asked_to_end_is_taken_back(env: Environment, number: int) -> None:
    in_phase_2(env)
    said = ended(started("promote", "--to", "processor", "--env", "local"), "canary 0 s", number)
    assert "rolling back: the canary could not be watched to its end" in said
    assert quiet(env).phase is phases.REPLAY
    assert last(env, Kind.PROMOTION)["state"] == "failed"
    assert last(env, Kind.ROLLBACK)["state"] == "done"
    assert status(env).unfinished is None


def test_a_promotion_that_was_killed_while_it_predicts_changed_nothing(env: Environment) -> None:
    in_phase_2(env)
    before = ledger.read(env).change
    ended(started("promote", "--to", "processor", "--env", "local"), "predicting the aggregates", signal.SIGKILL)
    assert quiet(env).phase is phases.REPLAY
    assert ledger.read(env).change == before  # evidence from before still counts


@pytest.mark.parametrize("at", ["event source mapping disabled", "CloudFormation takes"])
def test_a_rollback_that_was_killed_is_finished_by_the_next(env: Environment, at: str) -> None:
    in_phase_2(env)
    deploy(env, "processor")
    ended(started("rollback", "--env", "local"), at, signal.SIGKILL)
    found = quiet(env)
    assert all(one.state == "Disabled" for one in event_source_mapping.find(env, found.outputs))  # that came first
    assert rollback(env, "replay").mappings_left == 0
    assert stack.require(env).phase is phases.REPLAY


@pytest.mark.parametrize("at", ["ledger entry", "sam deploy to"])
def test_a_deploy_that_was_killed_is_finished_and_recorded_by_the_next(env: Environment, at: str) -> None:
    rollback(env, "replay")
    level = {"INFO": "DEBUG", "DEBUG": "INFO"}[stack.require(env).parameters["LogLevel"]]
    phase = stack.require(env).phase.name
    command = started("deploy", "--phase", phase, "--set", f"LogLevel={level}", "--env", "local")
    ended(command, at, signal.SIGKILL)
    found = status(env)
    assert "a deploy has no recorded outcome" in str(found.unfinished)
    again = deployed_when_let(env, phase, level)
    assert again["returncode"] == 0, again
    assert quiet(env).parameters["LogLevel"] == level
    assert last(env, Kind.DEPLOY)["state"] == "done"
    assert status(env).unfinished is None


def deployed_when_let(env: Environment, phase: str, level: str) -> dict[str, Any]:
    """Deploy again; a sam that was left behind, or CloudFormation at work, refuses until it has ended."""
    deadline = time.monotonic() + 120
    arguments = ["deploy", "--phase", phase, "--set", f"LogLevel={level}", "--env", env.name, "--json"]
    while True:
        done = subprocess.run([PIK, *arguments], capture_output=True, text=True, check=False)
        if done.returncode != 3 or time.monotonic() > deadline:
            return {"returncode": done.returncode, "said": done.stdout + done.stderr}
        refused: Callable[[str], bool] = json.loads(done.stdout)["error"].__contains__
        assert refused("is at work on this computer") or refused("_IN_PROGRESS"), done.stdout
        time.sleep(1)
