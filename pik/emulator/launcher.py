"""The process of the embedded AWS: ministack behind a guard, with a consistent saved state.

Runs under the emulator's own Python (``.tools/emulator``), so it imports nothing of ``pik``; ``supervisor.py`` starts
it with a scrubbed environment and talks to it over two pipes. What it adds to ``python -m ministack``:

* It binds its own port (no race for it), and refuses what a browser sends: the emulator answers every origin and its
  root keys can be guessed, so without this any web page could drive it.
* It saves its state as one consistent snapshot whenever it is quiet, not only at the end: a ``kill -9`` costs seconds.
* Nothing outlives it. A guard process waits for its death, whatever the cause, and then kills its process group: Lambda
  workers too, in the middle of whatever they do. (PR_SET_PDEATHSIG will not do: it fires when the *thread* that started
  the worker ends, and ministack starts workers from short-lived threads.)
* It ends by itself when its record (``instance.json``) is gone: after ``rm -rf .pik``, or when the supervisor died
  before it wrote one; and, if it was started for one process only (tests, the demo), when that process is gone.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

# The modules beside this file: it is a script, there is no package around it.
sys.path.append(str(Path(__file__).parent))
import apis
import compact
import realism
import worker_logs
from gateway import Gateway
from realism import partition, skew, world
from snapshots import MOST_BEHIND_SECONDS, Snapshots, pause_after
from telemetry import Telemetry

SAMPLE_SECONDS = 60.0  # how often AWS publishes a queue's metrics
STOP_SECONDS = 5.0  # for requests in flight
OVERDUE_SECONDS = MOST_BEHIND_SECONDS  # saved after so long even when it is not quiet

log = logging.getLogger("pik.emulator")


def detach() -> None:
    """Continue as a child of init in a session (and process group) of its own."""
    if os.fork():
        os._exit(0)
    os.setsid()


def spawn_guard() -> None:
    """Start the process that kills our process group once we are gone: our end of its stdin closes with us."""
    script = "trap '' HUP INT TERM; read -r _; kill -KILL 0"
    # Kept open on purpose, for as long as this process lives.
    subprocess.Popen(["/bin/sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def bind(preferred: int) -> socket.socket:
    """Bind a loopback port: the preferred one, else any free one."""
    for port in (preferred, 0):
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            listener.close()
            if not port:
                raise
        else:
            return listener
    raise AssertionError


def load_emulator(state: Path):
    """Import ministack (it reads its configuration from the environment now) and take over where it saves."""
    from ministack import app as emulator
    from ministack.core import hypercorn_compat, lambda_runtime
    from ministack.services import dynamodb, lambda_svc  # noqa: F401  (it fixes its code directory on import, so now)

    hypercorn_compat.install()
    compact.install(dynamodb)
    worker_logs.install(lambda_runtime)
    snapshots = Snapshots(state, emulator._build_persistence_save_dict)
    snapshots.restore()
    emulator.save_all = lambda services: None  # its own save at the end; ours is consistent
    return emulator, snapshots


async def keep_saved(gateway: Gateway, snapshots: Snapshots) -> None:
    """Save whenever it is quiet (then no request is half done), and under load that never pauses now and then."""
    next_save = 0.0
    while True:
        await asyncio.sleep(0.25)
        now = time.monotonic()
        since = gateway.unsaved_since
        if since is None or now < next_save or not (gateway.quiet or now - since > OVERDUE_SECONDS):
            continue
        gateway.unsaved_since = None
        try:
            complete = await snapshots.save()
        except OSError:
            complete = False
            log.exception("could not save the state; trying again")
        if not complete:
            gateway.touch()
        ended = time.monotonic()
        next_save = ended + pause_after(ended - now)


async def keep_real(habits) -> None:
    """Let time pass for the habits of the realism mode."""
    swept = time.monotonic()
    while True:
        await asyncio.sleep(0.1)
        try:
            habits.tick()
        except Exception:
            log.exception("a habit of the realism mode failed; going on")
        if time.monotonic() - swept >= habits.lifecycle.every:
            swept = time.monotonic()
            sweeping = asyncio.create_task(asyncio.to_thread(habits.sweep))
            sweeping.add_done_callback(lambda done: done.exception() and log.error("no sweep: %s", done.exception()))


def not_a_cut(record: logging.LogRecord) -> bool:
    """Whether the server logs something else than a connection that was cut on purpose."""
    return not (record.exc_info and record.exc_info[0] is realism.ConnectionCut)


def make_real(telemetry):
    """Return the habits that were asked for, acting on the emulator; None without realism mode."""
    text = os.environ.get(realism.VARIABLE)
    if not text:
        return None
    settings = realism.RealismSettings.parse(text)
    habits = realism.Realism(settings, world.Ministack(os.environ["AWS_ENDPOINT_URL"], settings.region))
    logging.getLogger("hypercorn.error").addFilter(not_a_cut)
    world.delay_telemetry(telemetry, habits.late("late-metrics"), habits.late("late-logs"))
    if habits.settings.has("slow-invocations"):
        world.delay_batches(habits.slow)
    if habits.settings.compress > 1:
        world.compress_second_tries(habits.settings.compress)
    if habits.settings.has("lambda-limits"):
        world.count_throttles(lambda: habits.tally.struck("lambda-limits"))
    if habits.settings.has("partition"):
        world.refuse_foreign(habits.partition)
    if habits.settings.fail_resource:
        world.fail_resource(habits.settings.fail_resource, lambda: habits.tally.struck("fail-resource"))
    return habits


async def keep_sampling(telemetry) -> None:
    """Sample queues and evaluate alarms once a minute."""
    while True:
        await asyncio.sleep(SAMPLE_SECONDS)
        try:
            telemetry.sample()
        except Exception:
            log.exception("could not sample the metrics; trying again in a minute")


async def watch(record: Path, nonce: str, owner: int, stop: asyncio.Event) -> None:
    """Stop once the record that this instance exists is gone or is another's, or its owner has ended."""
    while not stop.is_set():
        await asyncio.sleep(0.5)
        try:
            mine = json.loads(record.read_text())["nonce"] == nonce
        except (OSError, ValueError, KeyError):
            mine = False
        if not mine:
            log.warning("%s is gone or another's: stopping", record)
            stop.set()
        if owner and not alive(owner):
            log.warning("process %s, for which this ran, is gone: stopping", owner)
            stop.set()


