"""A small rollout for the checks to look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from pik import project
from pik.pipeline.settings import Settings
from tests.unit.rollout_world import RolloutWorld, in_place, indexed


@pytest.fixture
def world(deployed: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RolloutWorld:
    monkeypatch.setattr(project, "STATE", tmp_path)
    indexed()
    found = RolloutWorld(deployed)
    in_place(found, monkeypatch)
    return found
