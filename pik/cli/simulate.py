"""``pik simulate``: make an incident happen on the embedded AWS, to practise on and to test with."""

from __future__ import annotations

from typing import Annotated

import typer

from pik.cli.output import EnvOption, JsonOption, console, emit


def register(app: typer.Typer) -> None:
    """Add ``simulate`` to the command line."""
    app.command(no_args_is_help=True)(simulate)


def simulate(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="dropped-window, late-batch, duplicate-storm, clock-skew, conflicting-keys, raw-deleted, raw-altered, "
            "metadata-removed, poison, half-replay; or healthy, healthy-live.",
        ),
    ],
    env: EnvOption = "local",
    seed: Annotated[int, typer.Option(min=0, max=999, help="The same seed makes the same incident.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Make an incident, on `local` only. The solution is in a file, not in the environment.

    It sends a stream of real flights, with a source of its own and with the fault that NAME names. Your task is to find
    the events and the window that are wrong. The solution is in a file below .pik/incidents. --json prints where to
    look, not what is wrong.
    """
    from pik.incidents import simulate, truth_path

    report = simulate(env, name, seed, say=console.print)
    path = truth_path(env, name, seed)
    look = {field: report[field] for field in ("incident", "seed", "source", "start", "end", "ingested")}
    text = "\n".join(
        [
            f"✓ {name} {seed} has happened in {env}",
            f"  source   {report['source']}",
            f"  events   {report['start']} to {report['end']}",
            f"  ingested {report['ingested'][0]} to {report['ingested'][1]}",
            f"  truth    {path}   (the solution: read it after you have looked)",
        ]
    )
    emit({**look, "truth": str(path)}, as_json=as_json, text=text)
