"""``pik demo``: from nothing to a finished rollout and rollback on real flights, with a report."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pik.cli.local import describe_realism
from pik.cli.output import console

if TYPE_CHECKING:
    from pik.runbooks import Runbook

INCIDENT = "dropped-window", 4  # five hours of an afternoon


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("demo")(demo)


def demo(
    events: Annotated[
        str, typer.Option(help="What to ingest: flights, flights:DATE, or a file.")
    ] = "flights:2013-01-01",
    incident: Annotated[
        bool, typer.Option(help="Afterwards send two weeks of one airline's flights, with something wrong in them.")
    ] = True,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the embedded AWS running.")] = False,
) -> None:
    """Run the whole rollout on the embedded AWS. Three phases, their checks, and the rollback, on real flights.

    Then it leaves an incident to find: two weeks of one airline's events, with some events missing.

    It starts empty, in a state directory of its own (.pik/demo), and never touches what you do in `local`. It deletes
    the data of an earlier demo; if somebody has opened that data since, it moves the data to another directory. Its
    last lines say how to open what it left.
    """
    from pik import emulator
    from pik.emulator import demo as demos
    from pik.runbooks import load

    started = time.monotonic()
    book, parameters = load("rollout"), {"events": events, "rehearse_rollback": "true"}
    _check(book, parameters)
    state = emulator.demo_state()
    begun = demos.begin(state, owner=0 if keep else os.getpid())
    if begun.kept:
        console.print(f"! an earlier demo's data was opened since: it is in {_shown(begun.kept)} now", soft_wrap=True)
    try:
        port = begun.info.port
        console.print(f"✓ embedded AWS on 127.0.0.1:{port}, IAM enforced, state in {_shown(state)}", soft_wrap=True)
        os.environ[emulator.STATE_VARIABLE] = str(state)  # for the notebooks' kernels and for what they start
        code = _rollout(book, parameters)
        found = _leave_something(state) if incident and code == 0 else None
    finally:
        if not keep:
            emulator.down(state)
    for line in describe_realism(None if keep else emulator.last_realism(state)):
        console.print(line, markup=False, soft_wrap=True)
    if not keep:
        console.print(f"  took     {time.monotonic() - started:.0f} s, no process left")
    for line in next_steps(state, failed=code != 0, incident=found):
        console.print(line, soft_wrap=True)
    raise typer.Exit(code)


def _check(book: Runbook, parameters: dict[str, str]) -> None:
    """Raise UsageError unless the rollout can begin: before anything is started or deleted."""
    from pik.errors import UsageError
    from pik.producer import open_source
    from pik.runbooks import parameters as declared

    values = declared.parse(book.parameters, "local", parameters)
    events = str(values["events"])
    if next(iter(open_source(events)), None) is None:
        raise UsageError(f"there is no event in {events}", next_step="--events flights:2013-01-01, or another file")


def _leave_something(state: Path) -> dict[str, Any] | None:
    """Make an incident, and return where to look for it; a failure to make one does not fail the demo."""
    from pik.errors import PikError
    from pik.incidents import simulate

    try:
        return simulate("local", *INCIDENT, say=console.print, path=state / "truth.json")
    except PikError as error:
        console.print(f"! no incident was made: {error.message}", markup=False, soft_wrap=True)
        return None


def next_steps(state: Path, *, failed: bool = False, incident: dict[str, Any] | None = None) -> list[str]:
    """Return the demo's last lines: the commands that open what it left, or that go on with it when it failed.

    ``incident``: what :func:`pik.incidents.simulate` says of the one that was left to be found.
    """
    pik = "pik" if shutil.which("pik") else _shown(Path(sys.executable).with_name("pik"))
    shown = _shown(state)
    if failed:
        return [f"  first    export PIK_LOCAL_STATE={shown}; {pik} local up     then what is said above"]
    lines = [
        f"  next     {pik} lab --state {shown}          open the workbench on what the demo left",
        f"           export PIK_LOCAL_STATE={shown}; {pik} local up; {pik} status --env local",
    ]
    if incident:
        start, end = (str(incident[name])[:10] for name in ("start", "end"))
        lines += [
            f"  find     events of source {incident['source']} are missing. When were they not sent?",
            f"           {pik} run missing-window -p source={incident['source']} -p start={start} -p end={end}",
            f"           the solution, to read after you have looked: {_shown(state / 'truth.json')}",
        ]
    return lines


def _shown(path: Path) -> str:
    """Return a path for a command line, from the directory that the command was given in."""
    below = os.path.relpath(path)
    return shlex.quote(str(path) if below.startswith("..") else below)


def _rollout(book: Runbook, parameters: dict[str, str]) -> int:
    from pik import runbooks
    from pik.cli.run import _show

    try:
        _show(lambda tell: runbooks.run(book, "local", parameters, on_progress=tell), False)
    except typer.Exit as ended:
        return ended.exit_code
    return 0
