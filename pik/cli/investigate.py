"""``pik explain``, ``pik reconcile`` and ``pik reindex``: the workbench's questions that need no notebook."""

from __future__ import annotations

from typing import Annotated

import typer

from pik.cli.output import EnvOption, JsonOption, connected, emit, progress, say
from pik.text import printable

Start = Annotated[str, typer.Option("--start", help="Event time, included: a day, or an RFC 3339 time.")]
End = Annotated[str, typer.Option("--end", help="Event time, not included.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("explain", no_args_is_help=True)(explain)
    app.command("reconcile", no_args_is_help=True)(reconcile)
    app.command("reindex")(reindex)


def explain(
    event_id: Annotated[str, typer.Argument(help="An event's id, or that of a rejected body.")],
    env: EnvOption = "local",
    logs_since: Annotated[
        str,
        typer.Option("--logs-since", help="Read all logs from this time on, not only those around the event's times."),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Describe what happened to one event, from all stores. Reads only.

    Exit codes: 0 explained, 4 no such event, or something is wrong with it.
    """
    from pik.ids import an_id

    identifier = an_id(event_id)  # before anything heavy is imported
    explanation = connected(env).explain(identifier, logs_since=logs_since or None)
    if as_json:
        emit(explanation.to_dict(), as_json=True, text="")
    else:
        say(explanation.to_text())
    if not explanation.exists or explanation.problems:
        raise typer.Exit(4)


def reconcile(start: Start, end: End, env: EnvOption = "local", as_json: JsonOption = False) -> None:
    """Compare all stores for the events of a window. Reads only; scans the events and dedupe tables.

    Exit codes: 0 all stores agree, 4 they do not.
    """
    wb = connected(env)
    from pik.workbench.consistency import reconcile as module

    found = module.reconcile(wb, start, end, progress=None if as_json else progress)
    data = {"clean": found.clean, "counts": found.counts, "compared": found.compared, "found": found.found}
    if as_json:
        emit(data | {"notes": list(found.notes)}, as_json=True, text="")
    else:
        lines = [
            printable(f"{item['class']}  {item.get('event_id', '')}  {item['where']}: {item['detail']}")
            for item in found.found
        ]
        say("\n".join([*lines, *found.sentences]))
    if not found.clean:
        raise typer.Exit(4)


def reindex(
    start: Start = "0001-01-01",
    end: End = "9999-12-31",
    env: EnvOption = "local",
    apply: Annotated[bool, typer.Option("--apply", help="Write the absent rows; without it, only show them.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Rebuild lost rows from the raw objects. It rebuilds rows of the events and dedupe tables.

    Without --apply it only shows them. It never overwrites a row.
    """
    wb = connected(env)
    from pik.workbench.consistency import reindex as module

    done = module.reindex(wb, start, end, apply=apply, progress=None if as_json else progress)
    if as_json:
        emit(done.to_dict(), as_json=True, text="")
    else:
        say(done.to_text())
