"""All of an invocation's log lines, and no other's: the emulator's workers say where they end.

ministack reads a worker's log from a pipe, in a thread of its own, and takes what has come a few milliseconds after the
answer. On a busy machine the last line comes later: it was attributed to the worker's next invocation, or lost with the
worker. Lambda itself delivers each line (https://docs.aws.amazon.com/lambda/latest/dg/python-logging.html). So a worker
writes a mark behind an invocation's lines, before it answers, and the log is read up to that mark.

Runs inside the emulator's process (see ``launcher.py``), so it imports nothing of ``pik``.
"""

from __future__ import annotations

import logging
import queue
import time
from typing import Any

MARK = "pik: the log of this invocation ends here"
PATIENCE = 10.0  # seconds for the mark of a worker that lives
_ANSWERED = "        _real_stdout.flush()\n\nrun()"  # the end of the script's loop: the answer leaves the worker here

log = logging.getLogger("pik.emulator")


def install(runtime: Any) -> None:
    """Have Python workers mark the end of an invocation's log, and read it up to there.

    ``runtime``: the module ``ministack.core.lambda_runtime``. Without the place that is known of its script, the log is
    read as before, and that is logged.
    """
    script: str = runtime._PYTHON_WORKER_SCRIPT
    if script.count(_ANSWERED) != 1:
        log.error("ministack's worker has changed: the last lines of a log may be missing on a busy machine")
        return
    marked = f'        print("{MARK}", file=sys.stderr, flush=True)\n{_ANSWERED}'
    runtime._PYTHON_WORKER_SCRIPT = script.replace(_ANSWERED, marked)
    before = runtime.Worker._drain_stderr_bounded

    def drain(worker: Any, *given: Any, **named: Any) -> str:
        python = str(worker.config.get("Runtime", "")).startswith("python")
        return read_log(worker) if python else str(before(worker, *given, **named))

    runtime.Worker._drain_stderr_bounded = drain


def read_log(worker: Any) -> str:
    """Return what a worker has logged up to its mark; when it has died, all that is there."""
    lines = list[str]()
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        alive = worker._stderr_thread.is_alive()  # asked first: what it put before its end is then in the queue
        try:
            line = worker._stderr_queue.get(timeout=0.02)
        except queue.Empty:
            if not alive:
                break
            continue
        if line == MARK:
            break
        lines.append(line)
    return "\n".join(lines)
