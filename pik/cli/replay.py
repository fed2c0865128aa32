"""``pik replay``: plan a replay, run it, go on with it, look what came of it, or run its events through own code."""

from __future__ import annotations

import contextlib
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pik.cli.output import EnvOption, JsonOption, connected, emit, progress, say
from pik.text import printable

if TYPE_CHECKING:
    from pik.replays.runs import ReplayRun
    from pik.workbench import Workbench

replay = typer.Typer(
    no_args_is_help=True,
    help="""Send stored events to the queue again. A plan first, then the run, then what came of it.

    A replay never changes what is stored; each makes new versions of the aggregates, beside those that are there.

    Typical: pik replay plan --entity N14228 --start 2013-01-01 --end 2013-01-02 --save plan.gz, then
    pik replay run plan.gz, and pik replay result with the id that it prints.
    """,
)
_SHOWN = 20
EntityOption = Annotated[
    list[str] | None, typer.Option("--entity", help="An entity's exact name; may be given several times.")
]
EventOption = Annotated[
    list[str] | None,
    typer.Option("--event", help="Instead: an event's id, for its entity's whole day; may be given several times."),
]
HandlerArgument = Annotated[
    str,
    typer.Argument(metavar="MODULE:FUNCTION", help="A function of one event, or an aggregator; also daily-summary."),
]
RateOption = Annotated[int | None, typer.Option("--rate", min=1, help="Messages a second, at most.")]
MostWaitingOption = Annotated[
    int | None,
    typer.Option("--most-waiting", min=0, help="Send nothing while more messages than this wait in the queue."),
]
RunArgument = Annotated[str, typer.Argument(metavar="REPLAY_ID", help="The id that pik replay run printed.")]
PlanArgument = Annotated[Path, typer.Argument(metavar="PLAN", help="The file that pik replay plan --save wrote.")]


def register(app: typer.Typer) -> None:
    """Add the ``replay`` group to the command line."""
    app.add_typer(replay, name="replay")


