"""``pik doctor``: is everything where it belongs?"""

from __future__ import annotations

from typing import Annotated

import typer

from pik.cli.output import JsonOption, emit


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("doctor")(doctor)


def doctor(
    env: Annotated[
        list[str] | None, typer.Option("--env", "-e", help="Only this environment; repeatable [default: all].")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare every environment with pik.toml and with each other. Reads only.

    Looks at the account and region you are signed in to, the stack's id, tag and parameter, every address in its
    outputs, what reads the queue, and whether two environments reach the same stack, API, table, bucket or queue.
    An environment out of reach (no credentials for it) is said to be so, and is no failure.

    Exit codes: 0 nothing is wrong, 2 pik.toml is wrong, 4 something is where it does not belong.
    """
    from pik import config
    from pik.rollout.doctor import doctor as examine

    found = examine(env or config.NAMES)
    emit(found.as_dict(), as_json=as_json, text=found.to_text())
    if not found.healthy:
        raise typer.Exit(4)
