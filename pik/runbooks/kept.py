"""The runs that are kept: which there are, how much space they take, and what may be deleted."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path

from pik.errors import PikError, Refused
from pik.runbooks import report
from pik.runbooks.record import RECORD, Run, State, is_locked, lock


@dataclass(frozen=True)
class RunFolder:
    """One folder with a run in it, which is looked at when something is asked of it: there may be thousands."""

    folder: Path

    @cached_property
    def run(self) -> Run | None:
        """The run; None when its record cannot be read."""
        try:
            return Run.read(self.folder)
        except (PikError, OSError):
            return None

    @cached_property
    def bytes(self) -> int:
        """The size of all its files, as it was when it was first asked for."""
        total = 0
        for path in self.folder.rglob("*"):
            with suppress(OSError):  # a run that is under way beside us writes and removes files
                total += 0 if path.is_dir() else path.lstat().st_size
        return total

    @property
    def id(self) -> str:
        """The run's name."""
        return self.folder.name

    @property
    def state(self) -> str:
        """What the run came to, or ``unreadable``."""
        return str(self.run.state) if self.run else "unreadable"


def runs(folder: Path, env: str = "") -> list[RunFolder]:
    """Return the runs in a folder, the newest first; of one environment when ``env`` names it.

    >>> runs(Path("nowhere"))
    []
    """
    # What a link leads to is not ours to list, nor to delete.
    records = sorted(folder.glob(f"*/{RECORD}"), reverse=True)
    found = [RunFolder(record.parent) for record in records if not record.parent.is_symlink()]
    return [one for one in found if not env or (one.run and one.run.where.environment == env)]


def prunable(
    found: Iterable[RunFolder], *, keep: int, days: float, unfinished: bool = False, now: datetime | None = None
) -> list[RunFolder]:
    """Return the runs that may be deleted: beyond the ``keep`` newest, and older than ``days``.

    Never one that is under way or that cannot be read; one that has not passed, and could be resumed, only with
    ``unfinished``.
    """
    oldest = (now or datetime.now(UTC)) - timedelta(days=days)
    return [
        kept
        for kept in list(found)[keep:]
        if kept.run
        and datetime.fromisoformat(kept.run.started) < oldest
        and (unfinished or kept.run.state is State.PASSED)
        and not is_locked(kept.folder)
    ]


def delete(chosen: Iterable[RunFolder]) -> list[RunFolder]:
    """Delete runs, each held while it goes, and renew the overview; return those that were deleted."""
    gone: list[RunFolder] = []
    try:
        for kept in chosen:
            with suppress(Refused):  # somebody resumed it meanwhile: it stays
                _delete(kept.folder)
                gone.append(kept)
    finally:
        for folder in {kept.folder.parent for kept in gone}:
            report.write_index(folder)
    return gone


def _delete(folder: Path) -> None:
    with lock(folder):
        # Its record last: a run that is half deleted is listed, and is deleted by the next try.
        for path in sorted(folder.iterdir(), key=lambda path: path.name == RECORD):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()
