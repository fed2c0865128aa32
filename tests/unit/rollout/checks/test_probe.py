"""Requests to an API that is new, busy or stumbles: asked again, for a while, and never taken for a finding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pik import phases, project
from pik.aws import exchange
from pik.errors import AwsError
from pik.pipeline.http import Request, error
from pik.pipeline.settings import Settings
from pik.results import Verdict
from pik.rollout.checks import common, probe
from pik.rollout.checks.ingest import IngestChecks
from pik.rollout.checks.replay import ReplayChecks
from pik.rollout.checks.trials import Trials
from pik.rollout.deploy.rollback_checks import RollbackChecks
from tests.unit.rollout_world import RolloutWorld, in_place, indexed


@pytest.fixture
def world(deployed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RolloutWorld:
    monkeypatch.setattr(project, "STATE", tmp_path)
    monkeypatch.setattr("time.sleep", lambda _: None)
    indexed()
    found = RolloutWorld(deployed, phases.REPLAY)
    in_place(found, monkeypatch)
    return found


def stumbling(world: RolloutWorld, function: str, *statuses: int, after: int = 0) -> None:
    """Have a function's first requests answered with these statuses (after some that are answered as they should)."""
    left, spared = list(statuses), [after]

    def answer(name: str, request: Request) -> dict[str, Any]:
        if name == function and left and not spared[0]:
            return error(left.pop(0), "internal", "not yet", "again")
        spared[0] -= name == function and spared[0] > 0
        return world.really(name, request)

    world.answer = answer


@pytest.mark.parametrize("statuses", [(403, 403, 500), (500, 502, 503, 504)])
def test_an_api_that_was_just_made_is_asked_until_it_answers(world: RolloutWorld, statuses: tuple[int, ...]) -> None:
    stumbling(world, "ingest", *statuses)
    found = IngestChecks(world.environment, patience=5)
    assert found.api_answers().verdict is Verdict.PASSED
    assert found.duplicates().verdict is Verdict.PASSED


@pytest.mark.parametrize("after", [2, 3, 4, 5])
def test_a_5xx_in_between_is_not_a_finding(world: RolloutWorld, after: int) -> None:
    stumbling(world, "ingest", 503, after=after)
    checks = IngestChecks(world.environment, patience=5)
    found = [checks.api_answers(), checks.duplicates(), checks.conflicts(), checks.rejections(), checks.raw_bytes()]
    assert {check.name: check.sentence for check in found if check.verdict is not Verdict.PASSED} == {}


def test_an_api_that_never_answers_fails_the_check(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "FRESH_SECONDS", 0)
    world.answer = lambda *_: error(500, "internal", "broken", "mend it")
    assert IngestChecks(world.environment, patience=0).api_answers().verdict is Verdict.FAILED


@pytest.mark.parametrize("statuses", [(403, 500), (503, 429, 502)])
def test_a_replay_api_that_was_just_made_is_asked_until_it_answers(
    world: RolloutWorld, statuses: tuple[int, ...]
) -> None:
    world.ingest("e", 5)
    stumbling(world, "replay", *statuses)
    checks = ReplayChecks(world.environment, patience=5)
    assert checks.counts(checks.replay()).verdict is Verdict.PASSED


def test_a_replay_that_fails_half_way_is_sent_again_under_its_own_id(world: RolloutWorld) -> None:
    world.ingest("e", 5)
    stumbling(world, "replay", 503, 504, after=3)
    checks = ReplayChecks(world.environment, patience=5)
    assert checks.counts(checks.replay()).verdict is Verdict.PASSED


