"""``pik plan``: see what a deploy would do, before it is done."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pik.cli.output import EnvOption, JsonOption, emit
from pik.cli.rollout import DryRunOption, SetOption, parse_parameters, say

PhaseOption = Annotated[
    str | None,
    typer.Option("--phase", "-p", help="ingest (1), replay (2) or processor (3). Default: the phase it is in."),
]
DeployedOption = Annotated[
    bool,
    typer.Option("--deployed", help="Keep the template and code that are deployed, as a promotion does; no build."),
]
PredictOption = Annotated[
    bool, typer.Option("--no-predict", help="Do not predict what the processor will write (reads what was replayed).")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Write the plan file that `pik deploy --plan` executes.", dir_okay=False)
]


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("plan")(plan)


def plan(
    env: EnvOption = "local",
    phase: PhaseOption = None,
    deployed: DeployedOption = False,
    set_: SetOption = None,
    dry_run: DryRunOption = None,
    no_predict: PredictOption = False,
    out: OutOption = None,
    as_json: JsonOption = False,
) -> None:
    """See what a deploy would do. For each change, what it means; and what the processor will write.

    It compares what is deployed with the template and code of this checkout, with parameters and conditions evaluated.
    It changes nothing. The exit code is 0 also when there are changes, or when applying the plan would be refused; the
    plan says so.
    """
    from pik.environments import environment
    from pik.rollout.plan.plan import plan as make

    found = make(
        environment(env),
        phase,
        deployed=deployed,
        dry_run=dry_run,
        parameters=parse_parameters(set_ or []),
        predict=not no_predict,
        on_progress=say,
    )
    if out:
        found.write(out)
    if as_json:
        emit(found.as_dict(), as_json=True, text="")
        return
    text = found.to_text()
    if out and not found.refusals:
        text = text.partition("\nnext    ")[0] + f"\nnext    pik deploy --plan {out}"
    typer.echo(text)
