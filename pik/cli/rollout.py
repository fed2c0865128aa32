"""``pik deploy``, ``pik rollback``, ``pik status``: where an environment is, one phase forward, one command back."""

from __future__ import annotations

from typing import Annotated

import typer

from pik.cli.output import EnvOption, JsonOption, console, emit

PhaseOption = Annotated[str, typer.Option("--phase", "-p", help="ingest (1), replay (2) or processor (3).")]
DryRunOption = Annotated[
    bool | None,
    typer.Option(
        "--dry-run/--no-dry-run", help="Deployment-wide DRY_RUN: accept requests, write nothing. Default: as it is."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Another stack parameter. Those not named keep their value."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("deploy")(deploy)
    app.command("rollback")(rollback)
    app.command("status")(status)


def _say(message: str) -> None:
    console.print(f"  {message}", style="dim", markup=False)


def deploy(
    phase: PhaseOption,
    env: EnvOption = "local",
    dry_run: DryRunOption = None,
    set_: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring an environment to a phase: sam build, sam deploy, and what changed.

    \b
    ingest     the ingest API, the stores; replay and processor are off
    replay     + the replay API, which sends to the queue
    processor  + the processor, which consumes the queue

    Running it again changes nothing and says so. A step back is `pik rollback`.
    """
    from dataclasses import asdict

    from pik.environments import environment
    from pik.rollout import deploy as run

    done = run(environment(env), phase, dry_run=dry_run, parameters=parse_parameters(set_ or []), on_progress=_say)
    emit(asdict(done), as_json=as_json, text=done.sentence)


def rollback(
    env: EnvOption = "local",
    to: Annotated[str, typer.Option("--to", help="replay: processor off. ingest: replay off as well.")] = "replay",
    as_json: JsonOption = False,
) -> None:
    """Go back a phase. Stops consumption first (seconds); deletes no data; keeps the queue's messages.

    Allowed from every state. What is deployed stays the template and the code; only the toggles change. Forward again:
    `pik deploy --phase processor` processes what was kept.
    """
    from pik.environments import environment
    from pik.errors import CheckFailed
    from pik.rollout import rollback as run

    done = run(environment(env), to, on_progress=_say)
    emit(done.as_dict(), as_json=as_json, text=done.sentence)
    if done.lost_nothing is False:
        raise CheckFailed(
            "a store is not what it was before the rollback",
            reason=str({name: vars(d) for name, d in done.differences.items() if not d.lost_nothing}),
            next_step=f"read {done.log}; versions and point-in-time recovery are on in every store",
        )


def status(env: EnvOption = "local", as_json: JsonOption = False) -> None:
    """Where am I: account, region, phase, since when and by whom, what the stores hold, what to do next."""
    from pik.environments import environment
    from pik.rollout import status as look

    found = look(environment(env))
    emit(found.as_dict(), as_json=as_json, text=found.to_text())


def parse_parameters(pairs: list[str]) -> dict[str, str]:
    """Turn ``NAME=VALUE`` options into a dictionary; raise UsageError for anything else."""
    from pik.errors import UsageError

    for pair in pairs:
        if not pair.partition("=")[0].isalnum() or "=" not in pair:
            raise UsageError(f"not NAME=VALUE: {pair}", next_step="for example --set BatchSize=20")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
