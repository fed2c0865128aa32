"""Start, stop and look after the embedded AWS (see ``launcher.py`` for the process itself)."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pik import errors, project
from pik.emulator import realism as realism_mode
from pik.emulator.instance import (
    RECORD,
    Instance,
    kill,
    processes,
    recorded,
    send_signal,
    state_dir,
    the_owner,
    wait_gone,
)
from pik.emulator.memory import memory
from pik.emulator.starting import REALISM, answers, identity, start

STOP_SECONDS = 90.0  # a large state takes a while to save
LOCK = "lock"
DEMO_MARK = "left-by-demo"  # only the demo has had this state open: the next demo may delete it


@dataclass(frozen=True)
class Info:
    """A running embedded AWS. ``note`` says what a person should know about how it came up, or nothing."""

    endpoint: str
    port: int
    pid: int
    state_dir: str
    started: str
    already_running: bool = False
    note: str = ""
    realism: str = ""  # its settings in one line; empty: the mode is off


@dataclass(frozen=True)
class EmulatorStatus:
    """What ``pik local status`` shows. Everything but the first three is None while it does not run."""

    running: bool
    state_dir: str
    state_bytes: int
    endpoint: str | None = None
    port: int | None = None
    pid: int | None = None
    uptime_seconds: int | None = None
    memory_bytes: int | None = None
    memory_left_bytes: int | None = None  # on this machine, or in this container
    events_that_fit: int | None = None  # about how many more
    saved: str | None = None  # UTC; what a crash now would go back to
    note: str = ""
    realism: dict[str, Any] | None = None  # its settings, the clock skew, and how often each habit struck


def up(
    state: Path | str | None = None, *, owner: int | None = None, realism: realism_mode.RealismSettings | None = None
) -> Info:
    """Start the embedded AWS, or return the one that runs already.

    Args:
        state: its state directory; default see :func:`pik.emulator.state_dir`.
        owner: a process without which it shall not run on, default ``$PIK_LOCAL_OWNER``; 0: it runs until ``down``.
        realism: with AWS's habits, see :mod:`pik.emulator.realism`; default ``$PIK_LOCAL_REALISM``, else without.

    Raises:
        UsageError: ``$PIK_LOCAL_REALISM`` says nothing that can be meant.
        Refused: it runs already, with other habits than those that are asked for.
        AwsError: it is not installed, did not start, or does not answer.

    Example:
        >>> up().endpoint  # doctest: +SKIP
        'http://127.0.0.1:43817'
    """
    state, realism = state_dir(state), realism or requested_realism()
    with locked(state):
        (state / DEMO_MARK).unlink(missing_ok=True)  # from now on it may hold somebody's work
        old = recorded(state)
        if old and old.alive and answers(old):
            _refuse_other_habits(old, realism)
            info = _info(state, old, already_running=True)
        else:
            note = _clean_up_after(state, old) if old else ""
            info = start_in(state, the_owner(owner), realism, note=note)
        return _with_memory(info)


def _with_memory(info: Info) -> Info:
    """Say at once when what is going to be ingested will not fit."""
    instance = recorded(Path(info.state_dir))
    warning = memory(processes(instance.nonce)).warning if instance else ""
    return replace(info, note="; ".join(filter(None, (info.note, warning))))


def requested_realism() -> realism_mode.RealismSettings | None:
    """Return what ``$PIK_LOCAL_REALISM`` asks for; None when it is not set."""
    text = os.environ.get(realism_mode.VARIABLE, "").strip()
    try:
        return realism_mode.RealismSettings.parse(text) if text else None
    except ValueError as error:
        raise errors.UsageError(
            f"{realism_mode.VARIABLE} is not understood: {text}",
            reason=str(error),
            next_step=f'{realism_mode.VARIABLE}="7 compress=10"',
        ) from None


def _refuse_other_habits(running: Instance, asked: realism_mode.RealismSettings | None) -> None:
    if asked and asked.text != running.realism:
        raise errors.Refused(
            f"the embedded AWS runs already, {_habits(running.realism)}",
            reason=f"asked for: {_habits(asked.text)}",
            next_step="pik local down\nthen up again, as asked for",
        )


def _habits(text: str) -> str:
    return f"in realism mode with seed {text}" if text else "without realism mode"


def start_in(state: Path, owner: int, realism: realism_mode.RealismSettings | None, note: str = "") -> Info:
    """Start an instance in ``state``, whose lock the caller holds and in which none runs."""
    if not project.EMULATOR_PYTHON.exists():
        raise errors.AwsError("the embedded AWS is not installed", next_step="make setup")
    return _info(state, start(state, owner, realism), note=note)


def down(state: Path | str | None = None) -> bool:
    """Stop the embedded AWS and everything it started, saving its state; return whether it was running.

    Raises:
        AwsError: a process of it cannot be ended.
    """
    state = state_dir(state)
    if not state.exists():
        return False
    with locked(state):
        return _stop(state)


def reset(state: Path | str | None = None) -> int:
    """Stop the embedded AWS and delete everything in it; return how many bytes that was."""
    state = state_dir(state)
    if not state.exists():
        return 0
    with locked(state):
        _stop(state)
        size = _size(state)
        clear(state)
    return size


def clear(state: Path) -> None:
    """Delete everything in ``state``, whose lock the caller holds, but the lock."""
    for entry in state.iterdir():
        if entry.name != LOCK:
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def status(state: Path | str | None = None) -> EmulatorStatus:
    """Look, change nothing."""
    state = state_dir(state)
    instance = recorded(state)
    saved = _saved(state)
    if instance is None or not instance.alive:
        note = f"it ended without being stopped; saved state of {saved or 'never'}" if instance else ""
        return EmulatorStatus(False, str(state), _size(state), saved=saved, note=note, realism=last_realism(state))
    space = memory(processes(instance.nonce))
    answer = identity(instance, timeout=2)
    uptime = datetime.now(UTC) - datetime.fromisoformat(instance.started)
    return EmulatorStatus(
        True,
        str(state),
        _size(state),
        endpoint=instance.endpoint,
        port=instance.port,
        pid=instance.pid,
        uptime_seconds=int(uptime.total_seconds()),
        memory_bytes=space.used,
        memory_left_bytes=space.left,
        events_that_fit=space.events,
        saved=saved,
        note=space.warning if answer else "it does not answer",
        realism=answer.get("realism") if answer else None,
    )


def last_realism(state: Path | str | None = None) -> dict[str, Any] | None:
    """Return what the last run left of its realism mode, once it has ended; None when it was off."""
    try:
        found: dict[str, Any] = json.loads((state_dir(state) / REALISM).read_text())
    except (OSError, ValueError):
        return None
    return found


@contextmanager
def embedded(state: Path | str) -> Iterator[Info]:
    """Run an embedded AWS for the duration of a block and always stop it, whatever ends the block or this process.

    Example:
        >>> with embedded("/tmp/scratch") as aws:  # doctest: +SKIP
        ...     print(aws.endpoint)
    """
    try:
        yield up(state, owner=os.getpid())
    finally:
        down(state)


# --- stopping -----------------------------------------------------------------------------------------------------


def _stop(state: Path) -> bool:
    """Stop what is recorded; return whether it ran.

    A clean end removes the record. After any other the record stays, so that the next ``up`` says what that means.
    """
    instance = recorded(state)
    if instance is None:
        return False
    was_alive = instance.alive
    if was_alive:
        send_signal(instance.pid, instance.nonce, signal.SIGTERM)
        wait_gone(instance.nonce, STOP_SECONDS)
    kill(instance.nonce)
    shutil.rmtree(state / "tmp", ignore_errors=True)
    return was_alive


def _clean_up_after(state: Path, crashed: Instance) -> str:
    """Remove what an instance that ended uncleanly left behind; return what that means for its state."""
    kill(crashed.nonce)
    shutil.rmtree(state / "tmp", ignore_errors=True)
    (state / RECORD).unlink(missing_ok=True)
    saved = _saved(state)
    if saved is None:
        return "the last run ended uncleanly before anything was saved: starting empty, but for S3 objects"
    return (
        f"the last run ended uncleanly: continuing from what was saved at {saved}. "
        "S3 objects are always kept, so they may be ahead of the tables: send again what was sent after that"
    )


# --- small things -------------------------------------------------------------------------------------------------


@contextmanager
def locked(state: Path) -> Iterator[None]:
    """Let one command at a time change an instance. The kernel frees the lock with its process."""
    project.private_folder(state)
    with (state / LOCK).open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _info(state: Path, instance: Instance, *, already_running: bool = False, note: str = "") -> Info:
    return Info(
        instance.endpoint,
        instance.port,
        instance.pid,
        str(state),
        instance.started,
        already_running=already_running,
        note=note,
        realism=instance.realism,
    )


def _saved(state: Path) -> str | None:
    """When the state was last saved (UTC)."""
    found = sorted(path for path in (state / "snapshots").glob("*") if path.name.isdigit())
    if not found:
        return None
    return datetime.fromtimestamp(found[-1].stat().st_mtime, UTC).isoformat(timespec="seconds")


def _size(state: Path) -> int:
    total = 0
    for folder, _, names in os.walk(state):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total
