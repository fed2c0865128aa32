"""Which embedded AWS belongs to this checkout, and whether it is alive."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from pik import errors, project
from pik.emulator import realism as realism_mode

STATE_VARIABLE = "PIK_LOCAL_STATE"  # another state directory: how tests keep off a developer's own instance
OWNER_VARIABLE = "PIK_LOCAL_OWNER"  # a process without which an instance does not run on; 0: none
NONCE_VARIABLE = "PIK_LOCAL_NONCE"  # marks every process of an instance
RECORD = "instance.json"


def state_dir(path: Path | str | None = None) -> Path:
    """Return the state directory: ``path``, else ``$PIK_LOCAL_STATE``, else ``.pik/local`` below the checkout."""
    return Path(path or os.environ.get(STATE_VARIABLE) or project.LOCAL_STATE).resolve()


def the_owner(pid: int | None = None) -> int:
    """Return the process that an instance is for: ``pid``, else ``$PIK_LOCAL_OWNER``, else 0 (nobody in particular)."""
    return int(os.environ.get(OWNER_VARIABLE, "0")) if pid is None else pid


@dataclass(frozen=True)
class Instance:
    """A started embedded AWS, as its record in the state directory tells it.

    ``nonce`` is in the environment of each of its processes and part of its health path. So a process id that the
    system has given to somebody else since, or a stranger's server on the same port, is never taken for it.
    """

    nonce: str
    pid: int
    port: int
    started: str  # UTC, ISO 8601
    realism: str = ""  # the settings of the realism mode in one line; empty: it is off

    @property
    def endpoint(self) -> str:
        """Base address of every service."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def region(self) -> str:
        """The region that it is in."""
        return realism_mode.RealismSettings.parse(self.realism).region if self.realism else realism_mode.REGION

    @property
    def alive(self) -> bool:
        """Whether the process that was started is still there."""
        return is_marked(self.pid, self.nonce)

    def write(self, state: Path) -> None:
        """Record the instance, atomically."""
        partial = state / f"{RECORD}.tmp"
        partial.write_text(json.dumps(asdict(self)))
        partial.replace(state / RECORD)


def recorded(state: Path) -> Instance | None:
    """Return the recorded instance, alive or not; an unreadable record is none."""
    try:
        return Instance(**json.loads((state / RECORD).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def is_marked(pid: int, nonce: str) -> bool:
    """Whether ``pid`` runs and belongs to the instance with this nonce."""
    try:
        process = psutil.Process(pid)
        marked = process.environ().get(NONCE_VARIABLE) == nonce
        return bool(marked and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, OSError):
        return False


def processes(nonce: str) -> list[int]:
    """Return the ids of every process of an instance: itself, its guard, its Lambda workers."""
    return [pid for pid in psutil.pids() if pid != os.getpid() and is_marked(pid, nonce)]


def send_signal(pid: int, nonce: str, number: signal.Signals) -> None:
    """Send a signal to a process of the instance, and to no other."""
    if is_marked(pid, nonce):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def wait_gone(nonce: str, seconds: float) -> bool:
    """Wait until no process of the instance is left; return whether that is so."""
    deadline = time.monotonic() + seconds
    while processes(nonce):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def kill(nonce: str) -> None:
    """End every process of an instance, now, those too that it is starting at this moment."""
    for _ in range(50):
        left = processes(nonce)
        if not left:
            return
        for pid in left:
            send_signal(pid, nonce, signal.SIGKILL)
        wait_gone(nonce, 0.1)
    raise errors.AwsError(
        f"processes of the embedded AWS do not end: {', '.join(map(str, left))}",
        next_step="see what they wait for (ps, dmesg), then\npik local down",
    )


def running(state: Path | str | None = None) -> Instance:
    """Return the embedded AWS of this checkout.

    Cheap (one file, one look at a process), so call it each time: addresses change with a restart.

    Raises:
        AwsError: it is not running.

    Example:
        >>> running().region  # doctest: +SKIP
        'us-east-1'
    """
    instance = recorded(state_dir(state))
    if instance is None or not instance.alive:
        raise errors.AwsError(
            "the embedded AWS is not running",
            reason="it ended without being stopped" if instance else "",
            next_step="pik local up",
        )
    return instance


def running_endpoint(state: Path | str | None = None) -> str:
    """Return the address of the embedded AWS of this checkout; raises as :func:`running`.

    Example:
        >>> running_endpoint()  # doctest: +SKIP
        'http://127.0.0.1:43817'
    """
    return running(state).endpoint
