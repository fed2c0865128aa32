"""The ``pik`` command: thin; every command calls one function of the package and prints what it returns."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from pik import __version__
from pik.cli import (
    checks,
    demo,
    doctor,
    ingest,
    investigate,
    lab,
    ledger,
    leftovers,
    local,
    mapping,
    plan,
    promote,
    replay,
    rollout,
    run,
    runs,
    simulate,
)
from pik.errors import AwsError, PikError, Refused, UsageError
from pik.text import advice, printable

app = typer.Typer(
    name="pik",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="""Pipeline Investigation Kit: roll out, observe and replay an event pipeline on AWS.

    Start here: make demo, or pik local up and then pik deploy --env local --phase ingest.

    Exit codes: 0 done, 1 a bug in pik, 2 wrong usage, 3 refused, 4 a check did not pass, 5 AWS or the network refused
    or failed, 130 interrupted. --json prints one object, also for an error.
    """,
)
# A command imports much and makes little garbage. Looking for it after every 700 objects, and once more at the end,
# took 0.4 of the 1.3 seconds of CPU of `pik status`.
_GARBAGE = 100_000
_STATE = "PIK_LOCAL_STATE"  # as pik.emulator.instance has it, whose import a help text does not wait for
MODULES = (
    local,
    plan,
    rollout,
    promote,
    ingest,
    mapping,
    replay,
    run,
    runs,
    demo,
    lab,
    simulate,
    investigate,
    doctor,
    leftovers,
    checks,
    ledger,
)
for module in MODULES:
    module.register(app)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Show the version.")) -> None:
    if version:
        typer.echo(f"pik {__version__}")
        raise typer.Exit


def main() -> NoReturn:
    """Run the command line; turn our errors into a sentence, a reason, a next step and an exit code."""
    gc.set_threshold(_GARBAGE)
    atexit.register(gc.freeze)
    _hold_state()
    try:
        sys.exit(typer.main.get_command(app).main(standalone_mode=False) or 0)
    except TyperException as error:  # the command line could not be understood
        if type(error).__name__ == "NoArgsIsHelpError":  # and what it says is the help text
            typer.echo(str(error), err=True)
            sys.exit(UsageError.exit_code)
        message = error.format_message() if hasattr(error, "format_message") else str(error)  # names the option
        _show(UsageError(message, next_step=f"{_command()} --help"))
        sys.exit(UsageError.exit_code)
    except typer.Abort:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except PikError as error:
        _show(error)
        sys.exit(error.exit_code)
    except Exception as error:
        known = _from_aws(error)
        if known is None:
            raise  # a bug: the traceback is what helps
        _show(known)
        sys.exit(known.exit_code)


def _hold_state() -> None:
    """Make the state directory's path absolute: a notebook's kernel is at work in another folder than this command."""
    if os.environ.get(_STATE):
        os.environ[_STATE] = os.path.abspath(os.environ[_STATE])


def _command() -> str:
    """The command as it was begun: ``pik local up``."""
    below: Any = typer.main.get_command(app)
    words = ["pik"]
    for word in sys.argv[1:]:
        below = getattr(below, "commands", {}).get(word)
        if below is None:
            break
        words.append(word)
    return " ".join(words)


def _from_aws(error: Exception) -> AwsError | None:
    """Return what AWS or the network said, as an error of ours; None when it was neither."""
    if not type(error).__module__.startswith(("botocore", "boto3", "httpx", "httpcore")):
        return None
    return AwsError(
        f"AWS or the network failed: {type(error).__name__}",
        reason=str(error),
        next_step="check credentials, region and network, then run the same command again",
    )


def _show(error: PikError) -> None:
    from pik.cli.output import console, emit

    if "--json" in sys.argv[1:]:
        emit(error.as_dict(), as_json=True, text="")
        return
    label = "refused" if isinstance(error, Refused) else "error"
    console.print(f"{label}: {printable(error.message)}", style="bold red", soft_wrap=True)
    for label, text in (("because", error.reason), ("do this", error.next_step)):
        if text:
            console.print(advice(f"  {label}  ", text), soft_wrap=True)
