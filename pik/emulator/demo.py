"""The demo's own embedded AWS: started from nothing each time, and never at the cost of anybody's work.

Its state directory lies beside the one that ``local`` uses, so a demo and a person's work never meet. Whoever opens
what a demo left (``pik lab --state``, ``pik local up --state``) may work there too: opening it removes the demo's mark,
and the next demo then puts the directory's contents aside instead of deleting them.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pik import errors
from pik.emulator.instance import kill, recorded, state_dir
from pik.emulator.supervisor import DEMO_MARK, LOCK, Info, clear, locked, requested_realism, start_in


@dataclass(frozen=True)
class Begun:
    """A demo's running embedded AWS; ``kept``: where an earlier state was put that is not the demo's alone."""

    info: Info
    kept: Path | None = None


def demo_state() -> Path:
    """Return the demo's state directory: beside the one that ``local`` has, ``.pik/demo`` or ``<other>-demo``.

    >>> demo_state().name  # doctest: +SKIP
    'demo'
    """
    own = state_dir()
    if own.name == "demo" or own.name.endswith("-demo"):
        return own
    return own.with_name("demo" if own.name == "local" else f"{own.name}-demo")


def begin(state: Path, *, owner: int) -> Begun:
    """Start an embedded AWS that holds nothing in ``state``; ``owner`` as for :func:`pik.emulator.up`.

    What the last demo left is deleted when nobody has opened it since. Everything else is put aside, whole, into a
    directory beside it that ``--state`` opens. An instance without an owner runs on after the demo, for anybody to work
    on: what it holds counts as opened.

    Raises:
        UsageError: ``$PIK_LOCAL_REALISM`` says nothing that can be meant.
        Refused: an embedded AWS runs there: the one of another demo, or one that somebody opened.
        AwsError: it did not start.
    """
    realism = requested_realism()  # a mistake in it is found before anything is deleted
    with locked(state):
        running = recorded(state)
        if running and running.alive:
            raise errors.Refused(
                f"an embedded AWS runs in {state}",
                reason="another demo is at work, or somebody has opened what the last one left",
                next_step="wait for it, or stop it and run the demo again:\n"
                f"pik local down --state {shlex.quote(str(state))}",
            )
        if running:
            kill(running.nonce)  # what a crash left running
        kept = None
        if (state / DEMO_MARK).exists():
            clear(state)
        elif any(entry.name != LOCK for entry in state.iterdir()):
            kept = _put_aside(state)
        info = start_in(state, owner, realism)
        if owner:
            (state / DEMO_MARK).touch()
        return Begun(info, kept)


def _put_aside(state: Path) -> Path:
    kept = state.with_name(f"{state.name}-{datetime.now(UTC):%Y-%m-%dT%H-%M-%S.%fZ}")
    kept.mkdir(mode=0o700)
    for entry in list(state.iterdir()):
        if entry.name != LOCK:
            entry.rename(kept / entry.name)
    return kept
