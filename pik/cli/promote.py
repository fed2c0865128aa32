"""``pik promote`` and ``pik approve``: raise the phase of what is deployed, on evidence."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pik.cli.output import ENVIRONMENTS, EnvOption, JsonOption, console, emit, labelled

if TYPE_CHECKING:
    from pik.environments import Environment
    from pik.rollout.deploy.promote import Promotion
    from pik.rollout.plan.plan import Plan

OverrideOption = Annotated[
    str,
    typer.Option(
        metavar="REASON", help="Go on although the gate is closed. A person must type the environment's name."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``app``."""
    app.command("promote", no_args_is_help=True)(promote)
    app.command("approve", no_args_is_help=True)(approve)


def _say(message: str) -> None:
    console.print(f"  {message}", style="bold red" if message.startswith("!!") else "dim", soft_wrap=True)


def promote(
    to: Annotated[str, typer.Option("--to", help="The phase to go to: replay or processor.")] = "",
    env: Annotated[
        str | None, typer.Option("--env", "-e", help=f"Environment: {ENVIRONMENTS}. [default: local]")
    ] = None,
    plan: Annotated[
        Path | None, typer.Option(help="Execute exactly this plan (pik plan --deployed --out).", dir_okay=False)
    ] = None,
    override: OverrideOption = "",
    as_json: JsonOption = False,
) -> None:
    """Raise the phase of what is deployed, one step, on evidence.

    The gate requires fresh, passing evidence of the phase before, for exactly what is deployed. A protected environment
    also requires the evidence of the environment before it (`after` in pik.toml). Where pik.toml names approvers, the
    gate requires an approval. In an open environment, missing evidence is only a warning. Template and code stay as
    they are; only the stack parameters EnableReplay, EnableProcessor and Canary change.

    The processor starts as a canary: at most two invocations run at once, and the command watches them. It rolls the
    canary back when messages fail, go to the dead-letter queue, or are counted wrongly. The ledger records everything,
    also a refusal.

    To see what would happen: pik plan --env E --phase P --deployed. To go back: pik rollback --env E.

    Exit codes: 0 promoted (or already there), 3 refused and nothing changed, 4 the canary failed and was rolled
    back, 5 CloudFormation failed.
    """
    from pik.environments import environment
    from pik.errors import UsageError
    from pik.rollout.plan.plan import Plan

    given = Plan.read(plan) if plan else None
    if given and (to not in ("", given.phase) or env not in (None, given.environment)):
        raise UsageError("the plan says where and what", next_step="leave --env and --to out")
    if not given and not to:
        raise UsageError("Missing option '--to'.", next_step="pik promote --help")
    where = environment(given.environment if given else env or "local")
    run(where, given.phase if given else to, seen=given, override=override, as_json=as_json)


def run(where: Environment, to: str, *, seen: Plan | None, override: str, as_json: bool) -> None:
    """Promote, and print the outcome."""
    from pik.rollout.deploy.promote import promote as raise_phase

    reason = confirmed(where.name, override)
    done = raise_phase(where, to, seen=seen, override=reason, on_progress=_say)
    emit(done.as_dict() | {"rehearsal": where.rehearsal}, as_json=as_json, text=labelled(where, _text(done)))


def confirmed(name: str, reason: str) -> str:
    """Return the reason of an override once a person at a terminal has typed the environment's name."""
    from pik.errors import Refused, UsageError

    if not reason:
        return ""
    if len(reason.split()) < 2:
        raise UsageError("an override needs a reason that a colleague understands", next_step='--override "why"')
    if not sys.stdin.isatty():
        raise Refused(
            "an override needs a person at a terminal",
            reason="standard input is no terminal, so nobody can confirm it",
            next_step="supply the evidence instead: the same without --override says which command does",
        )
    console.print(f"This overrules the gate of {name}, and is recorded with your name.", style="bold red")
    if typer.prompt(f"Type {name} to go on", default="", show_default=False, err=True) != name:
        raise Refused("the override was not confirmed", next_step=f"type {name} when asked")
    return reason


def _text(done: Promotion) -> str:
    lines = [done.sentence]
    if done.changed:
        lines.append(f"next  {done.next_step}\n        supplies the evidence for what is on now")
        lines.append(f"back  pik rollback --env {done.environment} --to {done.previous}")
    return "\n".join(lines)


def approve(
    to: Annotated[str, typer.Option("--to", help="The phase that is approved: ingest, replay or processor.")],
    env: EnvOption = "prod",
    comment: Annotated[str, typer.Option(help="What you looked at, or the ticket; recorded.")] = "",
    plan: Annotated[
        Path | None,
        typer.Option(help="Approve what this plan (pik plan --out) would deploy, instead of what is deployed."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Approve that what is deployed goes to a phase. Recorded in the ledger.

    Only callers that pik.toml lists in `approvers` may approve. The approval counts for exactly this template and code,
    until the environment changes or the approval is too old (evidence_hours). It does not count for a
    promotion that you run yourself, not even with another role.

    Exit codes: 0 recorded, 3 you are not listed in `approvers`.
    """
    from pik.environments import environment
    from pik.rollout.gates.approve import approve as say_yes
    from pik.rollout.plan.plan import Plan

    where = environment(env)
    entry = say_yes(where, to, comment=comment, plan=Plan.read(plan) if plan else None)
    data, text = entry.as_dict() | {"rehearsal": where.rehearsal}, labelled(where, f"{entry.sentence}\n{entry}")
    emit(data, as_json=as_json, text=text)
