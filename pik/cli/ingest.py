"""``pik ingest``: send events to an environment's ingest API and say whether all of them are safe."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pik.cli.output import EnvOption, JsonOption, console, emit
from pik.text import printable

if TYPE_CHECKING:
    from pik.producer import Source, Summary, Tally

_LINE_EVERY_SECONDS = 5.0


def register(app: typer.Typer) -> None:
    """Add ``ingest`` to the command line."""
    app.command()(ingest)


def ingest(
    what: Annotated[
        str,
        typer.Argument(
            metavar="WHAT",
            help="FILE.jsonl, FILE.csv (each also .gz), flights, flights:2013-01-01, or - for JSON lines on stdin.",
        ),
    ],
    env: EnvOption = "local",
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests under way at once.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask what would happen; nothing is written.")] = False,
    failed: Annotated[
        Path | None,
        typer.Option(help="Where to write what could not be delivered [default: .pik/failed/<time>.jsonl]."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send events, each until it is answered, and say whether all are safe.

    Exit code: 0 all stored exactly once (accepted or duplicate); 4 some need a person (conflict or rejected, both kept
    aside); 5 some could not be delivered (written to a file that can be sent again); 130 interrupted.
    """
    from pik import producer

    source = producer.open_source(what)
    with _progress(source) as on_progress:
        summary = producer.send(
            source, env, concurrency=concurrency, dry_run=dry_run, failed=failed, on_progress=on_progress
        )
    emit(summary.as_dict(), as_json=as_json, text=summary_text(summary, env))
    raise typer.Exit(summary.exit_code)


def summary_text(summary: Summary, env: str) -> str:
    """Return the summary as a person reads it: the verdict first, then counts, speed and what to do."""
    counts = "   ".join(
        f"{name} {getattr(summary, name):,}"
        for name in ("accepted", "duplicate", "conflict", "rejected", "failed")
        if getattr(summary, name) or name in ("accepted", "duplicate")
    )
    lines = [_verdict(summary), f"  {counts}"]
    if summary.latency_ms["p50"] is not None:
        latency = "   ".join(f"{name} {value:,.0f} ms" for name, value in summary.latency_ms.items())
        speed = f"{summary.events_per_second:,.0f} events/s in {summary.seconds:,.1f} s"
        retried = f"   {summary.retried:,} retried" if summary.retried else ""
        lines.append(f"  {speed}   {latency}{retried}")
    lines += [
        f"  line {p.number}: {_problem_text(p.result, p.code or p.status, p.error, p.id)}" for p in summary.problems[:5]
    ]
    unshown = summary.conflict + summary.rejected + summary.failed - min(5, len(summary.problems))
    if unshown > 0:
        lines.append(f"  … and {unshown:,} more (--json shows the first 20, and all codes)")
    return "\n".join([*map(printable, lines), *_next_steps(summary, env)])


def _problem_text(result: str, code: str, error: str, identifier: str) -> str:
    kept = f"   kept as {identifier}" if identifier else ""
    return f"{result} {code}: {error}{kept}"


def _verdict(summary: Summary) -> str:
    n = f"{summary.total:,} event{'' if summary.total == 1 else 's'}"
    if summary.interrupted:
        return f"interrupted after {n}"
    if summary.stopped:
        return f"stopped after {n}: {summary.stopped}"
    if summary.dry_run and not summary.dry_run_asked:
        return f"nothing was written: the environment runs in dry-run mode ({n} sent)"
    if not summary.total:
        return "0 events: the input is empty"
    if summary.safe:
        return f"{n}, all " + ("would be safe (nothing was written)" if summary.dry_run else "stored exactly once")
    safe = "would be safe" if summary.dry_run else "safe"
    return f"{summary.accepted + summary.duplicate:,} of {n} {safe}; the others need attention"


def _next_steps(summary: Summary, env: str) -> Iterator[str]:
    if summary.failed_file:
        yield f"  not delivered {summary.failed_file}"
    if summary.stopped:
        yield f"  do this       pik status --env {env} (is the API there, may you call it?), then the same again"
    elif summary.interrupted:
        yield "  do this       run the same command again: what is stored already answers DUPLICATE"
    elif summary.failed_file:
        yield f"  do this       pik ingest {summary.failed_file} --env {env}"
    if (summary.conflict or summary.rejected) and not summary.dry_run:
        yield "  kept aside    in the raw bucket, below conflicts/ and rejected/: the bytes, with the reason"


@contextmanager
def _progress(source: Source) -> Iterator[Callable[[Tally], None]]:
    if console.is_terminal:
        with _bar(source) as update:
            yield update
    else:
        yield _lines(source)


@contextmanager
def _bar(source: Source) -> Iterator[Callable[[Tally], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    plain = partial(TextColumn, markup=False)
    columns = (SpinnerColumn(), plain("{task.description}"), BarColumn(), plain("{task.fields[counts]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(f"ingest {source.name}", total=None, counts="")

        def update(tally: Tally) -> None:
            fraction = source.fraction
            total = None if fraction is None else 1.0
            bar.update(task, total=total, completed=fraction or 0.0, counts=_counts(tally))

        yield update


def _lines(source: Source) -> Callable[[Tally], None]:
    last = time.monotonic()

    def update(tally: Tally) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_EVERY_SECONDS:
            last = time.monotonic()
            fraction = source.fraction
            share = "" if fraction is None else f" {fraction:4.0%}"
            console.print(f"ingest {source.name}{share}  {_counts(tally)}")

    return update


def _counts(tally: Tally) -> str:
    counts = {name: count for name, count in list(tally.results.items()) if count}
    return f"{tally.done:,} events  " + "  ".join(f"{name.lower()} {count:,}" for name, count in counts.items())
