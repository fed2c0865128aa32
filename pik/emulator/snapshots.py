"""The saved state of the embedded AWS: one consistent snapshot after the other.

Runs inside the emulator's process (see ``launcher.py``), so it imports nothing of ``pik``. ministack on its own saves
each service's file in place, and only at a clean end. Here a forked copy of the process writes the snapshot: what it
sees is one moment, nobody waits but for the fork (20 ms with 12,000 events), and it becomes valid by one rename.
S3 objects are not in here: they are on disk from the start.
"""

from __future__ import annotations

import asyncio
import copy
import gc
import json
import logging
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Services = Mapping[str, Callable[[], Any]]  # name -> get_state

SAVE_SECONDS = 120.0  # a copy that takes longer is stuck (on a lock another thread held at the fork)
SAVE_EVERY_SECONDS = 5.0  # and no more often than this
WORK_TO_SAVE_RATIO = 20  # a save that took a second is followed by 20 without one
MOST_BEHIND_SECONDS = 60.0  # but a crash costs no more than this, and what a save takes, however large the state is

log = logging.getLogger("pik.emulator")


def pause_after(took: float) -> float:
    """Return how many seconds nothing is saved after a save that took so long.

    >>> pause_after(0.1), pause_after(1.0), pause_after(20.0)
    (5.0, 20.0, 60.0)
    """
    return min(max(SAVE_EVERY_SECONDS, took * WORK_TO_SAVE_RATIO), MOST_BEHIND_SECONDS)


class Snapshots:
    """Numbered directories of service state; the highest complete one is what the next start gets."""

    def __init__(self, state: Path, services: Callable[[], Services]) -> None:
        self._services = services
        self._writer = 0  # process id of the copy that writes now
        self.root = state / "snapshots"
        self.loaded = state / "services"  # where ministack loads from, and keeps code blobs and keys

    def latest(self) -> Path | None:
        """Return the newest complete snapshot."""
        found = sorted(path for path in self.root.glob("*") if path.name.isdigit())
        return found[-1] if found else None

    def restore(self) -> None:
        """Put the newest snapshot where ministack looks for its state."""
        self.root.mkdir(exist_ok=True)
        self.loaded.mkdir(exist_ok=True)
        for stale in self.loaded.glob("*.json*"):
            stale.unlink()
        latest = self.latest()
        for file in latest.glob("*.json") if latest else ():
            shutil.copy(file, self.loaded / file.name)

    async def save(self) -> bool:
        """Write a snapshot while everything goes on; return whether it is complete."""
        self._fork()
        deadline = time.monotonic() + SAVE_SECONDS
        while (complete := self._written(os.WNOHANG)) is None:
            if time.monotonic() > deadline:
                self.abandon()
                log.error("saving took longer than %.0f s and was given up", SAVE_SECONDS)
                return False
            await asyncio.sleep(0.05)
        return complete

    def save_last(self) -> bool:
        """Write a snapshot and wait for it."""
        self.abandon()
        self._fork()
        return bool(self._written(0))

    def abandon(self) -> None:
        """End a copy that is still writing; what it wrote does not count."""
        if self._writer:
            os.kill(self._writer, signal.SIGKILL)
            self._written(0)

    def _written(self, flags: int) -> bool | None:
        """Return whether the copy wrote everything; None while it writes (without waiting: ``os.WNOHANG``)."""
        pid, code = os.waitpid(self._writer, flags)
        if not pid:
            return None
        self._writer = 0
        return code == 0

    def _fork(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads: only Python code runs in the copy
            self._writer = os.fork()
        if self._writer:
            return
        try:
            # Neither the port nor the guard's pipe may stay open for us: both speak of the original's life.
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            _copy_nothing()
            os._exit(0 if self.write() else 1)
        except BaseException:
            log.exception("could not save the state")
            os._exit(2)

    def write(self) -> bool:
        """Write one snapshot; a service that cannot be read keeps its last state, and the answer is False."""
        previous = self.latest()
        for partial in self.root.glob("*.tmp"):
            shutil.rmtree(partial)
        target = self.root / f"{int(previous.name) + 1 if previous else 1:08d}"
        partial = target.with_suffix(".tmp")
        partial.mkdir(parents=True)
        written = [_write_service(name, get, partial, previous) for name, get in self._services().items()]
        partial.rename(target)
        for old in self.root.glob("*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        return all(written)


def _copy_nothing() -> None:
    """Let nothing in this process copy state once more, or touch pages that nobody reads: it is the copy.

    ministack's services copy their state before it is written, because others go on changing it. Nobody does here.
    """
    gc.disable()
    copy.deepcopy = _itself  # type: ignore[assignment]


def _itself(value: Any, memo: Any = None) -> Any:
    return value


def _write_service(name: str, get_state: Callable[[], Any], folder: Path, previous: Path | None) -> bool:
    from ministack.core import persistence

    file = folder / f"{name}.json"
    last = previous / file.name if previous else None
    try:
        state = get_state()
        if state is not None:
            version = persistence._state_format_version(name)
            # Its save_state writes the same with json.dump, which takes three times as long.
            file.write_text(
                json.dumps({"__ministack_format__": version, "payload": state}, default=persistence._json_default)
            )
            return True
        complete = True  # a service that has nothing to say
    except Exception:
        log.exception("could not read the state of %s; its last saved state is kept", name)
        file.unlink(missing_ok=True)
        complete = False
    if last and last.exists():
        os.link(last, file)
    return complete
