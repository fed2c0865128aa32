"""``pik deploy``, ``pik rollback``, ``pik status``: where an environment is, one phase forward, one command back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pik.cli.output import ENVIRONMENTS, EnvOption, JsonOption, console, emit, labelled
from pik.cli.promote import OverrideOption, confirmed
from pik.cli.promote import run as run_promotion

if TYPE_CHECKING:
    from pik.rollout.plan.plan import Plan

PhaseOption = Annotated[str | None, typer.Option("--phase", "-p", help="ingest (1), replay (2) or processor (3).")]
MaybeEnvOption = Annotated[
    str | None,
    typer.Option("--env", "-e", help=f"Environment: {ENVIRONMENTS}.", show_default="local"),
]
PlanOption = Annotated[
    Path | None,
    typer.Option(
        "--plan", help="Execute exactly this plan (pik plan --out). It names environment and phase.", dir_okay=False
    ),
]
DryRunOption = Annotated[
    bool | None,
    typer.Option(
        "--dry-run/--no-dry-run", help="Deployment-wide DRY_RUN: accept requests, write nothing. Default: unchanged."
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Another stack parameter. Parameters not named keep their value."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("deploy")(deploy)
    app.command("rollback")(rollback)
    app.command("status")(status)


def say(message: str) -> None:
    """Tell how a command gets on, on stderr."""
    console.print(f"  {message}", style="dim")


def deploy(
    phase: PhaseOption = None,
    env: MaybeEnvOption = None,
    dry_run: DryRunOption = None,
    set_: SetOption = None,
    plan: PlanOption = None,
    override: OverrideOption = "",
    as_json: JsonOption = False,
) -> None:
    """Bring an environment to a phase. By sam build and sam deploy; says what changed.

    \b
    ingest     the ingest API, the stores; replay and processor are off
    replay     + the replay API, which sends to the queue
    processor  + the processor, which consumes the queue

    Running it again changes nothing and says so. A step back is `pik rollback`. A change that would replace or delete
    a data store is refused; `pik plan` shows every change before. If pik.toml says that an environment is guarded or
    protected, `pik promote` raises its phase. A protected environment takes only what the environment before it
    (`after` in pik.toml) has verified.
    """
    from dataclasses import asdict

    from pik.environments import environment
    from pik.errors import UsageError
    from pik.rollout.deploy.deploy import apply
    from pik.rollout.deploy.deploy import deploy as run
    from pik.rollout.plan.plan import Plan

    parameters = parse_parameters(set_ or [])
    if plan:
        given = Plan.read(plan)
        _agree(given, env, phase, parameters, dry_run)
        if given.promotes:
            run_promotion(environment(given.environment), given.phase, seen=given, override=override, as_json=as_json)
            return
        where = environment(given.environment)
        done = apply(where, given, override=confirmed(where.name, override), on_progress=say)
    elif phase:
        where = environment(env or "local")
        reason = confirmed(where.name, override)
        done = run(where, phase, dry_run=dry_run, parameters=parameters, override=reason, on_progress=say)
    else:
        raise UsageError("Missing option '--phase' / '-p'.", next_step="pik deploy --help")
    emit(asdict(done) | {"rehearsal": where.rehearsal}, as_json=as_json, text=labelled(where, done.sentence))


def _agree(given: Plan, env: str | None, phase: str | None, parameters: dict[str, str], dry_run: bool | None) -> None:
    """Raise UsageError when an option says something else than the plan does."""
    from pik import phases
    from pik.errors import UsageError

    asked = parameters | ({} if dry_run is None else {"DryRun": "true" if dry_run else "false"})
    pairs = [(f"--set {name}", value, given.target.parameters.get(name)) for name, value in asked.items()]
    pairs += [("--env", env or given.environment, given.environment)]
    pairs += [("--phase", phases.phase(phase or given.phase).name, given.phase)]
    for name, said, planned in pairs:
        if said != planned:
            raise UsageError(
                f"{name} {said} contradicts the plan",
                reason=f"the plan says {planned}",
                next_step="leave the option out, or make another plan",
            )


def rollback(
    env: EnvOption = "local",
    to: Annotated[
        str | None,
        typer.Option("--to", help="replay: processor off. ingest: replay off as well.", show_default="replay"),
    ] = None,
    deploy_: Annotated[
        str,
        typer.Option(
            "--deploy",
            metavar="N",
            help="Revert the deploy of ledger entry N (or last): its template, code, values.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Go back a phase. Stops consumption first (seconds); deletes no data; keeps the queue's messages.

    Allowed from every state. Template and code stay those that are deployed; only the stack parameters EnableReplay,
    EnableProcessor and Canary change. To go forward again, run `pik promote --to processor`: it processes the messages
    that were kept.

    With --deploy, it reverts a deploy instead: template, code and parameters are again those from before that deploy,
    as the ledger's evidence has them. The phase stays, or goes down to the phase from before it.

    Exit codes: 0 done, 3 refused, 4 a store is not what it was before, 5 AWS refused or failed.
    """
    if deploy_:
        _revert(env, to, deploy_, as_json)
        return
    from pik.environments import environment
    from pik.errors import CheckFailed

    where = environment(env)
    from pik.rollout.deploy.rollback import rollback as run

    done = run(where, to or "replay", on_progress=say)
    emit(done.as_dict() | {"rehearsal": where.rehearsal}, as_json=as_json, text=labelled(where, done.sentence))
    if done.stores_intact is False:
        raise CheckFailed(
            "a store is not what it was before the rollback",
            reason="; ".join(f"{one.store}: {one.sentence}" for one in done.stores if one.intact is False),
            next_step=f"read {done.log}; versions and point-in-time recovery are on in every store",
        )


def _revert(env: str, to: str | None, deploy_: str, as_json: bool) -> None:
    from dataclasses import asdict

    from pik.environments import environment
    from pik.errors import UsageError
    from pik.rollout.deploy.revert_deploy import revert

    if to:
        raise UsageError("--to and --deploy cannot be given together", next_step="run one command, then the other")
    if deploy_ != "last" and not deploy_.isdigit():
        raise UsageError(f"no ledger entry: {deploy_}", next_step="--deploy last, or a number of:\npik ledger list")
    where = environment(env)
    done = revert(where, 0 if deploy_ == "last" else int(deploy_), on_progress=say)
    emit(asdict(done) | {"rehearsal": where.rehearsal}, as_json=as_json, text=labelled(where, done.sentence))


def status(env: EnvOption = "local", as_json: JsonOption = False) -> None:
    """Say where you are, and what to do next. Account, region, phase, since when and by whom, what the stores hold."""
    from pik.environments import environment

    where = environment(env)  # refuses before anything heavy is imported
    from pik.rollout.deploy.status import status as look

    found = look(where)
    emit(found.as_dict(), as_json=as_json, text=found.to_text())


def parse_parameters(pairs: list[str]) -> dict[str, str]:
    """Turn ``NAME=VALUE`` options into a dictionary; raise UsageError for anything else."""
    from pik.errors import UsageError

    for pair in pairs:
        if not pair.partition("=")[0].isalnum() or "=" not in pair:
            raise UsageError(f"not NAME=VALUE: {pair}", next_step="for example --set BatchSize=20")
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
