"""End in order: what closes a terminal or stops a service is treated as Ctrl-C is."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """The process was asked to end: its terminal was closed, or a supervisor stops it."""


@dataclass
class _Held:
    """How many blocks must not be disturbed now, and what came meanwhile."""

    depth: int = 0
    came: list[str] = field(default_factory=list)


_held = _Held()


@contextmanager
def ended_in_order(*also: signal.Signals) -> Iterator[None]:
    """Raise :class:`Terminated` for SIGTERM and SIGHUP meanwhile, so that what was begun is rolled back or recorded.

    ``also``: signals to treat in the same way, such as SIGINT, which a shell ignores for a background job. Outside the
    main thread, where Python sets no handlers, they do what they did before.
    """

    def end(number: int, _: FrameType | None) -> None:
        if not _held.depth:
            raise Terminated(signal.Signals(number).name)
        _held.came.append(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, end) for number in (*ENDING, *also)}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Put SIGTERM and SIGHUP off until the end of the block: a rollback or a record is finished first.

    Ctrl-C still ends it. Works within :func:`ended_in_order`.
    """
    _held.depth += 1
    try:
        yield
    finally:
        _held.depth -= 1
        came = list(_held.came)
        if not _held.depth:
            _held.came.clear()
    if came and not _held.depth:
        raise Terminated(came[0])


def unfailing(say: Callable[[str], None] | None) -> Callable[[str], None]:
    """Return a reporter that ignores a closed terminal or pipe, so that the command continues."""

    def report(text: str) -> None:
        with suppress(OSError, ValueError):
            if say:
                say(text)

    return report
