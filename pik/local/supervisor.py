"""Start, stop and look after the embedded AWS (see ``launcher.py`` for the process itself)."""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pik import errors, project
from pik.local.instance import (
    NONCE_VARIABLE,
    RECORD,
    STATE_VARIABLE,
    Instance,
    is_marked,
    processes,
    recorded,
    state_dir,
)

REGION = "us-east-1"
START_SECONDS = 60.0
STOP_SECONDS = 30.0
HEALTH_SECONDS = 10.0
LOG = "launcher.log"


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


@dataclass(frozen=True)
class Status:
    """What ``pik local status`` shows. Everything but the first three is None while it does not run."""

    running: bool
    state_dir: str
    state_bytes: int
    endpoint: str | None = None
    port: int | None = None
    pid: int | None = None
    uptime_seconds: int | None = None
    memory_bytes: int | None = None
    saved: str | None = None  # UTC; what a crash now would go back to
    note: str = ""


def launch_environment(state: Path, nonce: str, port: int) -> dict[str, str]:
    """Return the whole environment of the emulator: nothing of the caller's, as every Lambda inherits it."""
    return {
        NONCE_VARIABLE: nonce,
        STATE_VARIABLE: str(state),
        "PATH": f"{project.EMULATOR_PYTHON.parent}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(state / "home"),
        "TMPDIR": str(state / "tmp"),
        "LANG": "C.UTF-8",
        "TZ": "UTC",
        "BIND_HOST": "127.0.0.1",
        "GATEWAY_PORT": str(port),
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",  # the launcher corrects both once it is bound
        "AUTH": "true",
        "IOT_MTLS_ENABLED": "false",
        "SFTP_ENABLED": "0",
        "LAMBDA_EXECUTOR": "local",
        "DOCKER_HOST": "unix:///nonexistent",  # also where Docker is installed
        "PERSIST_STATE": "1",
        "STATE_DIR": str(state / "services"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(state / "s3"),
        "ATHENA_ENGINE": "duckdb",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_REGION": REGION,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "*",
    }


def up(state: Path | str | None = None) -> Info:
    """Start the embedded AWS, or return the one that runs already.

    Args:
        state: its state directory; default see :func:`pik.local.state_dir`.

    Raises:
        AwsError: it is not installed, did not start, or does not answer.

    Example:
        >>> up().endpoint  # doctest: +SKIP
        'http://127.0.0.1:43817'
    """
    state = state_dir(state)
    if not project.EMULATOR_PYTHON.exists():
        raise errors.AwsError("the embedded AWS is not installed", next_step="make setup")
    with _lock(state):
        old = recorded(state)
        if old and old.alive:
            _require_health(old)
            return _info(state, old, already_running=True)
        note = _clean_up_after(state, old) if old else ""
        return _info(state, _start(state), note=note)


def down(state: Path | str | None = None) -> bool:
    """Stop the embedded AWS and everything it started, saving its state; return whether it was running.

    Raises:
        AwsError: a process of it cannot be ended.
    """
    state = state_dir(state)
    if not state.exists():
        return False
    with _lock(state):
        return _stop(state)


def reset(state: Path | str | None = None) -> int:
    """Stop the embedded AWS and delete everything in it; return how many bytes that was."""
    state = state_dir(state)
    if not state.exists():
        return 0
    with _lock(state):
        _stop(state)
        size = _size(state)
        for entry in state.iterdir():
            if entry.name == "lock":
                continue
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    return size


def status(state: Path | str | None = None) -> Status:
    """Look, change nothing."""
    state = state_dir(state)
    instance = recorded(state)
    saved = _saved(state)
    if instance is None or not instance.alive:
        note = f"it ended without being stopped; saved state of {saved or 'never'}" if instance else ""
        return Status(False, str(state), _size(state), saved=saved, note=note)
    import psutil

    memory = 0
    for pid in processes(instance.nonce):
        try:
            memory += psutil.Process(pid).memory_info().rss
        except psutil.Error:
            continue
    uptime = datetime.now(UTC) - datetime.fromisoformat(instance.started)
    return Status(
        True,
        str(state),
        _size(state),
        endpoint=instance.endpoint,
        port=instance.port,
        pid=instance.pid,
        uptime_seconds=int(uptime.total_seconds()),
        memory_bytes=memory,
        saved=saved,
        note="" if _healthy(instance, timeout=2) else "it does not answer",
    )


@contextmanager
def embedded(state: Path | str) -> Iterator[Info]:
    """Run an embedded AWS for the duration of a block and always stop it, whatever ends the block.

    Example:
        >>> with embedded("/tmp/scratch") as aws:  # doctest: +SKIP
        ...     print(aws.endpoint)
    """
    try:
        yield up(state)
    finally:
        down(state)


# --- starting -----------------------------------------------------------------------------------------------------


def _start(state: Path) -> Instance:
    for name in ("home", "tmp", "s3", "services"):
        (state / name).mkdir(exist_ok=True)
    nonce = secrets.token_hex(16)
    log = state / LOG
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    launcher = Path(__file__).with_name("launcher.py")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [str(project.EMULATOR_PYTHON), "-I", str(launcher)],
            env=launch_environment(state, nonce, _last_port(state)),
            cwd=state,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        with process:  # ends at once: the launcher continues as a process of its own
            return _handshake(process, state, nonce)
    except BaseException:
        _kill(nonce)
        raise


def _handshake(process: subprocess.Popen[bytes], state: Path, nonce: str) -> Instance:
    """Wait until it serves, write it down, and tell it so; until then it ends when we do."""
    assert process.stdin is not None  # noqa: S101  (for the type checker: both are pipes)
    assert process.stdout is not None  # noqa: S101
    readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if readable else b""
    if not line:
        raise errors.AwsError(
            "the embedded AWS did not start",
            reason=_tail(state / LOG) or f"no sign of life within {START_SECONDS:.0f} s",
            next_step=f"read {state / LOG}",
        )
    ready = json.loads(line)
    instance = Instance(nonce, ready["pid"], ready["port"], datetime.now(UTC).isoformat(timespec="seconds"))
    _require_health(instance)
    instance.write(state)
    (state / "port").write_text(str(instance.port))
    process.stdin.write(b"recorded\n")
    process.stdin.flush()
    return instance


def _last_port(state: Path) -> int:
    """Return the port of the last start, so that addresses stay valid over a restart; 0: any free one."""
    try:
        return int((state / "port").read_text())
    except (OSError, ValueError):
        return 0


def _healthy(instance: Instance, timeout: float) -> bool:
    """Whether the server on the instance's port is that very instance."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{instance.endpoint}/_pik/{instance.nonce}", timeout=timeout) as answer:
            return bool(json.load(answer)["pid"] == instance.pid)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _require_health(instance: Instance) -> None:
    deadline = time.monotonic() + HEALTH_SECONDS
    while time.monotonic() < deadline:
        if _healthy(instance, timeout=HEALTH_SECONDS):
            return
        time.sleep(0.02)
    raise errors.AwsError(
        f"the embedded AWS (process {instance.pid}) does not answer on {instance.endpoint}",
        next_step="pik local down, then pik local up",
    )


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
        _signal(instance.pid, instance.nonce, signal.SIGTERM)
        _wait_gone(instance.nonce, STOP_SECONDS)
    _kill(instance.nonce)
    shutil.rmtree(state / "tmp", ignore_errors=True)
    return was_alive


def _clean_up_after(state: Path, crashed: Instance) -> str:
    """Remove what an instance that ended uncleanly left behind; return what that means for its state."""
    _kill(crashed.nonce)
    shutil.rmtree(state / "tmp", ignore_errors=True)
    (state / RECORD).unlink(missing_ok=True)
    saved = _saved(state)
    if saved is None:
        return "the last run ended uncleanly before anything was saved: starting empty, but for S3 objects"
    return (
        f"the last run ended uncleanly: continuing from what was saved at {saved}. "
        "S3 objects are always kept, so they may be ahead of the tables: send again what was sent after that"
    )


def _signal(pid: int, nonce: str, number: signal.Signals) -> None:
    if is_marked(pid, nonce):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return


def _wait_gone(nonce: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while processes(nonce):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _kill(nonce: str) -> None:
    """End every process of an instance, now, those too that it is starting at this moment."""
    for _ in range(50):
        left = processes(nonce)
        if not left:
            return
        for pid in left:
            _signal(pid, nonce, signal.SIGKILL)
        _wait_gone(nonce, 0.1)
    raise errors.AwsError(
        f"processes of the embedded AWS do not end: {', '.join(map(str, left))}",
        next_step="see what they wait for (ps, dmesg), then pik local down",
    )


# --- small things -------------------------------------------------------------------------------------------------


@contextmanager
def _lock(state: Path) -> Iterator[None]:
    """Let one command at a time change an instance. The kernel frees the lock with its process."""
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (state / "lock").open("w") as handle:
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


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else ""
