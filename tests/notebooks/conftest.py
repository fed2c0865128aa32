"""A project in a temporary folder, for tests that run notebooks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebooks.lab import Lab, make


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Return an empty project whose runs ask no AWS."""
    for name in ("notebooks", "runbooks", "runs"):
        (tmp_path / name).mkdir()
    return make(tmp_path, monkeypatch)
