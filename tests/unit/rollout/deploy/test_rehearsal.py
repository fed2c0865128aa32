"""A rehearsed rollback judges by what it sent, not by one count that may be older."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pik.environments import Environment
from pik.results import Verdict
from pik.rollout.deploy import rollback_checks
from pik.rollout.deploy.rollback_checks import Rehearsal, RollbackChecks
from tests.unit.planted_steps import rolled_back

LOCAL = Environment("local", "us-east-1", "http://127.0.0.1:9")


@pytest.mark.parametrize(
    ("before", "after", "then", "verdict"),
    [
        (0, 0, [0, 0, 5], Verdict.PASSED),  # both counts were of the moment before it sent
        (0, 5, [], Verdict.PASSED),
        (5, 5, [], Verdict.PASSED),
        (0, 0, [0, 3], Verdict.INCONCLUSIVE),  # two never show: it cannot be said that they are kept
    ],
)
def test_messages_sent_are_looked_for_when_the_counts_are_old(
    monkeypatch: pytest.MonkeyPatch, before: int, after: int, then: list[int], verdict: Verdict
) -> None:
    left = list(then)

    class Late:
        def __init__(self, _: Environment) -> None: ...

        def waiting(self) -> int:
            return left.pop(0) if len(left) > 1 else left[0]

    def rolls_back(_: Environment, __: str, *, on_progress: Any, after_stop: Any) -> None:
        after_stop()

    ticks = iter(range(10_000))
    monkeypatch.setattr("pik.clock.lateness", lambda _: 1.0)
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr("time.monotonic", lambda: float(next(ticks)))
    monkeypatch.setattr(rollback_checks, "StoreReader", Late)
    monkeypatch.setattr(rollback_checks, "busiest", lambda *_: [SimpleNamespace(rows=range(5))])
    monkeypatch.setattr(rollback_checks, "replay_all", lambda *_, **__: [SimpleNamespace(sent=5)])
    monkeypatch.setattr(rollback_checks, "rollback", rolls_back)
    checks = RollbackChecks(LOCAL, rehearsal=Rehearsal(messages=5))
    checks.roll_back()
    assert checks.kept(rolled_back(queue_before=before, queue_after=after)).verdict is verdict
