"""What the embedded AWS takes, and when it says that no more fits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pik.local.memory import EVENT_BYTES, FEW_EVENTS, Memory, memory


def test_what_is_left_is_told_in_events() -> None:
    plenty = Memory(used=400_000_000, left=4_300_000_000)

    assert plenty.events == (4_300_000_000 - 200_000_000 - 100_000_000) // EVENT_BYTES
    assert plenty.warning == ""


@pytest.mark.parametrize("left", [0, 100_000_000, 300_000_000])
def test_little_left_is_a_warning_with_a_way_out(left: int) -> None:
    short = Memory(used=400_000_000, left=left)

    assert 0 <= short.events < FEW_EVENTS
    assert "pik local reset" in short.warning


def test_a_containers_limit_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")

    found = memory([os.getpid()], tmp_path)

    assert found.left == 600_000
    assert found.used > 1_000_000


@pytest.mark.parametrize("limit", ["max", ""])
def test_without_a_limit_the_machine_counts(tmp_path: Path, limit: str) -> None:
    (tmp_path / "memory.max").write_text(limit)

    assert memory([], tmp_path).left > 10_000_000
    assert memory([2**30], tmp_path / "missing").used == 0
