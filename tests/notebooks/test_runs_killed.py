"""`pik run`, killed or asked to end at any point: nothing runs on, and the next command finishes it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest

from pik import runbooks
from pik.errors import Refused, UsageError
from pik.runbooks import export
from tests.notebooks.lab import RESULT, Lab

MARK = "PIK_TEST_KILLED"
ROOT = Path(__file__).parents[2]
# Runs the lab's runbook, and sends a signal to itself in the nth call of a function: before it does anything, or after.
SCRIPT = """
import importlib, os, sys
from pathlib import Path
import pytest
from pik.runbooks import Interrupted
from tests.notebooks.lab import make
root, module, name, when, at, number = sys.argv[1:]
patch = pytest.MonkeyPatch()
lab = make(Path(root), patch)
owner, function = importlib.import_module(module), None
*path, last = name.split(".")
for part in path:
    owner = getattr(owner, part)
function, calls = getattr(owner, last), []

def counted(*arguments, **named):
    calls.append(1)
    now = len(calls) == int(at)
    if now and when == "before":
        os.kill(os.getpid(), int(number))
    found = function(*arguments, **named)
    if now and when == "after":
        os.kill(os.getpid(), int(number))
    return found

patch.setattr(owner, last, counted)
news = lambda _: None
if module == "tests.notebooks.test_runs_killed":
    news = counted
try:
    lab.run(on_progress=news)
except Interrupted as stopped:
    sys.exit(stopped.run.exit_code)
"""


def progress(news: object) -> None:
    """What is told of a run; the nth piece of news is a moment to be killed at."""


class Point(NamedTuple):
    """A moment in a run: a call of a function of the runner's process, counted from its start."""

    module: str
    name: str
    when: str = "before"
    at: int = 1
    begun: bool = True  # there is a run
    left: int = 2  # steps that have not passed


ME = "tests.notebooks.test_runs_killed"
# Told of each of the two steps: that it starts, its four cells (two are of parameters), its end.
POINTS = {
    "planning": Point("pik.provenance", "locate", begun=False),
    "its folder is made": Point("pik.runbooks.runner", "new_folder", "after", begun=False),
    "its record is written first": Point("pik.runbooks.record", "os.fsync", begun=False),
    "its page is written first": Point("pik.runbooks.report", "render"),
    "before the first cell": Point(ME, "progress"),
    "the kernel has started": Point("pik.runbooks.execute", "execute_notebook"),
    "in the first cell": Point(ME, "progress", at=2),
    "in the last cell": Point(ME, "progress", at=5),
    "the kernel stops": Point("pik.runbooks.execute", "_stop"),
    "the executed notebook is kept": Point("pik.runbooks.runner", "_keep"),
    "between the steps": Point(ME, "progress", at=6, left=1),
    "its report is written": Point("pik.runbooks.report", "render", at=2, left=1),
    "in the second step": Point(ME, "progress", at=9, left=1),
    "its last step has passed": Point(ME, "progress", at=12, left=0),
    "its end is written": Point("pik.runbooks.runner", "_close", left=0),
    "its end is on the page": Point("pik.runbooks.report", "render", at=4, left=0),
}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where the processes of a run put what is temporary: a short path, as the kernel's sockets must fit in it."""
    folder = Path(tempfile.mkdtemp(prefix="pik-test-", dir="/tmp"))
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))  # this process has looked it up already
    monkeypatch.setenv(MARK, str(tmp_path))
    monkeypatch.setattr(export, "to_html", lambda *_, **__: None)  # has its own tests; half a second each
    yield folder
    shutil.rmtree(folder)


def _left(mark: str) -> Iterator[str]:
    """What runs of a run: its process, its kernels, and what those started."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get(MARK) == mark:
                yield " ".join(process.cmdline())
        except psutil.Error:
            continue


def _until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _killed(lab: Lab, point: Point, number: signal.Signals) -> int:
    """Run until it is killed at a point; return how the process ended, once nothing of it is left."""
    arguments = [str(lab.root), point.module, point.name, point.when, str(point.at), str(int(number))]
    done = subprocess.run([sys.executable, "-c", SCRIPT, *arguments], cwd=ROOT, timeout=120, check=False)
    _until(lambda: not list(_left(str(lab.root))))
    return done.returncode


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "asked"])
@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS)
def test_a_run_that_ends_at_any_point_is_told_and_finished_by_the_next(
    lab: Lab, scratch: Path, point: Point, number: signal.Signals
) -> None:
    cell = "import subprocess\nchild = subprocess.Popen(['sleep', '600'])"
    for name in ("one", "two"):
        lab.notebook(name, cell, RESULT)
    lab.runbook("one", "two")

    code = _killed(lab, point, number)

    assert code in ((-9,) if number is signal.SIGKILL else (-15, 130, 0))
    if not point.begun and not list((lab.root / "runs").glob("*/run.json")):
        with pytest.raises(UsageError, match="no such run: last"):
            runbooks.find("last")
        assert lab.run().verdict == "passed"
        return
    folder = runbooks.find("last")
    run = runbooks.Run.read(folder)
    assert run.verdict == ("interrupted" if point.left else "passed")
    assert len([step for step in run.steps if not step.state.done]) == point.left
    assert (f"pik run --resume {run.id}" in run.next_step) == bool(point.left)
    if point.left or not run.closed:
        run = runbooks.resume(folder)
    else:
        with pytest.raises(Refused, match="nothing left to do"):
            runbooks.resume(folder)
    assert run.verdict == "passed"
    assert runbooks.Run.read(folder).closed
    assert "badge interrupted" not in run.report.read_text()
    assert run.id in (lab.root / "runs" / "index.html").read_text()
    if point.left:  # a run that had nothing left to do started no kernel
        assert list(scratch.iterdir()) == []
    kept = {"run.json", "index.html", "notebooks", ".lock"}
    assert {path.name for path in folder.iterdir()} == kept
    assert [path.name for path in (lab.root / "runs").glob(".*")] == []
