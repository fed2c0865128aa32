"""A run's record: ``run.json``, written atomically after every change, and the lock that lets one process write it.

The schema is these models; ``version`` changes when a reader of an older file would misread it.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

import psutil
from pydantic import BaseModel, Field, PrivateAttr, ValidationError, computed_field

from pik import project
from pik.errors import Refused, UsageError
from pik.provenance import Git, Where
from pik.results import StepResult
from pik.runbooks.parameters import Value

RECORD = "run.json"
REPORT = "index.html"
LOCK = ".lock"
INTERRUPTED_CODE = 130
# What write_atomically calls its files: a record, a page, a step's notebook or page; then the process id.
_UNFINISHED = re.compile(r"\.(?:run\.json|index\.html|\d+-[\w-]+\.(?:ipynb|html))\.([0-9]{1,7})")


class State(StrEnum):
    """Of a step or a run. ``planned`` and ``running`` change; ``skipped`` is only for steps."""

    PLANNED = "planned"
    RUNNING = "running"
    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"
    SKIPPED = "skipped"
    INTERRUPTED = "interrupted"

    @property
    def done(self) -> bool:
        """Whether a resume has nothing left to do here."""
        return self in (State.PASSED, State.SKIPPED)


class StepError(BaseModel):
    """Why a step has no result: what, why, what to do now; ``traceback`` (no colours) only when it is a bug.

    ``cell`` counts code cells from 1; ``exit_code`` is the one the command ends with.
    """

    name: str
    message: str
    reason: str = ""
    do_this: str = ""
    exit_code: int = 1
    cell: int | None = None
    traceback: str = ""


class Recorded(BaseModel):
    """Where a step's verification is in the environment's ledger: the entry's number and its hash."""

    number: int
    hash: str

    def __str__(self) -> str:
        return f"ledger entry {self.number} · {self.hash[:16]}"


class StepRecord(BaseModel):
    """One step of a run: what it was given, how far it got, what it found. Paths are relative to the run's folder."""

    number: int
    id: str
    title: str
    notebook: str
    parameters: dict[str, Value]
    timeout: float | None = None
    state: State = State.PLANNED
    note: str = ""
    attempts: int = 0
    started: str | None = None
    ended: str | None = None
    seconds: float | None = None
    cells: int = 0
    cells_done: int = 0
    source_sha256: str
    executed: str | None = None
    executed_sha256: str | None = None
    html: str | None = None
    result: StepResult | None = None
    error: StepError | None = None
    ledger: Recorded | None = None

    @property
    def headline(self) -> str:
        """The one line a person reads first."""
        if self.error:
            return self.error.message
        return self.result.headline if self.result else self.note

    @property
    def exit_code(self) -> int:
        """What this step makes the command end with."""
        if self.state.done or self.state is State.PLANNED:
            return 0
        if self.state in (State.INTERRUPTED, State.RUNNING):
            return INTERRUPTED_CODE
        return self.error.exit_code if self.error else 4


class RunbookSource(BaseModel):
    """The runbook a run came from."""

    name: str
    title: str
    description: str
    path: str
    sha256: str


class Run(BaseModel):
    """A run: everything needed to show it, judge it and resume it. ``ticket``: the change it belongs to."""

    version: int = 1
    id: str
    runbook: RunbookSource
    where: Where
    parameters: dict[str, Value]
    payloads: bool = True
    ticket: str = ""
    state: State = State.PLANNED
    user: str
    host: str
    started: str
    ended: str | None = None
    seconds: float = 0.0
    resumed: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    git: Git | None = None
    digests: dict[str, str] = Field(default_factory=dict)
    steps: list[StepRecord]
    _path: Path = PrivateAttr(default=Path())

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self._path

    @property
    def report(self) -> Path:
        """The report to open, and to attach to a change ticket."""
        return self._path / REPORT

    @property
    def closed(self) -> bool:
        """Whether the run's end is in its record, and so on its pages."""
        return self.ended is not None

    @property
    def stopped(self) -> StepRecord | None:
        """The step at which the run stopped, or that comes next; None when every step is done."""
        return next((step for step in self.steps if not step.state.done), None)

    @property
    def undo(self) -> list[StepRecord]:
        """Steps that changed something and say how it is undone, in the order in which one would: the last first."""
        return [step for step in reversed(self.steps) if step.result and step.result.changes and step.result.undo]

    @property
    def verdict(self) -> State:
        """Same as ``state``: what the run came to."""
        return self.state

    @computed_field  # type: ignore[prop-decorator]
    @property
    def exit_code(self) -> int:
        """0 passed; 4 a check failed; the error's own code; 130 interrupted."""
        if self.state is State.INTERRUPTED:
            return INTERRUPTED_CODE
        return self.stopped.exit_code if self.stopped else 0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def next_step(self) -> str:
        """What a person goes on with, in this order: commands, each on a line of its own, and sentences."""
        stopped = self.stopped
        if stopped is None:
            return ""
        again = f"pik run --resume {self.id}"
        if stopped.error and stopped.error.do_this:
            return f"{stopped.error.do_this}\n{again}"
        remedies = [check.remedy for check in (stopped.result.checks if stopped.result else ()) if check.stops]
        return "\n".join([*dict.fromkeys(filter(None, remedies)), again])

    def save(self) -> None:
        """Write ``run.json`` so that a crash leaves either the old or the new one."""
        write_atomically(self._path / RECORD, json.dumps(self.model_dump(mode="json"), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Run:
        """Return the run in a folder; one that claims to run while nobody holds its lock was interrupted."""
        try:
            run = cls.model_validate_json((folder / RECORD).read_bytes())
        except FileNotFoundError:
            raise UsageError(
                f"no run in {folder}", next_step="open runs/index.html, or start one:\npik run RUNBOOK"
            ) from None
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            reason = f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
            raise UsageError(f"cannot read {folder / RECORD}", reason=reason, next_step="start a new run") from None
        run._path = folder
        if run.state in (State.RUNNING, State.PLANNED) and not is_locked(folder):
            run.interrupt("the process was killed")
        return run

    def interrupt(self, note: str) -> None:
        """Mark the run, and the step that was under way, as interrupted; with nothing left to do it has passed."""
        self.state = State.INTERRUPTED if self.stopped else State.PASSED
        for step in self.steps:
            if step.state is State.RUNNING:
                step.state, step.note, step.ended = State.INTERRUPTED, note, step.ended or utc()


def utc() -> str:
    """Now, in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step, and make sure that it is on disk."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with project.private_file(temporary) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def sweep(folder: Path) -> None:
    """Remove from a folder what :func:`write_atomically` had not finished in a process that was killed.

    The folder may be anybody's, with files of theirs: only a name that it gives is touched.
    """
    for path in folder.glob(".*"):
        found = _UNFINISHED.fullmatch(path.name)
        if found and path.is_file() and not path.is_symlink() and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a run; raise Refused when another process does. The kernel's lock ends with its process, also on kill -9."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refused(
                f"run {folder.name} is under way in another process", next_step="wait for it, or stop it"
            ) from None
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool:
    """Whether a process holds the run right now."""
    try:
        with lock(folder):
            return False
    except Refused:
        return True
    except OSError:  # a read-only copy of a run: nobody works in it
        return False


def as_json(run: Run) -> dict[str, Any]:
    """Return what ``--json`` prints: run.json's content, with the folder and the report as absolute paths."""
    return {
        **run.model_dump(mode="json"),
        "verdict": str(run.verdict),
        "path": str(run.path),
        "report": str(run.report),
    }
