"""``pik leftovers``: what a failed first create left behind."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from pik.cli.output import EnvOption, JsonOption, console, emit


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("leftovers")(leftovers)


def leftovers(
    env: EnvOption = "dev",
    remove: Annotated[bool, typer.Option("--remove", help="Remove the empty ones. Asks first, at a terminal.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove without asking.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List stores that a failed first create left behind. It says what is in them; --remove removes the empty ones.

    It examines only stacks that were never complete. A store that holds anything, or cannot be read, stays. Removed
    stores are recorded in .pik/deploys.

    Exit codes: 0 done, 3 not confirmed.
    """
    from pik.environments import environment
    from pik.errors import Refused
    from pik.rollout.deploy import leftovers as of

    where = environment(env)
    found = of.leftovers(where)
    empty = sum(one.empty is True for one in found)
    if remove and empty:
        if not yes:
            console.print("\n".join(map(str, found)), markup=False)
            if not sys.stdin.isatty() or not typer.confirm(f"Remove {empty} empty stores of {where.name}?", err=True):
                raise Refused("nothing was removed", next_step="answer y at a terminal, or --yes")
        found = of.remove(where, found)
    text = "\n".join(map(str, found)) or f"{where.name}: no failed create left anything behind"
    if empty and not remove:
        text += f"\nnext  pik leftovers --env {where.name} --remove"
    emit([asdict(one) for one in found], as_json=as_json, text=text)
