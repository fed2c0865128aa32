"""What the embedded AWS takes, and when it says that no more fits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pik.emulator import supervisor
from pik.emulator.instance import Instance
from pik.emulator.memory import COPY_SHARE, EVENT_BYTES, FEW_EVENTS, MemoryUse, memory


def test_what_is_left_is_told_in_events() -> None:
    """The process with the data is copied to be saved, with the events that are to come."""
    plenty = MemoryUse(used=1_400_000_000, left=4_400_000_000, own=400_000_000)

    assert plenty.events == int((4_400_000_000 - 200_000_000 - COPY_SHARE * 400_000_000) / (1.9 * EVENT_BYTES))
    assert plenty.warning == ""


@pytest.mark.parametrize("left", [0, 100_000_000, 300_000_000])
def test_little_left_is_a_warning_with_a_way_out(left: int) -> None:
    short = MemoryUse(used=400_000_000, left=left, own=300_000_000)

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


def test_a_page_that_processes_share_counts_once() -> None:
    """A copy that writes a snapshot has all pages of its original: used memory does not double with it."""
    block = bytearray(os.urandom(1)) * 100_000_000
    alone = memory([os.getpid()]).used
    reader, writer = os.pipe()
    copy = os.fork()
    if not copy:
        os.close(writer)
        os.read(reader, 1)  # until the original closes its end
        os._exit(0)
    try:
        together = memory([os.getpid(), copy]).used
    finally:
        os.close(writer)
        os.waitpid(copy, 0)
        os.close(reader)
    assert len(block) == 100_000_000
    assert together < alone + 50_000_000


def test_up_says_when_no_more_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Instance("nonce", 1, 2, "2026-01-01T00:00:00+00:00").write(tmp_path)
    monkeypatch.setattr(supervisor, "memory", lambda _: MemoryUse(used=400_000_000, left=100_000_000))
    info = supervisor.Info("http://127.0.0.1:2", 2, 1, str(tmp_path), "", note="the last run ended uncleanly")
    note = supervisor._with_memory(info).note
    assert note.startswith("the last run ended uncleanly; memory is short: about 0 more events fit")
