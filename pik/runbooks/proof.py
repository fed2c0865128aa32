"""What a step proved becomes a verification in the environment's ledger, with the evidence that it stands on.

Stored beside the record: the executed notebook, its page, the result, and the run's report as it was at that moment;
all without payloads where the run leaves them out. A step that cannot be recorded keeps its verdict and says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pik import ledger
from pik.environments import environment
from pik.ledger import Kind
from pik.ledger.store import File
from pik.results import Proof, StepResult
from pik.runbooks import export, report
from pik.runbooks.record import Recorded, Run, State, StepRecord, utc


def record(run: Run, step: StepRecord, result: StepResult, proof: Proof) -> None:
    """Record a finished step, and write on the step where that is, or why it is nowhere."""
    try:
        entry = ledger.append(
            environment(run.where.environment),
            Kind.VERIFICATION,
            subjects=ledger.subjects(
                template=proof.template,
                code=proof.code,
                parameters=proof.parameters,
                notebooks={step.notebook: step.source_sha256},
                commit=run.git.commit if run.git else "",
            ),
            predicate=_predicate(run, step, result, proof),
            evidence=_evidence(run, step, result),
        )
    except Exception as error:  # whatever it is: what was found stays found
        step.note = "; ".join(filter(None, [step.note, str(ledger.NotRecorded.because(error))]))
    else:
        step.ledger = Recorded(number=entry.number, hash=entry.hash)


def _predicate(run: Run, step: StepRecord, result: StepResult, proof: Proof) -> dict[str, Any]:
    """Say what was found, check by check; evidence stays in the files, and payloads where they were left."""
    return {
        "phase": proof.phase,
        "verdict": str(step.state),
        "sentence": result.headline,
        "checks": [
            {"name": c.name, "verdict": str(c.verdict), "blocking": c.blocking, "sentence": c.sentence}
            for c in result.checks
        ],
        "run": run.id,
        "runbook": {"name": run.runbook.name, "sha256": run.runbook.sha256},
        "step": {"number": step.number, "id": step.id, "title": step.title, "attempt": step.attempts},
        "git_dirty": run.git.dirty if run.git else None,
        "payloads": run.payloads,
    }


def _evidence(run: Run, step: StepRecord, result: StepResult) -> Iterator[File]:
    attempt = f"-attempt-{step.attempts}" if step.attempts > 1 else ""
    name = f"{step.number:02}-{step.id}{attempt}"
    if step.executed:
        yield f"{name}.ipynb", run.path / step.executed, "application/x-ipynb+json"
    if step.html:
        yield f"{name}.html", run.path / step.html, "text/html; charset=utf-8"
    yield f"{name}-result.json", export.bare_result(result).model_dump_json(indent=2).encode(), "application/json"
    yield f"{name}-report.html", report.render(_so_far(run, step)).encode(), "text/html; charset=utf-8"


def _so_far(run: Run, step: StepRecord) -> Run:
    """Return the run as it is with this step done: its report is written while the step still counts as running."""
    steps = [step if other.number == step.number else other for other in run.steps]
    found = run.model_copy(update={"steps": steps})
    if found.stopped is None or found.stopped is step:
        found.state, found.ended = found.stopped.state if found.stopped else State.PASSED, utc()
    return found
