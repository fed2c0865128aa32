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
  before it wrote one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

QUIET_SECONDS = 1.0  # no request for so long: a good moment to save
SAVE_EVERY_SECONDS = 5.0  # and no more often than this
WORK_TO_SAVE_RATIO = 20  # and never spend more than a twentieth of the time on it
LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")
# Names that a stranger's DNS cannot point at this machine (against DNS rebinding).
SAFE_SUFFIXES = (".localhost", ".127.0.0.1", ".amazonaws.com")

log = logging.getLogger("pik.local")


class Snapshots:
    """Numbered directories of service state; the highest complete one is what the next start gets."""

    def __init__(self, state: Path) -> None:
        self.root = state / "snapshots"
        self.services = state / "services"  # where ministack loads from, and keeps code blobs and keys

    def latest(self) -> Path | None:
        """Return the newest complete snapshot."""
        found = sorted(p for p in self.root.glob("*") if p.name.isdigit())
        return found[-1] if found else None

    def restore(self) -> None:
        """Put the newest snapshot where ministack looks for its state."""
        self.root.mkdir(exist_ok=True)
        self.services.mkdir(exist_ok=True)
        for stale in (*self.services.glob("*.json"), *self.services.glob("*.tmp")):
            stale.unlink()
        for partial in self.root.glob("*.tmp"):
            shutil.rmtree(partial)
        latest = self.latest()
        for file in latest.glob("*.json") if latest else ():
            shutil.copy(file, self.services / file.name)

    def save(self, services: dict) -> bool:
        """Write one snapshot of ``{service: get_state}``; return whether every service could be read."""
        from ministack.core import persistence

        previous = self.latest()
        target = self.root / f"{int(previous.name) + 1 if previous else 1:08d}"
        partial = target.with_suffix(".tmp")
        partial.mkdir(parents=True)
        persistence.STATE_DIR = str(partial)
        complete = True
        for name, get_state in services.items():
            state = _read(name, get_state)
            if state is not None:
                persistence.save_state(name, state)
            if not (partial / f"{name}.json").exists() and previous and (previous / f"{name}.json").exists():
                os.link(previous / f"{name}.json", partial / f"{name}.json")
                complete = False
        partial.rename(target)
        for old in self.root.glob("*"):
            if old != target:
                shutil.rmtree(old, ignore_errors=True)
        return complete


def _read(name: str, get_state):
    for _ in range(5):
        try:
            return get_state()
        except RuntimeError:  # a background thread changed a dictionary while it was copied
            time.sleep(0.02)
        except Exception:
            break
    log.exception("could not read the state of %s; its last saved state is kept", name)
    return None


class Gateway:
    """ASGI application around ministack's: refuses browsers, answers for its identity, knows when it is quiet."""

    def __init__(self, app, nonce: str) -> None:
        self.app = app
        self.identity_path = f"/_pik/{nonce}"
        self.started = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()
        self.in_flight = 0
        self.unsaved = False
        self.last_request = 0.0

    async def __call__(self, scope, receive, send) -> None:
        """Serve one connection (ASGI)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, self._watch_startup(send))
            return
        refusal = browser_request(scope)
        if refusal:
            await _refuse(scope, receive, send, refusal)
        elif scope.get("path", "").startswith("/_pik/"):
            known = scope["path"] == self.identity_path
            await _answer(send, 200 if known else 404, {"pid": os.getpid()} if known else {"error": "not mine"})
        else:
            await self._serve(scope, receive, send)

    def _watch_startup(self, send):
        async def watched(message) -> None:
            await send(message)
            if message["type"] == "lifespan.startup.complete":
                self.started.set()

        return watched

    async def _serve(self, scope, receive, send) -> None:
        await self.open.wait()
        self.in_flight += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self.in_flight -= 1
            self.unsaved = True
            self.last_request = time.monotonic()

    @property
    def quiet(self) -> bool:
        """Whether nobody is being served and nobody was just now."""
        return self.in_flight == 0 and time.monotonic() - self.last_request >= QUIET_SECONDS


def browser_request(scope) -> str:
    """Return why a request is taken for a web page's, or nothing."""
    headers = {name.lower(): value for name, value in scope.get("headers", [])}
    if b"origin" in headers:
        return "it carries an Origin header"
    if headers.get(b"sec-fetch-site", b"none") != b"none":
        return "it carries a Sec-Fetch-Site header"
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host if host.endswith("]") else host.rsplit(":", 1)[0]
    if name and name not in LOOPBACK_NAMES and not name.endswith(SAFE_SUFFIXES):
        return f"its Host is {name[:100]}"
    return ""


