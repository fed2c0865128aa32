"""The saved state of the embedded AWS: one consistent snapshot after the other.

Runs inside the emulator's process (see ``launcher.py``), so it imports nothing of ``pik``. ministack on its own saves
each service's file in place, and only at a clean end. S3 objects are not in here: they are on disk from the start.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

log = logging.getLogger("pik.local")


class Snapshots:
    """Numbered directories of service state; the highest complete one is what the next start gets."""

    def __init__(self, state: Path) -> None:
        self._one_at_a_time = threading.Lock()  # the last save may come while a regular one is under way
        self.root = state / "snapshots"
        self.services = state / "services"  # where ministack loads from, and keeps code blobs and keys

    def latest(self) -> Path | None:
        """Return the newest complete snapshot."""
        found = sorted(p for p in self.root.glob("*") if p.name.isdigit())
        return found[-1] if found else None

    def restore(self) -> None:
        """Put the newest snapshot where ministack looks for its state."""
        self.root.mkdir(exist_ok=True)
        self.services.mkdir(exist_ok=True)
        for stale in (*self.services.glob("*.json"), *self.services.glob("*.tmp")):
            stale.unlink()
        for partial in self.root.glob("*.tmp"):
            shutil.rmtree(partial)
        latest = self.latest()
        for file in latest.glob("*.json") if latest else ():
            shutil.copy(file, self.services / file.name)

    def save(self, services: dict[str, Callable[[], Any]]) -> bool:
        """Write one snapshot of ``{service: get_state}``; return whether every service could be read."""
        with self._one_at_a_time:
            return self._save(services)

    def _save(self, services: dict[str, Callable[[], Any]]) -> bool:
        from ministack.core import persistence

        previous = self.latest()
        target = self.root / f"{int(previous.name) + 1 if previous else 1:08d}"
        partial = target.with_suffix(".tmp")
        partial.mkdir(parents=True)
        persistence.STATE_DIR = str(partial)
        complete = True
        for name, get_state in services.items():
            state = _read(name, get_state)
            if state is not None:
                persistence.save_state(name, state)
            if not (partial / f"{name}.json").exists() and previous and (previous / f"{name}.json").exists():
                os.link(previous / f"{name}.json", partial / f"{name}.json")
                complete = False
        partial.rename(target)
        for old in self.root.glob("*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        return complete


def _read(name: str, get_state: Callable[[], Any]) -> Any:
    for _ in range(5):
        try:
            return get_state()
        except RuntimeError:  # a background thread changed a dictionary while it was copied
            time.sleep(0.02)
        except Exception:
            break
    log.exception("could not read the state of %s; its last saved state is kept", name)
    return None
