"""``pik ingest``: send events to an environment's ingest API and say whether all of them are safe."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pik.cli.mapping import DelimiterOption, EncodingOption, FormatOption, open_source, tried
from pik.cli.output import EnvOption, JsonOption, console, emit
from pik.errors import UsageError
from pik.text import advice, printable

if TYPE_CHECKING:
    from pik.mappings.apply import Applied
    from pik.producer import OutcomeCounts, Problem, Source, Summary

MOST_DAYS = 366  # that are looked at for gaps at first
_LINE_EVERY_SECONDS = 5.0


def register(app: typer.Typer) -> None:
    """Add ``ingest`` to the command line."""
    app.command()(ingest)


def ingest(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="WHAT...",
            help="Files, folders or patterns; s3://…; flights, flights:2013-01-01; or - for standard input.",
        ),
    ],
    env: EnvOption = "local",
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Requests under way at once.")] = 8,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Ask what would happen; nothing is written.")] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where the same command was interrupted; nothing is sent twice.")
    ] = False,
    stop_after: Annotated[
        int | None,
        typer.Option(min=0, help="Stop at this many rejected; 0: never [default: 100, while no event is stored]."),
    ] = None,
    mapping: Annotated[
        str, typer.Option("--mapping", help="How records become events: a name of pik mapping list, or a file.")
    ] = "",
    source: Annotated[
        list[str] | None, typer.Option("--source", help="The source: a text, such as shop or {app.name}.")
    ] = None,
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="The event type: a text, such as order.{kind}.")
    ] = None,
    entity: Annotated[
        list[str] | None, typer.Option("--entity", help="The entity: a path, such as customer.id.")
    ] = None,
    event_time: Annotated[
        list[str] | None, typer.Option("--time", help="The event time: a path, such as created_at.")
    ] = None,
    key: Annotated[list[str] | None, typer.Option("--key", help="The idempotency key: a path, such as id.")] = None,
    payload: Annotated[
        list[str] | None, typer.Option("--payload", help="A path, rest (what is left) or @ (all) [default: rest].")
    ] = None,
    time_format: Annotated[
        str, typer.Option("--time-format", help="s, ms, us, ns, iso, or such as '%d/%m/%Y %H:%M' [default: detected].")
    ] = "",
    time_zone: Annotated[
        str, typer.Option("--time-zone", help="The zone of times without an offset, such as Europe/Berlin.")
    ] = "",
    explode: Annotated[str, typer.Option("--explode", help="The list whose elements are the events.")] = "",
    number: Annotated[list[str] | None, typer.Option("--number", help="A column whose cells are numbers.")] = None,
    sample: Annotated[
        int, typer.Option(min=0, help="With --dry-run: show the events made of this many records; nothing is sent.")
    ] = 0,
    file_format: FormatOption = "",
    delimiter: DelimiterOption = "",
    encoding: EncodingOption = "",
    failed: Annotated[
        Path | None,
        typer.Option(help="Where to write what could not be delivered [default: .pik/failed/<time>.jsonl]."),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(help="Where to write rejected records, and why [default: .pik/rejects/<time>.jsonl]."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Send events, and say whether all are safe. Each is sent until it is answered.

    Files are JSON (one event a line, or an array), CSV or Parquet; plain, gzip or zstd. If the name does not tell the
    format, the content does.

    Records of another shape: --mapping stripe, or directly --source shop --type 'order.{kind}' --entity customer.id
    --time created_at --key id. Each option from --source to --payload can be repeated: the first one that finds
    a value counts. To look first: --dry-run --sample 3. pik mapping infer FILE proposes a mapping.

    Exit codes: 0 all are stored exactly once (accepted or duplicate); 4 a person must look at some (conflict or
    rejected; both are kept); 5 some could not be delivered (they are in a file that can be sent again); 130
    interrupted.
    """
    from pik import producer

    lists = dict(source=source, event_type=event_type, entity_id=entity, event_time=event_time)  # noqa: C408
    lists |= dict(idempotency_key=key, payload=payload, numbers=number)  # noqa: C408
    texts = {"explode": (explode,) if explode else (), "time_format": time_format, "time_zone": time_zone}
    applied = _mapping(mapping, {**{name: tuple(value or ()) for name, value in lists.items()}, **texts})
    events = open_source(what, file_format, delimiter, encoding, applied, env)
    if sample:
        raise typer.Exit(_sample(events, sample, dry_run=dry_run, as_json=as_json))
    with _progress(events) as on_progress:
        summary = producer.send(
            events,
            env,
            concurrency=concurrency,
            dry_run=dry_run,
            failed=failed,
            rejects=rejects,
            stop_after=stop_after,
            resume=resume,
            on_progress=on_progress,
        )
    data = {**summary.as_dict(), "notes": events.notes, "next": gaps_command(summary, env)}
    emit(data, as_json=as_json, text=summary_text(summary, env, what))
    raise typer.Exit(summary.exit_code)


