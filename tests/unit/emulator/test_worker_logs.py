"""An invocation's log is whole, however late its lines come."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from pik.emulator import worker_logs
from pik.emulator.worker_logs import MARK

SCRIPT = "    while True:\n        answer()\n        _real_stdout.flush()\n\nrun()\n"


def a_worker(lines: Sequence[str], *, late: float = 0.0, runtime: str = "python3.13") -> Any:
    """A worker whose lines come one after the other, the last of them late."""
    pipe = queue.Queue[str]()

    def read() -> None:
        for line in lines[:-2]:
            pipe.put(line)
        time.sleep(late)
        for line in lines[-2:]:
            pipe.put(line)

    thread = threading.Thread(target=read)
    thread.start()
    return SimpleNamespace(_stderr_queue=pipe, _stderr_thread=thread, config={"Runtime": runtime})


def a_runtime(script: str = SCRIPT) -> Any:
    class Worker:
        """What a ministack's worker does without this: it stops reading at a first pause."""

        def _drain_stderr_bounded(self, first_line_wait: float = 0.05) -> str:
            return f"read as before, after {first_line_wait}"

    return SimpleNamespace(_PYTHON_WORKER_SCRIPT=script, Worker=Worker)


def test_a_last_line_that_is_late_belongs_to_its_invocation() -> None:
    worker = a_worker(
        [
            "first",
            "second",
            "last",
            MARK,
        ],
        late=0.3,
    )

    assert worker_logs.read_log(worker) == "first\nsecond\nlast"


def test_what_follows_the_mark_is_the_next_invocations() -> None:
    worker = a_worker(["one", MARK, "two", MARK])

    assert [worker_logs.read_log(worker) for _ in range(2)] == ["one", "two"]


def test_a_worker_that_died_has_no_mark_and_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_logs, "PATIENCE", 60.0)  # far more than a busy machine needs
    began = time.monotonic()

    assert worker_logs.read_log(a_worker(["one", "Fatal Python error"])) == "one\nFatal Python error"
    assert time.monotonic() - began < worker_logs.PATIENCE


def test_the_mark_is_written_before_the_answer_leaves() -> None:
    runtime = a_runtime()

    worker_logs.install(runtime)

    lines = runtime._PYTHON_WORKER_SCRIPT.splitlines()
    mark = next(number for number, line in enumerate(lines) if MARK in line)
    assert lines[mark + 1].strip() == "_real_stdout.flush()"
    assert runtime.Worker._drain_stderr_bounded(a_worker(["one", "last", MARK], late=0.1)) == "one\nlast"


def test_other_runtimes_and_another_ministack_are_read_as_before() -> None:
    changed, other = a_runtime("something else"), a_runtime()
    worker_logs.install(changed)
    worker_logs.install(other)

    assert changed._PYTHON_WORKER_SCRIPT == "something else"
    assert changed.Worker()._drain_stderr_bounded() == "read as before, after 0.05"
    node = a_worker(["one", "two"], runtime="nodejs22.x")
    assert other.Worker._drain_stderr_bounded(node, first_line_wait=0.1) == "read as before, after 0.1"
