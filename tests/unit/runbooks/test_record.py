"""What is read of a run whose process was killed, and what is left of its half-written files."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pik import runbooks
from pik.errors import Refused
from pik.provenance import Where
from pik.runbooks.record import Run, RunbookSource, State, StepRecord, sweep


def killed(folder: Path, *states: State) -> Run:
    """A run whose record says that it runs, and whose process is no more."""
    steps = [
        StepRecord(
            number=n, id=f"s{n}", title=f"S{n}", notebook="one.ipynb", parameters={}, source_sha256="", state=state
        )
        for n, state in enumerate(states, 1)
    ]
    run = Run(
        id=folder.name,
        runbook=RunbookSource(name="trial", title="A trial", description="", path="", sha256=""),
        where=Where(environment="local", stack="s", region="r", account="1"),
        parameters={},
        state=State.RUNNING,
        user="ana",
        host="desk",
        started="2026-11-27T10:00:00.000Z",
        steps=steps,
    )
    run._path = folder
    folder.mkdir(parents=True)
    run.save()
    return run


@pytest.mark.parametrize(
    ("states", "verdict", "code"),
    [
        ((State.PASSED, State.RUNNING), "interrupted", 130),
        ((State.PASSED, State.PLANNED), "interrupted", 130),
        ((State.PASSED, State.PASSED), "passed", 0),
        ((State.PASSED, State.SKIPPED), "passed", 0),
    ],
)
def test_a_killed_run_is_what_its_steps_came_to(
    tmp_path: Path, states: tuple[State, ...], verdict: str, code: int
) -> None:
    killed(tmp_path / "r", *states)
    run = Run.read(tmp_path / "r")
    assert (run.verdict, run.exit_code, run.closed) == (verdict, code, False)


def test_the_end_of_a_run_that_was_killed_after_its_last_step_is_written_by_a_resume(tmp_path: Path) -> None:
    folder = tmp_path / "r"
    killed(folder, State.PASSED)
    run = runbooks.resume(folder)
    assert (run.verdict, Run.read(folder).closed) == ("passed", True)
    assert "A trial" in run.report.read_text()
    assert run.id in (tmp_path / "index.html").read_text()
    with pytest.raises(Refused, match="nothing left to do"):
        runbooks.resume(folder)


def test_what_a_killed_process_had_half_written_is_removed(tmp_path: Path) -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    names = [f".run.json.{done.pid}", f".index.html.{done.pid}", f".01-phase-1.ipynb.{done.pid}"]
    others = [f".run.json.{os.getpid()}", ".lock", "run.json", f"index.html.{done.pid}"]
    # What somebody else keeps in the folder: a copy named by its day, another program's own.
    others += [".env.20261127", f".zcompdump-host-5.{done.pid}", ".x.20261127101500", ".run.json.\u00b2"]
    for name in (*names, *others):
        (tmp_path / name).touch()
    (tmp_path / f".index.html.{2**22 - 1}").mkdir()
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*others, f".index.html.{2**22 - 1}"}
