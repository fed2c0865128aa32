"""Many events, a few at a time: bounded memory, and nothing read from the input is ever forgotten."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pik import project
from pik.environments import Environment, environment
from pik.errors import UsageError
from pik.producer.delivery import FAILED, Delivery, Outcome, Retries
from pik.producer.sources import Item, encode
from pik.producer.summary import Summary, Tally
from pik.signals import ended_in_order

Sendable = Item | bytes | Mapping[str, Any]


def send(
    events: Iterable[Sendable],
    env: Environment | str,
    *,
    concurrency: int = 8,
    dry_run: bool = False,
    failed: Path | None = None,
    on_progress: Callable[[Tally], None] | None = None,
    retries: Retries | None = None,
    url: str | None = None,
) -> Summary:
    """Send events to the ingest API of ``env`` and return what became of them.

    ``events`` may be :func:`~pik.producer.open_source`'s, dictionaries, or bodies as bytes (sent as they are). Little
    more than twice ``concurrency`` of them are in memory. Those that could not be delivered are written to ``failed``
    (default: a new file below ``.pik/failed``), one a line, ready to be sent again. ``on_progress`` is called after
    every event, from a worker thread, with the counts so far. ``url``: another ingest API than the environment's own.

    Ctrl-C, SIGTERM or a closed terminal stops reading, lets what is in flight finish, and returns with ``interrupted``
    true; a second one does not wait. Sending again is always safe: what is stored already answers DUPLICATE.
    Raises NotDeployed when there is no stack, UsageError when the input cannot be read to its end.

    >>> summary = send(load("flights:2013-01-01"), "local")  # doctest: +SKIP
    >>> summary.accepted, summary.safe  # doctest: +SKIP
    (697, True)
    """
    if concurrency < 1:
        raise UsageError(f"concurrency {concurrency}: must be at least 1")
    where = environment(env) if isinstance(env, str) else env
    fresh = _require(where, url)
    address = url or where.outputs()["IngestUrl"]
    delivery = Delivery(where, address, connections=concurrency, dry_run=dry_run, retries=retries, fresh=fresh)
    crew = _Crew(delivery, _FailedFile(failed), on_progress, concurrency)
    start = time.perf_counter()
    try:
        with ended_in_order():
            interrupted = crew.run(events)
    except UsageError as error:
        error.reason = f"{error.reason} (sent before: {crew.tally.done} events, {crew.failed.written} not delivered)"
        raise
    finally:
        delivery.close()
        crew.failed.close()
    return crew.tally.summary(
        seconds=time.perf_counter() - start,
        dry_run=dry_run,
        interrupted=interrupted,
        stopped=crew.stopped,
        failed_file=str(crew.failed.path) if crew.failed.written else None,
    )


def _require(where: Environment, url: str | None) -> bool:
    """See that events for one environment do not go to another; return whether its API may have been made just now."""
    from pik import clock
    from pik.rollout.guard import guard

    found = guard(where, url or "").stack
    return found is not None and not where.embedded and clock.now(where) - found.updated < _NEW


_NEW = timedelta(minutes=15)
_UNKNOWN = Outcome(FAILED, "unknown", 1, 0.0, {"error": "interrupted before its answer came; it may be stored"})


class _Crew:
    """The worker threads of one ``send``; the calling thread reads the input, so Ctrl-C also ends a wait for input."""

    def __init__(
        self,
        delivery: Delivery,
        failed: _FailedFile,
        on_progress: Callable[[Tally], None] | None,
        concurrency: int,
    ) -> None:
        self.tally = Tally()
        self.failed = failed
        self.stopped = ""
        self._delivery = delivery
        self._on_progress = on_progress
        self._window: queue.Queue[int | None] = queue.Queue(maxsize=concurrency)
        self._open: dict[int, Item] = {}  # read, but not settled; keyed by position
        self._crash: BaseException | None = None
        self._threads = [
            threading.Thread(target=self._work, name=f"pik-ingest-{n}", daemon=True) for n in range(concurrency)
        ]

    def run(self, events: Iterable[Sendable]) -> bool:
        """Send everything; return whether it was interrupted."""
        for thread in self._threads:
            thread.start()
        interrupted = False
        try:
            self._feed(events)
        except KeyboardInterrupt:
            interrupted = True
            self._delivery.stop.set()
        finally:
            interrupted = self._finish() or interrupted
        for position in list(self._open):
            self._settle(position, _UNKNOWN)
        if self._crash is not None:
            raise self._crash
        return interrupted

    def _feed(self, events: Iterable[Sendable]) -> None:
        for ordinal, event in enumerate(events, start=1):
            self._open[ordinal] = _item(ordinal, event)
            self._put(ordinal)
            if self._delivery.stop.is_set():
                return

    def _put(self, item: int | None) -> None:
        # A put without end could not be interrupted when every worker is gone.
        while any(thread.is_alive() for thread in self._threads):
            with suppress(queue.Full):
                self._window.put(item, timeout=0.2)
                return

    def _finish(self) -> bool:
        """Wait for what is in flight; return whether Ctrl-C ended the wait."""
        try:
            for _ in self._threads:
                self._put(None)
            for thread in self._threads:
                thread.join()
        except KeyboardInterrupt:
            self._delivery.stop.set()
            return True
        return False

    def _work(self) -> None:
        while (position := self._window.get()) is not None:
            try:
                self._settle(position, self._delivery.deliver(self._open[position].body))
            except BaseException as error:  # a bug, ours or the callback's: tell the caller, do not die in silence
                self._crash = error
                self._delivery.stop.set()

    def _settle(self, position: int, outcome: Outcome) -> None:
        item = self._open.pop(position, None)
        if item is None:
            return  # given up on before its answer came
        if outcome.result == FAILED and not item.cut:
            self.failed.write(item.body)
        if outcome.hopeless and not self._delivery.stop.is_set():
            self.stopped = f"HTTP {outcome.status}: {_reason(outcome)}"
            self._delivery.stop.set()
        self.tally.add(item.number, outcome)
        if self._on_progress is not None:
            self._on_progress(self.tally)


class _FailedFile:
    """Keeps what could not be delivered, in a form that can be sent again. Made when first needed."""

    def __init__(self, path: Path | None) -> None:
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%S-%fZ")
        self.path = path or project.STATE / "failed" / f"{stamp}.jsonl"
        self.written = 0
        self._lock = threading.Lock()
        self._file: Any = None

    def write(self, body: bytes) -> None:
        with self._lock:
            if self._file is None:
                project.private_folder(self.path.parent)
                self._file = project.private_file(self.path, "wb")
            self._file.write(_one_line(body) + b"\n")
            self._file.flush()
            self.written += 1

    def close(self) -> None:
        with self._lock:
            if self._file is not None:
                self._file.close()
                self._file = None


def _item(ordinal: int, event: Sendable) -> Item:
    if isinstance(event, Item):
        return event
    if isinstance(event, bytes):
        return Item(ordinal, event)
    try:
        return Item(ordinal, encode(event))
    except (TypeError, ValueError) as error:
        raise UsageError(f"event {ordinal} cannot be JSON", reason=str(error)) from error


def _one_line(body: bytes) -> bytes:
    # Only bodies given as bytes can have line ends: those of a file are lines. In JSON a line end stands between values
    # only, so a space says the same; reading and writing it anew would change numbers that a double cannot hold.
    return body.replace(b"\n", b" ").replace(b"\r", b" ")


def _reason(outcome: Outcome) -> str:
    answer = outcome.answer
    return str(answer.get("error") or answer.get("message") or answer.get("Message") or "no reason given")
