"""Run a runbook step by step, stop at the first closed gate, and leave a record from which it can go on."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pik import project, provenance
from pik.errors import Refused, UsageError
from pik.results import StepResult, Verdict
from pik.runbooks import notebook
from pik.runbooks.plan import new_folder, plan
from pik.runbooks.record import RECORD, Run, State, StepError, StepRecord, lock, sweep, utc
from pik.runbooks.runbook import Runbook, load
from pik.runbooks.suggest import did_you_mean
from pik.signals import Terminated, ended_in_order, undisturbed

LONGEST_TICKET = 100  # characters


@dataclass(frozen=True)
class Progress:
    """One piece of news: ``step`` started a cell (``cell`` of ``cells``), or, with ``cell`` 0, changed its state.

    ``ending``: the step was interrupted, and its cell finishes or rolls back what it began.
    """

    run: Run
    step: StepRecord
    cell: int = 0
    cells: int = 0
    ending: bool = False


OnProgress = Callable[[Progress], None]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C or SIGTERM during a run; everything is recorded and ``run`` can be resumed."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self.run = run


def run(
    runbook: Runbook | str | Path,
    env: str,
    parameters: Mapping[str, object] | None = None,
    *,
    runs_dir: Path | None = None,
    on_progress: OnProgress | None = None,
    payloads: bool = True,
    ticket: str = "",
    allow_values: Collection[str] = (),
) -> Run:
    """Run a runbook in an environment and return what it came to.

    ``parameters``: values as text, as ``-p`` takes them; ``payloads=False`` leaves what is marked as payload out of
    everything kept; ``ticket``: the change that the report is for; ``allow_values``: names of parameters whose values
    only look like secrets. Everything is checked before the run's folder exists: UsageError for a mistake in runbook,
    parameters or notebooks, AwsError when the environment is out of reach. A failing step is no exception: see
    ``Run.verdict``. Ctrl-C and SIGTERM raise
    Interrupted, with the run.

    >>> run("rollout", "local", {"events": "flights:2013-01-01"}).verdict           # doctest: +SKIP
    <State.PASSED: 'passed'>
    """
    book = runbook if isinstance(runbook, Runbook) else load(runbook)
    record = plan(book, env, parameters or {}, payloads, allow_values)
    record.ticket = _checked(ticket)
    record._path = new_folder(runs_dir or project.RUNS, record)
    with lock(record.path):
        return _work(record, on_progress)


def _checked(ticket: str) -> str:
    if len(ticket) > LONGEST_TICKET or not ticket.isprintable():
        limit = f"at most {LONGEST_TICKET} characters, none of them a control character"
        raise UsageError("that is no ticket", reason=limit, next_step="--ticket CHG-1234")
    return ticket.strip()


def resume(run_dir: Path | str, *, force: bool = False, on_progress: OnProgress | None = None) -> Run:
    """Go on with a run at its first step that has not passed, with the parameters it was started with.

    Refused when what the passed steps proved may no longer hold: the runbook, the template or a passed step's notebook
    is not what it was; ``force`` goes on regardless. A notebook that has yet to pass may change: repairing it is why
    one resumes.
    """
    folder = Path(run_dir).resolve()
    if not (folder / RECORD).is_file():
        raise UsageError(f"no run in {folder}", next_step="open runs/index.html, or start one:\npik run RUNBOOK")
    with lock(folder):
        record = Run.read(folder)
        if record.stopped is None and not record.closed:  # it was killed after its last step
            record.state = State.PASSED
            _close(record, record.seconds)
            return record
        if record.stopped is None:
            raise Refused(f"run {record.id} has nothing left to do", next_step=f"pik run {record.runbook.name}")
        if not force:
            _refuse_changed(record)
        record.where = provenance.locate(record.where.environment)
        for step in record.steps:
            if not step.state.done:
                _renew(step)
        record.resumed = [*record.resumed, utc()]
        record.versions, record.git, record.digests = provenance.versions(), provenance.git(), provenance.digests()
        return _work(record, on_progress)


def find(name: str, runs_dir: Path | None = None) -> Path:
    """Return a run's folder: a path, a name below ``runs/``, the start of one, or ``last``; raise UsageError."""
    folder = runs_dir or project.RUNS
    if (Path(name) / RECORD).is_file():
        return Path(name).resolve()
    known = sorted(path.parent.name for path in folder.glob(f"*/{RECORD}"))
    matches = known[-1:] if name == "last" else [other for other in known if other.startswith(name)]
    if name in known:
        matches = [name]
    if len(matches) != 1:
        what = "no such run" if not matches else f"{len(matches)} runs start with it"
        raise UsageError(f"{what}: {name}{did_you_mean(name, known)}", next_step=f"open {folder / 'index.html'}")
    return folder / matches[0]


def _refuse_changed(record: Run) -> None:
    changed = []
    book = Path(record.runbook.path)
    if not book.is_file() or notebook.sha256(book) != record.runbook.sha256:
        changed.append(f"runbook {book.name}")
    done = [step for step in record.steps if step.state is State.PASSED]
    for step in done:
        path = project.NOTEBOOKS / step.notebook
        if not path.is_file() or notebook.sha256(path) != step.source_sha256:
            changed.append(f"notebook {step.notebook}")
    if done and record.digests != provenance.digests():
        changed.append("template.yaml")
    if changed:
        raise Refused(
            f"run {record.id} cannot go on: {', '.join(changed)} changed since",
            reason="what the passed steps proved may no longer hold",
            next_step=f"start anew:\npik run {record.runbook.name} --env {record.where.environment}\n"
            "or go on with the recorded plan: --force",
        )


