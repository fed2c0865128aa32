"""Plan a run: parse its parameters, check its notebooks, find out where it goes. Nothing is executed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path

from pik import project, provenance
from pik.errors import UsageError
from pik.runbooks import notebook, parameters
from pik.runbooks.record import Run, RunbookSource, State, StepRecord, utc
from pik.runbooks.runbook import Runbook


def plan(
    book: Runbook, env: str, given: Mapping[str, object], payloads: bool, allow_values: Collection[str] = ()
) -> Run:
    """Return the run that would be made, every step planned or skipped; raise UsageError or AwsError."""
    values = parameters.parse(book.parameters, env, given, allow_values)
    for spec in book.steps:
        notebook.check_step(spec, project.NOTEBOOKS)
    started = datetime.now(UTC)
    steps = [
        StepRecord(
            number=number,
            id=spec.id,
            title=spec.title,
            notebook=spec.notebook,
            parameters=spec.resolve(values),
            timeout=spec.timeout,
            source_sha256=notebook.sha256(project.NOTEBOOKS / spec.notebook),
            state=State.SKIPPED if spec.when and not values.get(spec.when) else State.PLANNED,
            note=f"not asked for (-p {spec.when}=true)" if spec.when and not values.get(spec.when) else "",
        )
        for number, spec in enumerate(book.steps, 1)
    ]
    return Run(
        id=f"{started:%Y-%m-%dT%H-%M-%SZ}-{book.name}-{env}",
        runbook=RunbookSource(
            name=book.name,
            title=book.title,
            description=book.description,
            path=str(book.path),
            sha256=book.sha256,
        ),
        where=provenance.locate(env),
        parameters=values,
        payloads=payloads,
        user=provenance.user(),
        host=provenance.host(),
        started=utc(),
        versions=provenance.versions(),
        git=provenance.git(),
        digests=provenance.digests(),
        steps=steps,
    )


def new_folder(runs_dir: Path, record: Run) -> Path:
    """Create the run's folder, under a name that no other run has, and return it; raise UsageError."""
    base = record.id
    for attempt in range(1, 100):
        record.id = base if attempt == 1 else f"{base}-{attempt}"
        folder = runs_dir.resolve() / record.id
        try:
            project.private_folder(runs_dir.resolve())
            folder.mkdir(mode=0o700)
            (folder / "notebooks").mkdir(mode=0o700)
        except FileExistsError:  # another run in the same second
            continue
        except OSError as error:
            raise UsageError(f"cannot write to {runs_dir}", reason=str(error), next_step="--runs-dir FOLDER") from None
        return folder
    raise UsageError(f"too many runs called {base}", next_step="--runs-dir FOLDER")
