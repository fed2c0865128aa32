"""A rehearsed rollback waits until the queue shows the messages that it is to keep."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pik.environments import Environment
from pik.rollout import undo
from pik.rollout.undo import Rehearsal, RollbackChecks

LOCAL = Environment("local", "us-east-1", "http://127.0.0.1:9")


@pytest.mark.parametrize(("counts", "looks"), [([0, 0, 5], 3), ([5], 1), ([7], 1)])
def test_messages_sent_are_counted_before_the_rollback_counts(
    monkeypatch: pytest.MonkeyPatch, counts: list[int], looks: int
) -> None:
    seen, left = [0], list(counts)

    class Late:
        def __init__(self, _: Environment) -> None: ...

        def waiting(self) -> int:
            seen[0] += 1
            return left.pop(0)

    def rolls_back(_: Environment, __: str, *, on_progress: Any, after_stop: Any) -> None:
        after_stop()

    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(undo, "Stores", Late)
    monkeypatch.setattr(undo, "busiest", lambda *_: [SimpleNamespace(rows=range(5))])
    monkeypatch.setattr(undo, "replay_all", lambda *_, **__: [SimpleNamespace(sent=5)])
    monkeypatch.setattr(undo, "rollback", rolls_back)
    checks = RollbackChecks(LOCAL, rehearsal=Rehearsal(messages=5))
    checks.roll_back()
    assert (checks.sent, seen[0]) == (5, looks)
