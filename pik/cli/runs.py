"""``pik runs``: the runs that are kept: list them, open a report, delete old ones."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from pik.cli.output import JsonOption, console, emit
from pik.cli.run import MARKS
from pik.text import printable

if TYPE_CHECKING:
    from pik.runbooks.kept import RunFolder

RunsDirOption = Annotated[Path | None, typer.Option("--runs-dir", help="Where runs are kept.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    runs = typer.Typer(help="List kept runs, open a report, delete old ones.")
    runs.command("list")(list_)
    runs.command("open")(open_)
    runs.command("prune")(prune)
    app.add_typer(runs, name="runs", no_args_is_help=True)


def list_(
    env: Annotated[str, typer.Option("--env", "-e", help="Only runs in this environment.")] = "",
    most: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many, the newest first.")] = 20,
    runs_dir: RunsDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """List runs, the newest first. For each: verdict, environment, how long it took, how much space it needs."""
    from pik import project
    from pik.runbooks import kept

    folder = runs_dir or project.RUNS
    found = kept.runs(folder, env)
    shown = found[:most]
    text = _table(shown) if shown else f"no runs in {folder} yet; what can be run:\npik run --list"
    emit({"runs": [_row(one) for one in shown], "all": len(found)}, as_json=as_json, text=text)
    if not as_json and len(found) > most:
        console.print(f"{len(found) - most} older ones: -n {len(found)}", style="dim")


def open_(
    run: Annotated[str, typer.Argument(help="A run: its name, the start of one, a path, or last.")] = "last",
    runs_dir: RunsDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open a run's report in the browser, and say where it is."""
    from pik.errors import UsageError
    from pik.runbooks import find
    from pik.runbooks.record import REPORT

    report = find(run, runs_dir) / REPORT
    if not report.is_file():
        raise UsageError(f"run {report.parent.name} has no report", next_step=f"pik run --resume {report.parent.name}")
    opened = False if as_json else webbrowser.open(report.as_uri())
    emit({"report": str(report), "opened": opened}, as_json=as_json, text=str(report))


def prune(
    keep: Annotated[int, typer.Option("--keep", min=0, help="Keep this many of the newest, however old.")] = 20,
    days: Annotated[float, typer.Option("--days", min=0, help="Keep what is younger than this many days.")] = 30.0,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Delete also runs that did not pass and could be resumed.")
    ] = False,
    apply: Annotated[bool, typer.Option("--apply", help="Delete them; without it, only show which.")] = False,
    runs_dir: RunsDirOption = None,
    as_json: JsonOption = False,
) -> None:
    """Delete old runs. Without --apply it only shows them. It never touches the ledger or the evidence in a bucket.

    A run that is under way is never deleted, nor one whose record cannot be read.
    """
    from pik import project
    from pik.runbooks import kept

    folder = runs_dir or project.RUNS
    found = kept.runs(folder)
    chosen = kept.prunable(found, keep=keep, days=days, unfinished=unfinished)
    size = _megabytes(sum(one.bytes for one in chosen))  # before they go
    done = kept.delete(chosen) if apply else []
    if not chosen:
        text: Table | str = f"nothing to delete: {len(found)} runs, {_megabytes(sum(one.bytes for one in found))}"
    elif apply:
        text = f"deleted {len(done)} runs, {size}; {len(found) - len(done)} are left"
    else:
        text = _table(chosen)
    emit({"applied": apply, "runs": [_row(one) for one in chosen]}, as_json=as_json, text=text)
    if chosen and not apply and not as_json:
        console.print(f"{len(chosen)} of {len(found)} runs, {size}; nothing is deleted yet: the same with --apply")


def _row(one: RunFolder) -> dict[str, object]:
    run = one.run
    return {
        "run": one.id,
        "state": one.state,
        "runbook": run.runbook.name if run else None,
        "environment": run.where.environment if run else None,
        "started": run.started if run else None,
        "seconds": run.seconds if run else None,
        "bytes": one.bytes,
        "path": str(one.folder),
    }


def _table(found: list[RunFolder]) -> Table:
    from pik.runbooks.report import duration

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for one in found:
        mark, style = MARKS.get(one.state, ("·", ""))
        seconds = duration(one.run.seconds) if one.run else ""
        state = Text(f"{mark} {one.state}", style)
        table.add_row(state, Text(printable(one.id), overflow="fold"), seconds, _megabytes(one.bytes))
    return table


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
