"""``pik demo``: from nothing to a finished rollout and rollback on real flights, with a report."""

from __future__ import annotations

import os
import time
from typing import Annotated

import typer

from pik.cli.output import console

# Says that what the embedded AWS holds is the demo's own, and may be made anew by the next demo.
_MARKER = "made-by-demo"


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


def demo(
    events: Annotated[
        str, typer.Option(help="What to ingest: flights, flights:DATE, or a file.")
    ] = "flights:2013-01-01",
    keep: Annotated[bool, typer.Option("--keep", help="Leave the embedded AWS running.")] = False,
) -> None:
    """Run the whole rollout on the embedded AWS: three phases, their checks, and the rollback, on real flights.

    It starts from nothing: an earlier demo's data is replaced, your own is not touched (it refuses instead).
    """
    from pik import local

    started = time.monotonic()
    state = local.state_dir()
    _start_from_nothing()
    info = local.up(owner=0 if keep else os.getpid())
    try:
        state.joinpath(_MARKER).touch()
        console.print(f"✓ embedded AWS on 127.0.0.1:{info.port}, IAM enforced, state in {os.path.relpath(state)}")
        code = _rollout(events)
    finally:
        if not keep:
            local.down()
    console.print(f"  took     {time.monotonic() - started:.0f} s, no process left" if not keep else "")
    console.print("  next     make lab               open the workbench on what the demo left", markup=False)
    console.print("           pik local up; pik status --env local", markup=False)
    raise typer.Exit(code)


def _start_from_nothing() -> None:
    from pik import local
    from pik.errors import Refused

    state = local.state_dir()
    if state.joinpath(_MARKER).exists() or not state.exists():
        local.reset()
    elif local.status().state_bytes:
        raise Refused(
            f"the embedded AWS in {state} holds work of yours",
            reason="the demo starts from nothing, and does not delete what it did not make",
            next_step="pik local reset, then make demo; or PIK_LOCAL_STATE=/tmp/pik-demo make demo",
        )


def _rollout(events: str) -> int:
    from pik import runbooks
    from pik.cli.run import _show
    from pik.runbooks import load

    book = load("rollout")
    try:
        _show(
            lambda tell: runbooks.run(book, "local", {"events": events, "rehearse_rollback": "true"}, on_progress=tell),
            False,
        )
    except typer.Exit as ended:
        return ended.exit_code
    return 0