async def _refuse(scope, receive, send, reason: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})
        return
    error = f"the embedded AWS does not serve web pages; this request looks like one: {reason}"
    await _answer(send, 403, {"error": error})


async def _answer(send, status: int, body: dict) -> None:
    payload = json.dumps(body).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(payload)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": payload})


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
    from ministack.core import hypercorn_compat
    from ministack.services import cloudwatch, lambda_svc  # noqa: F401  (lambda_svc: fixes its code directory now)

    hypercorn_compat.install()
    snapshots = Snapshots(state)
    snapshots.restore()

    def save(services: dict) -> bool:
        return snapshots.save(services) if state.joinpath("instance.json").exists() else True

    emulator.save_all = save  # what its shutdown calls
    # Its own evaluation pools all dimensions of a metric (every queue's messages count for each queue's alarm).
    # pik.local.metrics evaluates alarms by their dimensions and sets their state.
    cloudwatch._evaluate_alarm = lambda alarm: None
    return emulator, save


async def keep_saved(gateway: Gateway, emulator, save) -> None:
    """Save whenever it is quiet; requests wait for the moment that takes, so that the snapshot is of one moment."""
    next_save = 0.0
    while True:
        await asyncio.sleep(0.25)
        if not (gateway.unsaved and gateway.quiet and time.monotonic() >= next_save):
            continue
        began = time.monotonic()
        gateway.open.clear()
        try:
            complete = await asyncio.to_thread(save, emulator._build_persistence_save_dict())
            gateway.unsaved = not complete
        except Exception:
            log.exception("could not save the state; trying again")
        finally:
            gateway.open.set()
        took = time.monotonic() - began
        next_save = time.monotonic() + max(SAVE_EVERY_SECONDS, took * WORK_TO_SAVE_RATIO)


async def watch_record(record: Path, nonce: str, stop: asyncio.Event) -> None:
    """Stop once the record that this instance exists is gone or is another's."""
    while not stop.is_set():
        await asyncio.sleep(0.5)
        try:
            mine = json.loads(record.read_text())["nonce"] == nonce
        except (OSError, ValueError, KeyError):
            mine = False
        if not mine:
            log.warning("%s is gone or another's: stopping", record)
            stop.set()


async def serve(state: Path, nonce: str, listener: socket.socket) -> None:
    """Serve until a signal, or until nobody knows of this instance any more."""
    from hypercorn.asyncio import serve as hypercorn_serve
    from hypercorn.config import Config

    emulator, save = load_emulator(state)
    gateway = Gateway(emulator.app, nonce)
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
        asyncio.create_task(keep_saved(gateway, emulator, save)),
        asyncio.create_task(watch_record(state / "instance.json", nonce, stop)),
    ]
    await stop.wait() if not server.done() else None
    background[0].cancel()
    await server


def report_ready(port: int) -> bool:
    """Tell the supervisor our process and port; return whether it has written them down."""
    print(json.dumps({"pid": os.getpid(), "port": port}), flush=True)  # noqa: T201
    confirmed = sys.stdin.readline().strip() == "recorded"
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)
    return confirmed


def forget(record: Path, nonce: str) -> None:
    """Remove our record: the sign that this instance ended cleanly."""
    try:
        if json.loads(record.read_text())["nonce"] == nonce:
            record.unlink()
    except (OSError, ValueError, KeyError):
        return


def main() -> None:
    """Detach, guard, bind, serve, and leave nothing behind."""
    state = Path(os.environ["PIK_LOCAL_STATE"])
    nonce = os.environ["PIK_LOCAL_NONCE"]
    detach()
    spawn_guard()
    listener = bind(int(os.environ["GATEWAY_PORT"]))
    port = listener.getsockname()[1]
    os.environ["GATEWAY_PORT"] = str(port)
    os.environ["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    code = 1
    try:
        asyncio.run(serve(state, nonce, listener))
        forget(state / "instance.json", nonce)
        code = 0
    except Exception:
        log.exception("the embedded AWS ended with an error")
    finally:
        logging.shutdown()
        sys.stderr.flush()
        os._exit(code)  # not waiting for a Lambda that never returns; the guard ends the workers


if __name__ == "__main__":
    main()