def _renew(step: StepRecord) -> None:
    """Forget a step's last attempt; take the notebook as it is now, checked anew."""
    from pik.runbooks.runbook import StepSpec

    passed = {name: value for name, value in step.parameters.items() if name != "env"}
    spec = StepSpec(id=step.id, title=step.title, notebook=step.notebook, parameters=passed)
    notebook.check_step(spec, project.NOTEBOOKS)
    step.source_sha256 = notebook.sha256(project.NOTEBOOKS / step.notebook)
    step.state, step.note, step.error, step.result = State.PLANNED, "", None, None
    step.started = step.ended = step.seconds = step.executed_sha256 = step.html = step.ledger = None
    step.cells = step.cells_done = 0


def _work(record: Run, on_progress: OnProgress | None) -> Run:
    tell = on_progress or (lambda news: None)
    began, before = time.monotonic(), record.seconds
    record.state, record.ended = State.RUNNING, None
    for folder in (record.path, record.path / "notebooks", record.path.parent):
        sweep(folder)
    with ended_in_order(signal.SIGINT):  # a shell has Ctrl-C ignored in a background job
        try:
            _write(record)  # with its pages: a run that is killed is among the others
            for step in record.steps:
                if step.state.done:
                    continue
                _step(record, step, tell)
                record.seconds = before + time.monotonic() - began
                _write(record)
                tell(Progress(record, step))
                if not step.state.done:
                    break
            record.state = record.stopped.state if record.stopped else State.PASSED
        except KeyboardInterrupt:
            record.interrupt("interrupted by the user")
        except BaseException:
            record.interrupt("the runner itself failed")
            raise
        finally:
            with suppress(Terminated), undisturbed():  # the end is written, however often it is asked for
                _close(record, before + time.monotonic() - began)
    if record.state is State.INTERRUPTED:
        raise Interrupted(record)
    return record


def _write(record: Run) -> None:
    from pik.runbooks import report

    record.save()
    report.write(record)
    report.write_index(record.path.parent)


def _close(record: Run, seconds: float) -> None:
    from pik.runbooks import report

    record.ended, record.seconds = utc(), seconds
    report.write(record)  # before its record says that it is closed: a resume mends the page of one that is not
    record.save()
    report.write_index(record.path.parent)


def _step(record: Run, step: StepRecord, tell: OnProgress) -> None:
    from pik.runbooks import execute

    source = project.NOTEBOOKS / step.notebook
    step.state, step.started, step.attempts = State.RUNNING, utc(), step.attempts + 1
    step.executed = f"notebooks/{step.number:02}-{step.id}.ipynb"
    record.save()
    tell(Progress(record, step))

    def on_cell(cell: int, cells: int) -> None:
        step.cells, step.cells_done = cells, cell - 1
        record.save()
        tell(Progress(record, step, cell, cells))

    began = time.monotonic()
    result: StepResult | None = None
    state, note, error = State.RUNNING, "", None
    try:
        if notebook.sha256(source) != step.source_sha256:
            raise execute.NotebookFailed(_changed_meanwhile(step))
        result = execute.execute(
            source,
            record.path / step.executed,
            step.parameters,
            timeout=step.timeout,
            on_cell=on_cell,
            on_ending=lambda: tell(Progress(record, step, ending=True)),
        )
        step.cells_done = step.cells
        state, note = _judge(result)
    except execute.NotebookFailed as failed:
        state, error = failed.state, failed.error
    finally:
        step.ended, step.seconds = utc(), time.monotonic() - began
        result = _keep(record, step, result)
    done = step.model_copy(update={"result": result, "error": error, "state": state, "note": note})
    _prove(record, done)
    # Only now: an interrupt until here leaves the step to be done again, never half-recorded.
    for name in ("result", "error", "state", "note", "ledger"):
        setattr(step, name, getattr(done, name))


def _prove(record: Run, done: StepRecord) -> None:
    """Record what a step proved in the environment's ledger; a step that proved nothing asks no AWS."""
    if done.result is None or done.result.proof is None:
        return
    from pik.runbooks import proof

    proof.record(record, done, done.result, done.result.proof)


def _judge(result: StepResult) -> tuple[State, str]:
    """Return the step's state. The gate opens only for passed: a result without a blocking check proves nothing."""
    if result.verdict is Verdict.PASSED:
        return State.PASSED, ""
    if not any(check.blocking for check in result.checks):
        return State.INCONCLUSIVE, "the result has no blocking check: nothing was proven"
    return State(result.verdict), ""


def _keep(record: Run, step: StepRecord, result: StepResult | None) -> StepResult | None:
    """Bring what a step left behind into its final form; return the result as it may be recorded."""
    from pik.runbooks import export

    path = record.path / str(step.executed)
    if not path.is_file():
        step.executed = None
        return result
    try:
        notebook.read(path)
    except UsageError:  # cut short while it was written; what cannot be read cannot be cleared of payloads either
        path.unlink()
        step.executed = None
        return result
    if not record.payloads:
        result = export.without_payloads(path, result)
    step.executed_sha256 = notebook.sha256(path)
    page = Path(str(step.executed)).with_suffix(".html")
    export.to_html(path, record.path / page, title=f"{step.number} {step.title}")
    step.html = str(page)
    return result


def _changed_meanwhile(step: StepRecord) -> StepError:
    return StepError(
        name="NotebookChanged",
        message=f"{step.notebook} changed after the run had started",
        reason="it is no longer the notebook that was checked",
        do_this="finish editing it",
        exit_code=3,
    )
