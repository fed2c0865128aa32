"""How commands speak: results on stdout (text or one JSON object), progress and errors on stderr."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from pik.environments import Environment

console = Console(stderr=True, highlight=False)
_stdout = Console(highlight=False, soft_wrap=True)

EnvOption = Annotated[str, typer.Option("--env", "-e", help="Environment: local, dev, staging or prod.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def labelled(environment: Environment, text: str) -> str:
    """Return a command's result so that a rehearsal cannot be taken for the real environment."""
    return f"REHEARSAL on the embedded AWS, nothing in your account: {text}" if environment.rehearsal else text


def emit(data: Any, *, as_json: bool, text: Any) -> None:
    """Print a command's result: ``data`` as one JSON object, or ``text`` (a string or a rich renderable)."""
    if as_json:
        typer.echo(json.dumps(data, default=str))
    else:
        _stdout.print(text)