def _mapping(name: str, options: dict[str, Any]) -> Applied | None:
    """Return the mapping that is named, with what the options change of it; None without either."""
    if not name and not any(options.values()):
        return None
    from pik.mappings.apply import Applied
    from pik.mappings.catalog import find
    from pik.mappings.model import Mapping

    found = (find(name) if name else Mapping("")).changed(**options)
    return Applied(found.checked(found.name))


def _sample(events: Source, sample: int, *, dry_run: bool, as_json: bool) -> int:
    """Show the events made of the first records; return the exit code."""
    if not dry_run:
        hint = "--dry-run --sample 3 shows, and sends nothing"
        raise UsageError("--sample is for a dry run", next_step=hint)
    data, text = tried(events, sample=sample, all_of_it=False)
    emit(data, as_json=as_json, text=text)
    return 4 if data["rejected"] else 0


def summary_text(summary: Summary, env: str, what: Sequence[str] = ("FILE",)) -> str:
    """Return the summary as a person reads it: the verdict first, then counts, speed and what to do."""
    counts = "   ".join(
        f"{name} {getattr(summary, name):,}"
        for name in ("accepted", "duplicate", "conflict", "rejected", "failed")
        if getattr(summary, name) or name in ("accepted", "duplicate")
    )
    before = f"   sent in an earlier run {summary.skipped:,}" if summary.skipped else ""
    lines = [_verdict(summary), f"  {counts}{before}"]
    if summary.latency_ms["p50"] is not None:
        latency = "   ".join(f"{name} {value:,.0f} ms" for name, value in summary.latency_ms.items())
        speed = f"{summary.events_per_second:,.0f} events/s in {summary.seconds:,.1f} s"
        retried = f"   {summary.retried:,} retried" if summary.retried else ""
        lines.append(f"  {speed}   {latency}{retried}")
    for problem in summary.problems[:5]:
        lines.append(f"  {problem.place}: {_problem_text(problem)}")
        lines += advice("    do this  ", problem.do_this).split("\n") if problem.do_this else []
    unshown = summary.conflict + summary.rejected + summary.failed - min(5, len(summary.problems))
    if unshown > 0:
        lines.append(f"  … and {unshown:,} more (--json shows the first 20, and all codes)")
    return "\n".join([*map(printable, lines), *_next_steps(summary, env, what)])


def _problem_text(problem: Problem) -> str:
    kept = f"   kept as {problem.id}" if problem.id else ""
    return f"{problem.result} {problem.code or problem.status}: {problem.error}{kept}"


def _verdict(summary: Summary) -> str:
    n = f"{summary.total:,} event{'' if summary.total == 1 else 's'}"
    if summary.interrupted:
        return f"interrupted after {n}"
    if summary.stopped:
        return f"stopped after {n}: {summary.stopped}"
    if summary.dry_run and not summary.dry_run_asked:
        return f"nothing was written: the environment runs in dry-run mode ({n} sent)"
    if not summary.total:
        return "0 events: all were sent before" if summary.skipped else "0 events: the input is empty"
    if summary.safe:
        return f"{n}, all " + ("would be safe (nothing was written)" if summary.dry_run else "stored exactly once")
    safe = "would be safe" if summary.dry_run else "safe"
    return f"{summary.accepted + summary.duplicate:,} of {n} {safe}; the others need attention"


