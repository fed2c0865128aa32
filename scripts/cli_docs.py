"""Write docs/cli.md: the help of every command, as the command itself prints it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from pik.cli import app
from pik.cli.output import ENVIRONMENTS

TARGET = Path(__file__).resolve().parent.parent / "docs" / "cli.md"
HEAD = """\
# Commands

`make docs` generates this page from the commands' own `--help`, and a test compares the two.
"""
EVERYWHERE = "local, dev, staging or prod"


def commands(command: Any, path: str, above: Any = None) -> Iterator[tuple[str, str]]:
    """Yield (name, help) of a command and everything below it."""
    context = command.context_class(command, above, path.rpartition(" ")[2], terminal_width=100)
    for parameter in command.params:  # as for everybody, whatever the pik.toml at hand adds
        if getattr(parameter, "help", None):
            parameter.help = parameter.help.replace(ENVIRONMENTS, EVERYWHERE)
    yield path, command.get_help(context)
    for name, below in sorted(getattr(command, "commands", {}).items()):
        yield from commands(below, f"{path} {name}", context)


def render() -> str:
    """Return the text of docs/cli.md."""
    found = commands(typer.main.get_command(app), "pik")
    return HEAD + "".join(f"\n## {path}\n\n```\n{text.strip()}\n```\n" for path, text in found)


if __name__ == "__main__":
    TARGET.write_text(render())