def alive(pid: int) -> bool:
    """Whether there is such a process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


async def serve(state: Path, nonce: str, listener: socket.socket) -> None:
    """Serve until a signal, or until nobody knows of this instance any more."""
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config

    partition.install(os.environ["AWS_REGION"])
    emulator, snapshots = load_emulator(state)
    telemetry = Telemetry()
    habits = make_real(telemetry)
    app = habits.middleware(emulator.app, world.Connections().cut) if habits else emulator.app
    gateway = Gateway(app, nonce, telemetry, apis.home, habits.report if habits else None)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.keep_alive_timeout = 75
    config.loglevel = "WARNING"
    server = asyncio.create_task(
        hypercorn_serve(gateway, config, shutdown_trigger=stop.wait, mode="asgi"), name="server"
    )
    await asyncio.wait({server, asyncio.create_task(gateway.started.wait())}, return_when="FIRST_COMPLETED")
    if not server.done():
        confirmed = await asyncio.to_thread(report_ready, listener.getsockname()[1])
        if not confirmed:
            stop.set()
    background = [
        asyncio.create_task(keep_saved(gateway, snapshots)),
        asyncio.create_task(keep_sampling(telemetry)),
        asyncio.create_task(watch(state / "instance.json", nonce, int(os.environ["PIK_LOCAL_OWNER"]), stop)),
    ]
    if habits:
        background.append(asyncio.create_task(keep_real(habits)))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({server, stopping}, return_when="FIRST_COMPLETED")
    for task in background:
        task.cancel()
    # hypercorn lets requests end for three seconds, but a Lambda that runs for longer cannot be interrupted from here.
    await asyncio.wait({server}, timeout=STOP_SECONDS)
    if server.done() and server.exception():
        log.error("the server ended with an error", exc_info=server.exception())
    record = state / "instance.json"
    if not record.exists():  # nobody knows of us, or the directory is gone: nothing to keep
        leave(1)
    if habits:
        habits.flush()
        (state / "realism.json").write_text(json.dumps(habits.report()))
    leave(0 if snapshots.save_last() and forget(record, nonce) else 1)


def leave(code: int) -> None:
    """End now, waiting for no thread; the guard ends the workers."""
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


def report_ready(port: int) -> bool:
    """Tell the supervisor our process and port; return whether it has written them down."""
    print(json.dumps({"pid": os.getpid(), "port": port}), flush=True)  # noqa: T201
    confirmed = sys.stdin.readline().strip() == "recorded"
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return confirmed


def forget(record: Path, nonce: str) -> bool:
    """Remove our record: the sign that this instance ended cleanly; return whether it was ours."""
    try:
        ours = json.loads(record.read_text())["nonce"] == nonce
        if ours:
            record.unlink()
    except (OSError, ValueError, KeyError):
        return False
    return bool(ours)


def main() -> None:
    """Detach, guard, bind, serve, and leave nothing behind."""
    state = Path(os.environ["PIK_LOCAL_STATE"])
    nonce = os.environ["PIK_LOCAL_NONCE"]
    if realism.SKEW_VARIABLE in os.environ:
        skew.install(float(os.environ[realism.SKEW_VARIABLE]))
    detach()
    spawn_guard()
    listener = bind(int(os.environ["GATEWAY_PORT"]))
    port = listener.getsockname()[1]
    os.environ["GATEWAY_PORT"] = str(port)
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        asyncio.run(serve(state, nonce, listener))
    except Exception:
        log.exception("the embedded AWS ended with an error")
    leave(1)


if __name__ == "__main__":
    main()
