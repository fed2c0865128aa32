"""``pik checks``: what is asked before the next phase, and what each answer means."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from pik.cli.output import JsonOption, emit
from pik.text import advice, named


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("checks")(checks)


def checks(
    step: Annotated[
        str, typer.Option("--step", "-s", help="Only the checks of ingest, replay, processor or rollback.")
    ] = "",
    env: Annotated[str, typer.Option("--env", "-e", help="Environment that the commands are written for.")] = "local",
    as_json: JsonOption = False,
) -> None:
    """List the checks of a rollout. For each: its steps, its question, how long it waits, what to do when it fails.

    A check passes, fails, or is inconclusive; without data it never passes. A blocking check keeps the gate closed
    unless it passes; an advisory check is only shown. The runbooks verify-ingest, verify-replay, verify-processor,
    rollout and rollback run the checks. This command itself does not call AWS.
    """
    from pik.errors import UsageError
    from pik.rollout.checks import catalog as known

    if step and step not in known.STEPS:
        raise UsageError(f"no such step: {named(step)}", next_step=f"one of {', '.join(known.STEPS)}")
    found = known.of_step(step) if step else known.CHECKS
    lines = []
    for spec in found:
        kind = "blocking" if spec.blocking else "advisory"
        wait = f", waits up to {spec.patience:.0f} s" if spec.patience else ""
        lines.append(f"{spec.name}  ({', '.join(spec.steps)}; {kind}{wait})")
        lines.append(f"    asks     {spec.question}")
        lines.append(advice("    do this  ", spec.remedy.format(env=env)))
        if spec.investigate:
            lines.append(f"    look     {spec.command(env)}")
    emit({"checks": [asdict(spec) for spec in found]}, as_json=as_json, text="\n".join(lines))
