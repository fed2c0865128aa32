"""How sam is called: what its process is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from pik import project
from pik.environments import Environment
from pik.rollout.plan import sam


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Leave the checkout's own settings of sam alone, and have credentials."""
    monkeypatch.setattr(project, "STATE", tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "somebody's own")


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", None])
def test_a_throttled_call_does_not_end_it_within_seconds(endpoint: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)

    told = sam._subprocess_env(Environment("dev", "us-east-1", endpoint))

    assert told["AWS_RETRY_MODE"] == "standard"
    assert int(told["AWS_MAX_ATTEMPTS"]) >= 10


def test_what_somebody_set_for_an_account_of_their_own_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")

    assert sam._subprocess_env(Environment("dev", "us-east-1"))["AWS_MAX_ATTEMPTS"] == "3"
