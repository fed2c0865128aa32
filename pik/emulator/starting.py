"""How the process of the embedded AWS is started, and how we know that it is the one."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import select
import subprocess
import time
import urllib.request
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pik import errors, project
from pik.emulator import realism as realism_mode
from pik.emulator.instance import NONCE_VARIABLE, OWNER_VARIABLE, STATE_VARIABLE, Instance, kill
from pik.partitions import partition

START_SECONDS = 60.0
HEALTH_SECONDS = 10.0
WARM_SECONDS = 60  # a worker that a burst left idle for so long is ended; each function keeps one
LOG = "launcher.log"
PARTITION = "partition"  # the partition that the state is of: its ARNs are everywhere in it
REALISM = "realism.json"  # what the launcher leaves of the realism mode: how often each habit struck


def launch_environment(
    state: Path, nonce: str, port: int, owner: int = 0, realism: realism_mode.RealismSettings | None = None
) -> dict[str, str]:
    """Return the whole environment of the emulator: nothing of the caller's, as every Lambda inherits it."""
    region = realism.region if realism else realism_mode.REGION
    return _realism_environment(realism) | {
        NONCE_VARIABLE: nonce,
        STATE_VARIABLE: str(state),
        OWNER_VARIABLE: str(owner),
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
        "LAMBDA_WARM_TTL_SECONDS": str(WARM_SECONDS),
        "DOCKER_HOST": "unix:///nonexistent",  # also where Docker is installed
        "PERSIST_STATE": "1",
        "STATE_DIR": str(state / "services"),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(state / "s3"),
        "ATHENA_ENGINE": "duckdb",
        "LOG_LEVEL": "WARNING",
        "MINISTACK_REGION": region,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": "*",
    }


def _realism_environment(realism: realism_mode.RealismSettings | None) -> dict[str, str]:
    if realism is None:
        return {}
    found = {realism_mode.VARIABLE: realism.text}
    if realism.has("lambda-limits"):
        found["LAMBDA_ACCOUNT_CONCURRENCY"] = str(realism_mode.CONCURRENCY)
    if realism.skew:
        worker = Path(realism_mode.__file__).with_name("worker")
        found |= {realism_mode.SKEW_VARIABLE: str(realism.skew), "PYTHONPATH": str(worker)}
    return found


def start(state: Path, owner: int = 0, realism: realism_mode.RealismSettings | None = None) -> Instance:
    """Start an instance on a state directory and record it once it serves; nothing is left of one that does not.

    Raises:
        Refused: what is saved there is of another partition.
        AwsError: it did not start.
    """
    _keep_partition(state, realism.region if realism else realism_mode.REGION)
    for name in ("home", "tmp", "s3", "services"):
        (state / name).mkdir(exist_ok=True)
    (state / REALISM).unlink(missing_ok=True)
    nonce = secrets.token_hex(16)
    log = state / LOG
    if log.exists():
        log.replace(log.with_suffix(".log.1"))
    launcher = Path(__file__).with_name("launcher.py")
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            [str(project.EMULATOR_PYTHON), "-I", str(launcher)],
            env=launch_environment(state, nonce, _last_port(state), owner, realism),
            cwd=state,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
        )
    try:
        with process:  # ends at once: the launcher continues as a process of its own
            return _handshake(process, state, nonce, realism.text if realism else "")
    except BaseException:
        kill(nonce)
        raise


def _keep_partition(state: Path, region: str) -> None:
    """Note the partition that a state is of, with its first start, and refuse another one from then on."""
    file, wanted = state / PARTITION, partition(region).name
    older = any((state / "snapshots").glob("*"))  # from before this was noted
    had = file.read_text() if file.exists() else "aws" if older else wanted
    if had != wanted:
        raise errors.Refused(
            f"what the embedded AWS holds in {state} is of the partition {had}, and {region} is in {wanted}",
            reason="the partition is in every ARN that is stored",
            next_step="name a region of that partition (--region) or another --state, or delete what it holds:\n"
            "pik local reset",
        )
    file.write_text(wanted)


def _handshake(process: subprocess.Popen[bytes], state: Path, nonce: str, realism: str) -> Instance:
    """Wait until it serves, write it down, and tell it so; until then it ends when we do."""
    assert process.stdin is not None  # noqa: S101  (for the type checker: both are pipes)
    assert process.stdout is not None  # noqa: S101
    readable, _, _ = select.select([process.stdout], [], [], START_SECONDS)
    line = process.stdout.readline() if readable else b""
    instance = None
    if line:
        ready = json.loads(line)
        started = datetime.now(UTC).isoformat(timespec="seconds")
        instance = Instance(nonce, ready["pid"], ready["port"], started, realism)
    if instance is None or not answers(instance):
        raise errors.AwsError(
            "the embedded AWS did not start",
            reason=_tail(state / LOG) or f"no sign of life within {START_SECONDS:.0f} s",
            next_step=f"read {state / LOG}",
        )
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


def healthy(instance: Instance, timeout: float) -> bool:
    """Whether the server on the instance's port is that very instance."""
    return identity(instance, timeout) is not None


def identity(instance: Instance, timeout: float) -> dict[str, Any] | None:
    """Return what the instance says of itself (``pid``, ``realism``); None when it does not answer, or another does."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{instance.endpoint}/_pik/{instance.nonce}", timeout=timeout) as answer:
            found: dict[str, Any] = json.load(answer)
            return found if found["pid"] == instance.pid else None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None


def answers(instance: Instance) -> bool:
    """Wait for the instance to answer; False when it ends instead.

    Raises:
        AwsError: it lives, and does not answer.
    """
    deadline = time.monotonic() + HEALTH_SECONDS
    while time.monotonic() < deadline:
        if healthy(instance, timeout=HEALTH_SECONDS):
            return True
        if not instance.alive:
            return False
        time.sleep(0.02)
    raise errors.AwsError(
        f"the embedded AWS (process {instance.pid}) does not answer on {instance.endpoint}",
        next_step="pik local down\npik local up",
    )


def _tail(path: Path) -> str:
    lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
    return lines[-1] if lines else ""
