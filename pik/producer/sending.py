"""Many events, a few at a time: bounded memory, and nothing read from the input is ever forgotten."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from pik import clock
from pik.aws import guard
from pik.environments import Environment, environment
from pik.errors import UsageError
from pik.items import Item, encode
from pik.mappings.catalog import recognise
from pik.producer.delivery import FAILED, NOT_SENT, REJECTED, Delivery, Outcome, Retries
from pik.producer.kept_files import Checkpoint, Lines, one_line, reject_line
from pik.producer.sources import Source
from pik.producer.summary import OutcomeCounts, Summary
from pik.signals import ended_in_order

WRONG_FILE = 100  # so many rejected, and none stored
# What the pipeline says of somebody else's records.
_OTHER_SHAPE = {"unknown_field", "missing_field", "not_an_object", "payload_type", "bad_name", "bad_time", "batch"}
Sendable = Item | bytes | Mapping[str, Any]


def send(
    events: Iterable[Sendable],
    env: Environment | str,
    *,
    concurrency: int = 8,
    dry_run: bool = False,
    failed: Path | None = None,
    rejects: Path | None = None,
    stop_after: int | None = None,
    resume: bool = False,
    on_progress: Callable[[OutcomeCounts], None] | None = None,
    retries: Retries | None = None,
    url: str | None = None,
) -> Summary:
    """Send events to the ingest API of ``env`` and return a summary.

    Ctrl-C, SIGTERM or a closed terminal stops reading, lets what is in flight finish, and returns with ``interrupted``
    true; a second one does not wait. Sending again is always safe: what is stored already answers DUPLICATE. Little
    more than twice ``concurrency`` events are in memory.

    Args:
        events: :func:`~pik.producer.open_source`'s, dictionaries, or bodies as bytes (sent as they are).
        env: the environment, or its name.
        concurrency: requests under way at once.
        dry_run: ask what would happen.
        failed: where to write what could not be delivered, one a line, ready to be sent again (default: a new file
            below ``.pik/failed``).
        rejects: where to write what is no event, with the reason and the original (default: below ``.pik/rejects``).
        stop_after: stop when so many are rejected; 0: never. Default: at 100, while none is stored or would be.
        resume: go on where an earlier run over the same source stopped; what that one settled is not sent again.
        on_progress: called after every event, from a worker thread, with the counts so far.
        retries: how often and how patiently.
        url: another ingest API than the environment's own.

    Raises:
        NotDeployed: there is no stack.
        UsageError: the input cannot be read to its end, or there is nothing to resume.

    >>> summary = send(load("flights:2013-01-01"), "local")  # doctest: +SKIP
    >>> summary.accepted, summary.safe  # doctest: +SKIP
    (697, True)
    """
    if concurrency < 1:
        raise UsageError(f"concurrency {concurrency}: must be at least 1")
    where = environment(env) if isinstance(env, str) else env
    fresh = _require(where, url)
    address = url or where.outputs()["IngestUrl"]
    checkpoint = _checkpoint(events, where, address, dry_run=dry_run, resume=resume)
    delivery = Delivery(where, address, connections=concurrency, dry_run=dry_run, retries=retries, fresh=fresh)
    crew = _Crew(delivery, _Kept(Lines(failed, "failed"), Lines(rejects, "rejects"), checkpoint), concurrency)
    crew.on_progress, crew.stop_after = on_progress, stop_after
    start, interrupted = time.perf_counter(), True
    try:
        with ended_in_order():
            interrupted = crew.run(events)
    except UsageError as error:
        progress = f"sent before: {crew.tally.done} events, {crew.kept.failed.written} not delivered"
        error.reason = f"{error.reason} ({progress})"
        raise
    finally:
        delivery.close()
        crew.kept.close(finished=not (interrupted or crew.stopped))
    return crew.tally.summary(
        seconds=time.perf_counter() - start,
        dry_run=dry_run,
        interrupted=interrupted,
        stopped=crew.stopped,
        failed_file=crew.kept.failed.name,
        rejects_file=crew.kept.rejects.name,
        skipped=crew.skipped,
        too_many_rejected=crew.too_many_rejected,
    )


def _checkpoint(
    events: Iterable[Sendable], where: Environment, address: str, *, dry_run: bool, resume: bool
) -> Checkpoint:
    """Return where to go on, and where to note how far it came: for files, and not for a dry run."""
    lasting = isinstance(events, Source) and events.fraction is not None
    if resume and (dry_run or not lasting):
        reason = "a dry run writes nothing" if dry_run else "only files can be read again"
        raise UsageError("--resume: there is nothing to resume", reason=reason, next_step="leave --resume out")
    if not lasting or dry_run or not isinstance(events, Source):
        return Checkpoint(None, None)
    identity = [events.identity, where.name, address]
    return Checkpoint.of(f"{events.name} ({where.name})", identity, resume=resume)


def _require(where: Environment, url: str | None) -> bool:
    """Refuse to send events to another environment; return whether its API may have been created just now."""
    found = guard.guard(where, url or "").stack
    return found is not None and not where.embedded and clock.now(where) - found.updated < _NEW


_NEW = timedelta(minutes=15)
_UNKNOWN = Outcome(FAILED, "unknown", 1, 0.0, {"error": "interrupted before its answer came; it may be stored"})


class _Kept(NamedTuple):
    """What is written beside the sending."""

    failed: Lines
    rejects: Lines
    checkpoint: Checkpoint

    def settle(self, ordinal: int, item: Item, outcome: Outcome) -> None:
        """Keep what is not stored, and note that the item has its outcome."""
        if outcome.result == FAILED and not item.cut:
            self.failed.write(one_line(item.body))
        if outcome.result == REJECTED:
            self.rejects.write(reject_line(item, outcome))
        self.checkpoint.settle(ordinal, failed=outcome.result == FAILED)

    def close(self, *, finished: bool) -> None:
        """Close the files."""
        self.failed.close()
        self.rejects.close()
        self.checkpoint.close(finished=finished)


class _Crew:
    """The worker threads of one ``send``; the calling thread reads the input, so Ctrl-C also ends a wait for input."""

    def __init__(self, delivery: Delivery, kept: _Kept, concurrency: int) -> None:
        self.tally = OutcomeCounts()
        self.kept = kept
        self.stopped = ""
        self.too_many_rejected = False
        self.skipped = 0  # settled by an earlier run
        self.on_progress: Callable[[OutcomeCounts], None] | None = None
        self.stop_after: int | None = None
        self._delivery = delivery
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
            if self.kept.checkpoint.is_done(ordinal):
                self.skipped += 1
                continue
            item = self._open[ordinal] = _item(ordinal, event)
            if item.trouble:
                self._settle(ordinal, Outcome(REJECTED, NOT_SENT, 0, 0.0, item.trouble._asdict()))
            else:
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
        if outcome.result == REJECTED and not (item.trouble or item.line):
            _recognise(item, outcome)
        self.kept.settle(position, item, outcome)
        if outcome.hopeless and not self._delivery.stop.is_set():
            self._stop(f"HTTP {outcome.status}: {_reason(outcome)}")
        self.tally.add(item.number, outcome, item.place)
        if outcome.result == REJECTED:
            self._guard()
        if self.on_progress is not None:
            self.on_progress(self.tally)

    def _guard(self) -> None:
        """Stop when so many are rejected that this is the wrong file."""
        rejected, done = self.tally.results[REJECTED], self.tally.done
        limit = self.stop_after
        if limit is None:
            limit = 0 if done - rejected - self.tally.results[FAILED] else WRONG_FILE
        if limit and rejected >= limit and not self._delivery.stop.is_set():
            self.too_many_rejected = True
            self._stop(f"{rejected:,} rejected" + ("" if self.stop_after else ", and none is an event"))

    def _stop(self, reason: str) -> None:
        self.stopped = reason
        self._delivery.stop.set()


def _item(ordinal: int, event: Sendable) -> Item:
    if isinstance(event, Item):
        return event
    if isinstance(event, bytes):
        return Item(ordinal, event)
    try:
        return Item(ordinal, encode(event))
    except (TypeError, ValueError) as error:
        raise UsageError(f"event {ordinal} cannot be JSON", reason=str(error)) from error


def _recognise(item: Item, outcome: Outcome) -> None:
    outcome.answer.update(known_shape(str(outcome.answer.get("code")), item.body))


def known_shape(code: str, body: bytes) -> dict[str, str]:
    """Return what to do about a record that was refused with ``code``, and the mapping's name, when one takes it."""
    if code in _OTHER_SHAPE and (mapping := recognise(body)):
        advice = f"{mapping.about}: the same command with --mapping {mapping.name}"
        return {"do_this": advice, "mapping": mapping.name}
    return {}


def _reason(outcome: Outcome) -> str:
    answer = outcome.answer
    return str(answer.get("error") or answer.get("message") or answer.get("Message") or "no reason given")
