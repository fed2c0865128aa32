"""``pik local``: the embedded AWS."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pik import errors
from pik.cli.output import JsonOption, console, emit

if TYPE_CHECKING:
    from pik.emulator import EmulatorStatus
    from pik.emulator.realism import RealismSettings

StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        help="Another state directory, such as what the demo left.",
        show_default="$PIK_LOCAL_STATE, else .pik/local",
    ),
]

local = typer.Typer(
    no_args_is_help=True,
    help="""The embedded AWS, which is the environment `local`. On this machine, without an account or Docker.

    It runs in the background on a free loopback port with IAM enforced, once for each checkout, and keeps its state in
    .pik/local of this checkout. It does not use your own AWS profile or credentials.
    Typical: pik local up, then pik deploy --env local --phase ingest; pik local down at the end of the day.
    """,
)


def register(app: typer.Typer) -> None:
    """Add the ``local`` group to the command line."""
    app.add_typer(local, name="local")


@local.command()
def up(
    state: StateOption = None,
    realism: Annotated[
        int | None,
        typer.Option(help="Realism mode with this seed: late, approximate, throttled, answers lost."),
    ] = None,
    compress: Annotated[float, typer.Option(help="With --realism: waits are this many times shorter than on AWS.")] = 1,
    without: Annotated[
        list[str] | None, typer.Option(help="With --realism: leave a habit out, such as lost-answers; repeatable.")
    ] = None,
    fail_resource: Annotated[
        int, typer.Option(help="With --realism: CloudFormation fails, once, at the resource of this number.")
    ] = 0,
    region: Annotated[
        str | None, typer.Option(help="Its region, which decides its partition: us-gov-west-1, cn-north-1.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Start it, or say where it runs already. It continues with the state of earlier runs."""
    from pik.emulator import STATE_VARIABLE, state_dir, up

    info = up(state, realism=_realism(realism, compress, without or [], fail_resource, region))
    verb = "runs already" if info.already_running else "is up"
    text = f"✓ embedded AWS {verb} on 127.0.0.1:{info.port}, IAM enforced, state in {info.state_dir}"
    if info.note:
        text += f"\n! {info.note}"
    if info.realism:
        text += f"\n! {_describe_mode(info.realism)}"
    if state is None and (hint := demo_hint("local up")):
        text += f"\n{hint}"
    if Path(info.state_dir) != state_dir():
        text += f"\n  before any other pik command\n    export {STATE_VARIABLE}={shlex.quote(info.state_dir)}"
    emit(asdict(info), as_json=as_json, text=text)


@local.command()
def down(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Stop it and everything it started. Its state is kept; a later `up` continues with it."""
    from pik.emulator import down, last_realism

    stopped = down(state)
    report = last_realism(state) if stopped else None
    text = "✓ stopped, state saved, no process left" if stopped else "it was not running"
    emit({"stopped": stopped, "realism": report}, as_json=as_json, text="\n".join([text, *describe_realism(report)]))


@local.command()
def status(state: StateOption = None, as_json: JsonOption = False) -> None:
    """Say whether it runs, where, since when, and how much it holds. Changes nothing."""
    from pik.emulator import status

    now = status(state)
    emit(asdict(now), as_json=as_json, text=_describe(now))


@local.command()
def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop it and delete everything in it. Stack, tables, objects, queues, logs; cannot be undone."""
    from pik.emulator import reset, state_dir

    if not yes:
        if not sys.stdin.isatty():
            raise errors.UsageError(
                "reset deletes everything in the embedded AWS, so it must be confirmed",
                reason="standard input is not a terminal",
                next_step="pik local reset --yes",
            )
        console.print(f"This deletes everything in the embedded AWS ({state_dir(state)}).")
        if not typer.confirm("Delete it?", err=True):
            raise errors.Refused("not confirmed, nothing was deleted")
    size = reset(state)
    emit(
        {"deleted_bytes": size},
        as_json=as_json,
        text=f"✓ deleted {_bytes(size)}; the next start is empty:\npik local up",
    )


def demo_hint(command: str) -> str:
    """Return how to open what the demo left, while ``local`` has nothing saved; an empty text otherwise."""
    from pik.emulator import demo_state, state_dir

    own, demo = (any((state / "snapshots").glob("*")) for state in (state_dir(), demo_state()))
    if own or not demo:
        return ""
    return f"  local is empty. What the demo left: pik {command} --state {shlex.quote(os.path.relpath(demo_state()))}"


def _realism(
    seed: int | None, compress: float, without: list[str], fail_resource: int, region: str | None
) -> RealismSettings | None:
    from pik.emulator.realism import REGION, RealismSettings, only

    if seed is None:
        if compress != 1 or without or fail_resource:
            raise errors.UsageError("--compress, --without and --fail-resource go with --realism SEED")
        if region is None:
            return None
    try:
        left_out = only("partition") if seed is None else frozenset(without)
        return RealismSettings(seed or 0, compress, left_out, fail_resource, region or REGION)
    except ValueError as error:
        raise errors.UsageError(str(error), next_step="pik local up --help") from None


def _describe_mode(text: str) -> str:
    from pik.emulator.realism import RealismSettings, only
    from pik.partitions import partition

    settings = RealismSettings.parse(text)
    if settings.without == only("partition"):
        return f"region {settings.region}, partition {partition(settings.region).name}"
    return f"realism mode, seed {text}: calls fail, answers are late and get lost, as on AWS"


def describe_realism(report: Mapping[str, Any] | None) -> list[str]:
    """Return lines that say how often each habit of the realism mode struck; none when it was off."""
    if report is None:
        return []
    struck = ", ".join(f"{habit} {times:,}" for habit, times in report["struck"].items()) or "nothing yet"
    lines = [f"  realism  seed {report['settings']}; struck: {struck}"]
    if report["skew_seconds"]:
        lines.append(f"           AWS's clock: {report['skew_seconds']:+.0f} s")
    return lines


def _describe(now: EmulatorStatus) -> str:
    state = f"  state    {_bytes(now.state_bytes)} in {now.state_dir}"
    saved = f"  saved    {now.saved or 'not yet'}"
    if not now.running:
        lines = ["embedded AWS: not running", state, saved, "  next     pik local up"]
    else:
        minutes, seconds = divmod(now.uptime_seconds or 0, 60)
        lines = [
            f"embedded AWS: running on {now.endpoint}",
            f"  process  {now.pid}, up {minutes} min {seconds} s",
            f"  memory   {_bytes(now.memory_bytes or 0)}, {_bytes(now.memory_left_bytes or 0)} left: "
            f"about {now.events_that_fit:,} more events fit",
            state,
            saved,
        ]
    lines += describe_realism(now.realism)
    if now.note:
        lines.insert(1, f"  note     {now.note}")
    return "\n".join(lines)


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