def now_and_then(world: RolloutWorld, function: str, status: int, every: int) -> None:
    """Have every so manyeth request of a function answered with this status, for ever."""
    asked = [0]

    def answer(name: str, request: Request) -> dict[str, Any]:
        asked[0] += name == function
        if name == function and asked[0] % every == 0:
            return error(status, "busy", "not now", "again")
        return world.really(name, request)

    world.answer = answer


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("every", [2, 3, 5, 7])
def test_an_api_that_stumbles_for_ever_is_never_accused(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch, status: int, every: int
) -> None:
    monkeypatch.setattr(probe, "FRESH_SECONDS", 0.2)
    now_and_then(world, "ingest", status, every)
    checks = IngestChecks(world.environment, patience=0)
    found = [checks.api_answers(), checks.dry_run(), checks.raw_bytes(), checks.rows_agree()]
    found += [checks.duplicates(), checks.conflicts(), checks.rejections()]
    assert {check.name: check.sentence for check in found if check.verdict is Verdict.FAILED} == {}
    assert every > 6 or [check for check in found if check.verdict is Verdict.INCONCLUSIVE]


def test_a_connection_that_is_cut_says_nothing_against_the_api(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, sent = exchange.exchange, [0]

    def cut(*args: Any, **more: Any) -> exchange.Exchange:
        sent[0] += 1
        if sent[0] % 6 == 0:
            raise AwsError("no answer", reason="connection reset")
        return real(*args, **more)

    monkeypatch.setattr(exchange, "exchange", cut)
    monkeypatch.setattr(probe, "FRESH_SECONDS", 0.2)
    checks = IngestChecks(world.environment, patience=0)
    found = [checks.api_answers(), checks.duplicates(), checks.conflicts(), checks.rejections()]
    assert {check.name: check.sentence for check in found if check.verdict is Verdict.FAILED} == {}


def test_a_replay_that_is_never_answered_to_its_end_is_inconclusive(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.ingest("e", 5)
    monkeypatch.setattr(exchange, "ATTEMPTS", 1)
    now_and_then(world, "replay", 503, 3)
    checks = ReplayChecks(world.environment, patience=5)
    sent = checks.replay()
    found = {check.name: check.verdict for check in (checks.api_answers(sent), checks.counts(sent))}
    assert set(found.values()) == {Verdict.INCONCLUSIVE}, found


def test_ingest_that_stumbles_in_phase_2_is_inconclusive(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.ingest("e", 5)
    monkeypatch.setattr(probe, "FRESH_SECONDS", 0.2)
    now_and_then(world, "ingest", 503, 3)
    checks = ReplayChecks(world.environment, patience=5)
    checks.replay()
    assert checks.ingest().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("status", [429, 503])
def test_a_replay_api_that_is_busy_after_a_rollback_is_asked_again(world: RolloutWorld, status: int) -> None:
    stumbling(world, "replay", status, status)
    assert RollbackChecks(world.environment).replay_api(world.stores).verdict is Verdict.PASSED


def test_messages_that_a_batch_did_not_take_are_sent_again(
    world: RolloutWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, refusals = world.client("sqs"), [2, 1]
    real = client.send_message_batch

    def some(QueueUrl: str, Entries: list[dict[str, str]]) -> dict[str, Any]:  # noqa: N803 - boto3's names
        taken = Entries[: -refusals.pop(0)] if refusals else Entries
        return dict(real(QueueUrl=QueueUrl, Entries=taken))

    monkeypatch.setattr(client, "send_message_batch", some)
    assert len(Trials(world.environment, 0)._send(world.stores, [f"{n}" for n in range(12)])) == 12


def test_an_api_that_throttles_for_long_is_not_accused(world: RolloutWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pik.rollout.checks.common.ANSWERS_SECONDS", 0)
    world.answer = lambda *_: error(429, "busy", "not now", "again")
    assert RollbackChecks(world.environment).replay_api(world.stores).verdict is Verdict.INCONCLUSIVE
    assert common.ingest_answers(world.stores).verdict is Verdict.INCONCLUSIVE
    world.answer = lambda *_: error(500, "broken", "not ever", "mend it")
    assert RollbackChecks(world.environment).replay_api(world.stores).verdict is Verdict.FAILED
    assert common.ingest_answers(world.stores).verdict is Verdict.FAILED
