"""A snapshot of the embedded AWS is written by a copy of the process, which copies nothing once more."""

from __future__ import annotations

import copy
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pik.emulator.snapshots import Snapshots


@pytest.fixture
def persistence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the part of ministack that snapshots use: it is installed in an environment of its own."""
    module: Any = ModuleType("ministack.core.persistence")
    module._state_format_version = lambda name: 1
    module._json_default = str
    core: Any = ModuleType("ministack.core")
    core.persistence = module
    for name, one in (("ministack", ModuleType("ministack")), ("ministack.core", core)):
        monkeypatch.setitem(sys.modules, name, one)


@pytest.mark.usefixtures("persistence")
def test_the_copy_that_writes_copies_nothing_and_the_original_goes_on_copying(tmp_path: Path) -> None:
    state = {"rows": [{"a": 1}]}

    def get_state() -> dict[str, Any]:
        copied = copy.deepcopy(state)
        return {"pid": os.getpid(), "copied": copied is not state, **copied}

    snapshots = Snapshots(tmp_path, lambda: {"dynamodb": get_state})
    assert snapshots.save_last()
    newest = snapshots.latest()
    assert newest
    text = (newest / "dynamodb.json").read_text()
    assert '"rows": [{"a": 1}]' in text
    assert f'"pid": {os.getpid()}' not in text
    assert '"copied": false' in text
    assert copy.deepcopy(state) is not state
