"""How commands speak: results on stdout (text or one JSON object), progress and errors on stderr."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.console import Console

console = Console(stderr=True, highlight=False)
_stdout = Console(highlight=False, soft_wrap=True)

EnvOption = Annotated[str, typer.Option("--env", "-e", help="Environment: local, dev, staging or prod.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def emit(data: Any, *, as_json: bool, text: Any) -> None:
    """Print a command's result: ``data`` as one JSON object, or ``text`` (a string or a rich renderable)."""
    if as_json:
        typer.echo(json.dumps(data, default=str))
    else:
        _stdout.print(text)