@replay.command(no_args_is_help=True)
def plan(
    entity: EntityOption = None,
    start: Annotated[str, typer.Option("--start", help="Event time, included: a day, or an RFC 3339 time.")] = "",
    end: Annotated[str, typer.Option("--end", help="Event time, not included, and in the past.")] = "",
    event: EventOption = None,
    include_duplicates: Annotated[
        bool, typer.Option("--include-duplicates", help="A message for each duplicate arrival, too.")
    ] = False,
    save: Annotated[Path | None, typer.Option("--save", help="Write the plan file that pik replay run takes.")] = None,
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show exactly what a replay would send. What it leaves out and costs, too; sends nothing."""
    from pik.errors import UsageError
    from pik.ids import an_id

    if bool(entity) == bool(event) or (event and (start or end)):
        raise UsageError("give --entity with --start and --end, or --event alone", next_step="pik replay plan --help")
    if save and not save.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {save.absolute().parent}", next_step="make it, or save elsewhere")
    ids = [an_id(name) for name in event or ()]
    wb = connected(env)
    tell = None if as_json else progress
    found = (
        wb.replay.plan(ids, include_duplicates=include_duplicates, progress=tell)
        if ids
        else wb.replay.plan(
            entities=entity,
            start=start or None,
            end=end or None,
            include_duplicates=include_duplicates,
            progress=tell,
        )
    )
    if save:
        found.write(save)
    if as_json:
        emit(found.to_dict(), as_json=True, text="")
        return
    say(found.to_text())
    if not found.messages:
        say(f"next    pik reconcile --start {found.parts[0].start_time[:10]} --end DAY --env {env}")
    else:
        say(f"next    pik replay run {save} --env {env}" if save else "next    the same with --save plan.gz")


@replay.command(no_args_is_help=True)
def run(
    plan_file: PlanArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    at_most: Annotated[int | None, typer.Option("--at-most", min=1, help="Refuse a plan of more messages.")] = None,
    reason: Annotated[
        str, typer.Option("--reason", help="Why; needed where the environment is guarded or protected.")
    ] = "",
    replay_id: Annotated[
        str, typer.Option("--replay-id", help="An id of your own; or that of a run of this plan, to go on with it.")
    ] = "",
    rate: RateOption = None,
    most_waiting: MostWaitingOption = None,
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Send exactly what a plan lists. Changes: messages go to the queue.

    It is refused when its windows no longer hold that. It pauses by itself when the dead-letter queue grows. Exit
    codes: 0 exactly the plan was sent, 3 refused and nothing was sent, 4 not all of it: paused, cancelled, or past its
    retention.
    """
    from pik.errors import UsageError
    from pik.replays.planning import read

    made = read(plan_file)
    if as_json and not yes:
        raise UsageError("--json asks nothing, so it needs --yes", next_step="add --yes, and perhaps --at-most N")
    wb = connected(env)
    if not yes:
        say(made.to_text())
        typer.confirm(f"Send {made.messages:,} messages to the queue of {env}?", abort=True, err=True)
    done = wb.replay.run(
        made,
        replay_id=replay_id,
        reason=reason,
        at_most=at_most,
        rate=rate,
        most_waiting=most_waiting,
        progress=progress,
    )
    _ended(done, env, as_json=as_json)


@replay.command(no_args_is_help=True)
def resume(
    replay_id: Annotated[
        str,
        typer.Argument(metavar="REPLAY_ID", help="Its id, as pik replay run printed it, or pik replay list shows it."),
    ],
    reason: Annotated[
        str, typer.Option("--reason", help="Why; needed where the environment is guarded or protected.")
    ] = "",
    rate: RateOption = None,
    most_waiting: MostWaitingOption = None,
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Go on with a replay that was paused or interrupted. Changes: messages go to the queue.

    Whoever began it, and on any machine. Exit codes: 0 exactly the plan was sent, 3 refused, 4 not to the end, or not
    all of it.
    """
    from pik.replays.runs import ReplayRun

    found = connected(env).replay.resume(
        replay_id, reason=reason, rate=rate, most_waiting=most_waiting, progress=progress
    )
    if isinstance(found, ReplayRun):
        _ended(found, env, as_json=as_json)
        return
    row = found.row()
    emit(row, as_json=as_json, text=printable(f"{replay_id}: complete, {row['expected']:,} events sent"))


@replay.command(no_args_is_help=True)
def status(
    replay_id: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every two seconds, until it ends.")] = False,
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Say how far a run is. And who paused or cancelled it, and why. Reads only.

    RUNNING means that it may be sent, not that somebody sends it now. Exit codes: 0 exactly the plan was sent, 4 not
    yet, or not all.
    """
    wb = connected(env)
    found = wb.replay.status(replay_id)
    while watch and found.state == "RUNNING":
        progress(printable(found.sentence))
        time.sleep(2.0)
        found = wb.replay.status(replay_id)
    emit(found.to_dict(), as_json=as_json, text=printable(f"{found.state}  {found.sentence}"))
    if not found.as_planned:
        raise typer.Exit(4)


@replay.command(no_args_is_help=True)
def pause(
    replay_id: RunArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; whoever asks is told.")] = "",
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Stop a run for now. When this returns, nothing of it is sent any more. Changes its state.

    pik replay resume goes on with it. Exit codes: 0 it is paused or was complete, 3 it was cancelled, 4 somebody has
    resumed it meanwhile.
    """
    found = connected(env).replay.pause(replay_id, reason=reason, progress=progress)
    emit(found.to_dict(), as_json=as_json, text=printable(found.sentence))
    if found.state == "RUNNING":
        raise typer.Exit(4)


@replay.command(no_args_is_help=True)
def cancel(
    replay_id: RunArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; whoever asks is told.")] = "",
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Stop a run for good. When this returns, nothing of it is sent any more. Changes its state.

    What was sent stays in the queue, and is counted; the last line says exactly how much. Exit codes: 0 it is
    cancelled, or was complete, 5 AWS did not answer: the same again.
    """
    found = connected(env).replay.cancel(replay_id, reason=reason, progress=progress)
    emit(found.to_dict(), as_json=as_json, text=printable(found.sentence))


@replay.command(no_args_is_help=True)
def pace(
    replay_id: RunArgument,
    rate: Annotated[int, typer.Option("--rate", min=1, help="Messages a second, at most.")],
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Change how fast a run is sent, while it is sent. Changes its state."""
    found = connected(env).replay.pace(replay_id, rate)
    emit(found.to_dict(), as_json=as_json, text=printable(f"{replay_id}: at most {rate:,} messages a second"))


def _ended(done: ReplayRun, env: str, *, as_json: bool) -> None:
    """Say what a run came to, and end with the exit code for it."""
    emit(done.to_dict(), as_json=as_json, text=printable(done.sentence))
    if not as_json:
        what = "resume" if done.state in {"PAUSED", "RUNNING"} else "result"
        say(f"next    pik replay {what} {done.replay_id} --env {env}")
    if not done.as_planned:
        raise typer.Exit(4)


@replay.command("list")
def list_(
    entity: Annotated[str, typer.Option("--entity", help="Only this entity's; its exact name.")] = "",
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """List the replays, the newest last. What each selected, how many events it sent, and by whom. Reads only."""
    from pik import frames
    from pik.replays.records import REQUEST

    wb = connected(env)
    rows = frames.rows(wb.replays(entity=entity or None))
    if as_json:
        emit({"replays": rows}, as_json=True, text="")
        return
    lately = datetime.now(UTC) - REQUEST
    for row in rows[-_SHOWN:]:
        young = max(row["created"], row["finished"] or row["created"]) > lately
        row["state"] = "complete" if row["complete"] else "under way" if young else _stopped(wb, row["replay_id"])
    lines = [
        f"{row['replay_id']}  {row['entity_id']}  {str(row['start_time'])[:16]} to {str(row['end_time'])[:16]}  "
        f"{row['expected']:,} events  {row['state']}  {row['requested_by']}"
        for row in rows[-_SHOWN:]
    ]
    more = [f"{len(rows) - _SHOWN:,} older ones: --json, or wb.replays()"] if len(rows) > _SHOWN else []
    say("\n".join([*more, *(printable(line) for line in lines)]) or "nothing was replayed yet")
    stopped = [row["replay_id"] for row in rows[-_SHOWN:] if row["state"] == "STOPPED"]
    if stopped:
        say(f"{len(stopped):,} stopped before the end; to go on: pik replay resume {stopped[-1]} --env {env}")


@replay.command(no_args_is_help=True)
def result(
    replay_id: Annotated[str, typer.Argument(help="A replay's id; that of a run stands for all of its windows.")],
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Say what came of a replay. Which events are counted, how the aggregates changed. Reads only.

    Exit codes: 0 everything was sent and is counted, 4 not yet.
    """
    found = connected(env).replay.result(replay_id)
    if as_json:
        emit(found.to_dict(), as_json=True, text="")
    else:
        say(printable(found.to_text(), "\n"))
    if not found.done:
        raise typer.Exit(4)


@replay.command(no_args_is_help=True)
def local(
    plan_file: PlanArgument,
    handler: HandlerArgument,
    against: Annotated[
        str, typer.Option("--against", help="Another one, such as today's: say where the two differ.")
    ] = "",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Call it from so many threads.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", help="Write the results as Parquet.", dir_okay=False)] = None,
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Run your own code over a plan's events, on this machine. Sends nothing.

    Exit codes: 0 each event was handled, 4 some failed.
    """
    from pik import frames
    from pik.errors import UsageError
    from pik.replays.planning import read
    from pik.workbench.replay_local import load

    if out and not out.absolute().parent.is_dir():
        raise UsageError(f"there is no folder {out.absolute().parent}", next_step="make it, or write elsewhere")
    with contextlib.redirect_stdout(sys.stderr):
        made, wanted = read(plan_file), [load(name) for name in (handler, against) if name]
    wb = connected(env)
    other = wanted[1] if against else None
    tell = None if as_json else progress
    with contextlib.redirect_stdout(sys.stderr):  # what a handler prints
        done = wb.replay.local(made, wanted[0], against=other, workers=workers, progress=tell)
    if out:
        done.frame.to_parquet(out)
    shown = done.differences if against else done.frame
    if as_json:
        data = {"events": done.events, "failed": done.failed, "sentence": done.sentence}
        emit({**data, "rows": frames.rows(shown), "first_error": done.first_error}, as_json=True, text="")
    else:
        lines = [_line(row) for row in frames.rows(shown)[:_SHOWN]]
        lines += [f"and {len(shown) - _SHOWN:,} more: --out FILE"] if len(shown) > _SHOWN else []
        say("\n".join([*lines, *([done.first_error.rstrip()] if done.first_error else []), done.sentence]))
    if done.failed:
        raise typer.Exit(4)


def _stopped(wb: Workbench, replay_id: str) -> str:
    """What a replay is that is not complete: somebody may have paused or cancelled the run that it belongs to."""
    from pik.errors import UsageError

    try:
        state = wb.replay.status(replay_id).state
    except UsageError:  # it was asked for without a plan
        return "STOPPED"
    return state if state in {"PAUSED", "CANCELLED"} else "STOPPED"


def _line(row: dict[str, Any]) -> str:
    name = row.get("event_id") or f"{row['entity_id']} · {row['day']}"
    outcome = row["error"] or row["result"]
    before = f"  before: {row['before_error'] or row['before']}" if "before" in row else ""
    return printable(f"{name}  {outcome}{before}"[:400])