def _next_steps(summary: Summary, env: str, what: Sequence[str]) -> Iterator[str]:
    from pik.producer.delivery import NOT_SENT

    if summary.failed_file:
        yield f"  not delivered {summary.failed_file}"
    if summary.rejects_file:
        yield f"  rejected      {summary.rejects_file} (each with its reason and its line)"
    shapes = {problem.mapping for problem in summary.problems if problem.mapping}
    if len(shapes) == 1:
        files = " ".join(map(shlex.quote, what))
        command = f"pik ingest {files} --env {env} --mapping {shapes.pop()}"
        yield f"  do this       {command}"
        yield "                look first: the same with --dry-run --sample 3"
    elif summary.too_many_rejected:
        yield "  do this       check that this is the right file (--dry-run shows it); --stop-after 0 sends it anyway"
    elif summary.stopped:
        yield f"  do this       pik status --env {env}"
        yield "                check that the API is there and that you may call it; then run the same command again"
    elif summary.interrupted:
        yield "  do this       run the same command with --resume; without it, stored events are answered DUPLICATE"
    elif summary.failed_file:
        yield f"  do this       pik ingest {summary.failed_file} --env {env}"
    if summary.conflict + summary.rejected > summary.by_status.get(NOT_SENT, 0) and not summary.dry_run:
        yield "  kept aside    in the raw bucket, below conflicts/ and rejected/: the bytes, with the reason"
    if command := gaps_command(summary, env):
        yield "  next          look for gaps in the stored events:"
        yield f"    {command}"


def gaps_command(summary: Summary, env: str) -> str:
    """Return the command that looks for gaps in what is stored now, for a shell; empty when there is none to look at.

    Of more than :data:`MOST_DAYS` days, the last ones.
    """
    if summary.dry_run or summary.interrupted or summary.stopped or not summary.first_event:
        return ""
    last = date.fromisoformat(summary.last_event[:10])
    end = last if last == date.max else last + timedelta(days=1)
    start = max(date.fromisoformat(summary.first_event[:10]), end - timedelta(days=min(MOST_DAYS, end.toordinal() - 1)))
    start = min(start, end - timedelta(days=1))  # of the last day there is
    one = summary.sources[0] if len(summary.sources) == 1 else ""
    chosen = {"source": one if one.isprintable() else "", "start": str(start), "end": str(end)}
    given = (f"-p {shlex.quote(f'{name}={value}')}" for name, value in chosen.items() if value)
    return f"pik run missing-window --env {env} {' '.join(given)}"


@contextmanager
def _progress(source: Source) -> Iterator[Callable[[OutcomeCounts], None]]:
    with _bar(source) if console.is_terminal else _lines(source) as update:
        yield update


@contextmanager
def _bar(source: Source) -> Iterator[Callable[[OutcomeCounts], None]]:
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    plain = partial(TextColumn, markup=False)
    columns = (SpinnerColumn(), plain("{task.description}"), BarColumn(), plain("{task.fields[counts]}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as bar:
        task = bar.add_task(f"ingest {source.name}", total=None, counts="")

        def update(tally: OutcomeCounts) -> None:
            fraction = source.fraction
            total = None if fraction is None else 1.0
            bar.update(task, total=total, completed=fraction or 0.0, counts=_counts(tally))

        yield update


@contextmanager
def _lines(source: Source) -> Iterator[Callable[[OutcomeCounts], None]]:
    printed = time.monotonic()
    last: OutcomeCounts | None = None

    def update(tally: OutcomeCounts) -> None:
        nonlocal printed, last
        if time.monotonic() - printed >= _LINE_EVERY_SECONDS:
            printed, last = time.monotonic(), tally
            show(tally)

    def show(tally: OutcomeCounts) -> None:
        fraction = source.fraction
        share = "" if fraction is None else f" {fraction:4.0%}"
        console.print(f"ingest {source.name}{share}  {_counts(tally)}", soft_wrap=True)

    yield update
    if last is not None:  # whoever saw it begin sees it end
        show(last)


def _counts(tally: OutcomeCounts) -> str:
    counts = {name: count for name, count in list(tally.results.items()) if count}
    return f"{tally.done:,} events  " + "  ".join(f"{name.lower()} {count:,}" for name, count in counts.items())
