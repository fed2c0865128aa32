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
    policy: Annotated[
        bool,
        typer.Option("--policy", help="Print the policies that a deployer of --env needs, as JSON."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare every environment with pik.toml and with each other. Reads only.

    Looks at the account and region you are signed in to, the stack's id, tag and parameter, every address in its
    outputs, what reads the queue, and whether two environments reach the same stack, API, table, bucket or queue.
    Also before the first deploy, it reports what would fail in the account and what to do: rights (by IAM's own
    simulation), Lambda's concurrency, region, names, tags, permissions boundary, certificates, proxy, sign-in, clock.

    An environment that cannot be reached (no credentials for it) is reported, but is not a failure.

    Exit codes: 0 nothing is wrong, 2 pik.toml is wrong, 4 a check failed.
    """
    from pik.rollout.deploy.doctor import doctor as examine

    if policy:
        _policy(env or [])
        return
    found = examine(env or ())
    emit(found.as_dict(), as_json=as_json, text=found.to_text())
    if not found.healthy:
        raise typer.Exit(4)


def _policy(names: list[str]) -> None:
    """Print the deployer's policies of one environment. Needs its account, from pik.toml or by who is signed in."""
    from pik.aws.guard import look
    from pik.environments import environment
    from pik.errors import UsageError
    from pik.rollout.deploy import deployer
    from pik.rollout.plan import sam

    if len(names) != 1:
        raise UsageError("--policy is about one environment", next_step="pik doctor --env prod --policy")
    where = environment(names[0])
    account = where.config.account or look(where)[0].account
    boundary = sam.configured_parameters(where).get("PermissionsBoundary", "")
    emit(deployer.policies(where.region, account, where.stack, where.name, boundary=boundary), as_json=True, text="")
