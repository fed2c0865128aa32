"""Time that passes only by what is slept: a test that waits for minutes takes as long as its work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_monotonic = time.monotonic


class VirtualTime:
    """In the place of ``time.sleep`` and ``time.monotonic``; wall-clock time stays what it is.

    ``patch`` is pytest's monkeypatch. Whoever sleeps lets the others work (:meth:`meanwhile`).
    """

    def __init__(self, patch: Any) -> None:
        self._skipped, self._lock = 0.0, threading.Lock()
        self._work: Callable[[], object] | None = None
        self._working = threading.Lock()
        patch.setattr("time.sleep", self.sleep)
        patch.setattr("time.monotonic", self.monotonic)

    def monotonic(self) -> float:
        """Return real time plus all that was slept."""
        return _monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        """Let the others work, then let the time pass."""
        if self._work and self._working.acquire(blocking=False):  # not while it works: it sleeps as well
            try:
                self._work()
            finally:
                self._working.release()
        with self._lock:
            self._skipped += seconds

    @contextmanager
    def meanwhile(self, work: Callable[[], object]) -> Iterator[None]:
        """Have ``work`` done whenever somebody sleeps."""
        self._work = work
        try:
            yield
        finally:
            self._work = None
