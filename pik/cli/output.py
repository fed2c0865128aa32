"""How commands speak: results on stdout (text or one JSON object), progress and errors on stderr."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from pik import config
from pik.errors import UsageError
from pik.text import printable

if TYPE_CHECKING:
    from pik.environments import Environment
    from pik.workbench import Workbench


class Terminal(Console):
    """A console that prints text from outside as text only: no markup is interpreted, control characters are escaped.

    Whatever is printed, tables and progress bars included, goes through :meth:`render`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(highlight=False, markup=False, emoji=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterator[Segment]:
        """Yield the parts of what is printed, each made printable."""
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else printable(text, "\n"), style, control)


console = Terminal(stderr=True)
_stdout = Terminal(soft_wrap=True)


def _known(name: str) -> str:
    """Refuse an environment that is none before anything heavy is imported."""
    config.config(name)
    return name


def _complete(incomplete: str) -> list[str]:
    try:
        return [name for name in config.names() if name.startswith(incomplete)]
    except UsageError:  # a shell has no place for it; the command says so
        return []


ENVIRONMENTS = config.listed()  # for help texts; read when the program starts
EnvOption = Annotated[
    str,
    typer.Option("--env", "-e", help=f"Environment: {ENVIRONMENTS}.", callback=_known, autocompletion=_complete),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def labelled(environment: Environment, text: str) -> str:
    """Return a command's result; that of a rehearsal begins with a warning that it is not the real environment."""
    return f"REHEARSAL on the embedded AWS, nothing in your account: {text}" if environment.rehearsal else text


def emit(data: Any, *, as_json: bool, text: Any) -> None:
    """Print a command's result: ``data`` as one JSON object, or ``text`` (a string or a rich renderable)."""
    if as_json:
        typer.echo(json.dumps(data, default=str))
    else:
        _stdout.print(text)


def say(text: str) -> None:
    """Print lines to stdout as they are, except for what is no visible character."""
    typer.echo(printable(text, "\n"))


def progress(sentence: str) -> None:
    """Print to stderr what a long command is doing."""
    console.print(sentence, style="dim")


def connected(env: str) -> Workbench:
    """Return the workbench of an environment that can be reached; refuse others before anything heavy is imported."""
    from pik.environments import environment

    environment(env)
    from pik.workbench import connect

    return connect(env)
