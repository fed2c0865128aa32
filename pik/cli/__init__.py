"""The ``pik`` command: thin; every command calls one function of the package and prints what it returns."""

from __future__ import annotations

import sys

import typer

app = typer.Typer(name="pik", no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def main() -> None:
    """Run the command line; turn our errors into a sentence, a reason, a next step and an exit code."""
    app()
    sys.exit(0)
