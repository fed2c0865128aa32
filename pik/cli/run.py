"""``pik run``: run a runbook, show its parameters, or go on with a run."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from pik import config
from pik.cli.output import EnvOption, JsonOption, console, emit
from pik.text import advice

if TYPE_CHECKING:
    from pik.errors import UsageError
    from pik.runbooks import Progress, Run, Runbook, StepRecord
    from pik.runbooks.runner import OnProgress

MARKS = {
    "passed": ("✓", "green"),
    "failed": ("✗", "red"),
    "inconclusive": ("?", "yellow"),
    "interrupted": ("!", "yellow"),
    "skipped": ("–", "dim"),
}
SILENCE = 10.0  # seconds without a line, where there is no terminal


def register(app: typer.Typer) -> None:
    """Add the command to ``app``."""
    app.command("run")(run)


def run(
    runbook: Annotated[str, typer.Argument(help="A runbook's name, or the path of its .yaml file.")] = "",
    env: EnvOption = "local",
    parameter: Annotated[list[str] | None, typer.Option("-p", "--parameter", help="name=value; repeatable.")] = None,
    allow_value: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-value", metavar="NAME", help="Take this parameter's value, although it looks like a secret."
        ),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the runbooks.")] = False,
    describe: Annotated[bool, typer.Option("--describe", help="Show the runbook's steps and parameters.")] = False,
    resume: Annotated[str, typer.Option("--resume", metavar="RUN", help="Go on with a run: name, path or last.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Resume although runbook, template or a passed notebook has changed.")
    ] = False,
    payloads: Annotated[bool, typer.Option(help="Keep event payloads in notebooks and report.")] = True,
    ticket: Annotated[
        str, typer.Option("--ticket", help="The change that this run is for, such as CHG-1234; the report shows it.")
    ] = "",
    runs_dir: Annotated[Path | None, typer.Option("--runs-dir", help="Where runs are kept.")] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before a run in prod or another protected environment.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a runbook, or go on with a run. It runs the notebooks in order, until a check does not pass.

    Exit codes: 0 passed, 2 wrong usage, 3 refused, 4 a check did not pass, 5 AWS refused or failed, 130 interrupted.
    """
    from pik import runbooks
    from pik.errors import UsageError

    if list_:
        _list(runbooks.catalog(), as_json)
        return
    if bool(runbook) == bool(resume):
        raise UsageError("name a runbook, or a run to --resume", reason=_names(), next_step="pik run --list")
    if describe:
        _describe(runbooks.load(runbook), as_json)
        return
    if resume:
        folder = runbooks.find(resume, runs_dir)
        if parameter:
            raise UsageError("a resumed run keeps its parameters", next_step="leave out -p, or start a new run")
        _guard(runbooks.Run.read(folder).where.environment, yes)
        _show(lambda tell: runbooks.resume(folder, force=force, on_progress=tell), as_json)
        return
    given = _pairs(parameter or [])
    book = runbooks.load(runbook)
    _guard(env, yes)
    options: dict[str, Any] = {"runs_dir": runs_dir, "payloads": payloads, "ticket": ticket}
    options["allow_values"] = allow_value or []
    _show(lambda tell: runbooks.run(book, env, given, on_progress=tell, **options), as_json)


def _pairs(texts: list[str]) -> dict[str, str]:
    from pik.errors import UsageError

    pairs: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"-p takes name=value, not {name!r}", next_step=f"-p {name}=VALUE")
        if name in pairs:
            raise UsageError(f"-p {name} is given twice", next_step="give it once")
        pairs[name] = value
    return pairs


def _guard(env: str, yes: bool) -> None:
    """Print where a run goes, and ask for confirmation in prod and in protected environments of your own."""
    if env in ("local", "dev"):
        return
    found = config.config(env)
    if env not in config.BUILT_IN and found.protection == "open":
        return
    console.print(Text.assemble((f"this run goes to {env}", "bold"), f" (stack {found.stack})"))
    asked = env == "prod" or (env not in config.BUILT_IN and found.protection == "protected")
    if not asked or yes:
        return
    from pik.errors import Refused

    if not sys.stdin.isatty() or not typer.confirm(f"Run it in {env}?", err=True):
        raise Refused(f"a run in {env} was not confirmed", next_step="answer y, or give --yes")


def _show(work: Any, as_json: bool) -> None:
    from pik.runbooks import Interrupted
    from pik.runbooks.record import as_json as record_as_json

    try:
        with _reporter() as tell:
            done: Run = work(tell)
    except Interrupted as interrupted:
        done = interrupted.run
    emit(record_as_json(done), as_json=as_json, text=_summary(done))
    if done.exit_code:
        raise typer.Exit(done.exit_code)


@contextmanager
def _reporter() -> Iterator[OnProgress]:
    """Yield a callback that shows one moving line on a terminal, and a line per step anywhere.

    Without a terminal, what is done at the moment is said every :data:`SILENCE` seconds: a build log shows that it goes
    on.
    """
    live = console.status("starting") if console.is_terminal else None
    announced, pulse = False, Pulse()

    def tell(news: Progress) -> None:
        nonlocal announced
        step, total = news.step, len(news.run.steps)
        if not announced:
            announced = True
            console.print(f"{news.run.runbook.name} · {news.run.where.environment} · run {news.run.id}", soft_wrap=True)
        if news.ending:
            waits = "interrupted: waiting until the step has finished or rolled back what it began"
            console.print(f"    {waits}; Ctrl-C again ends it now", soft_wrap=True)
            return
        if news.cell or step.state == "running":
            where = f" · cell {news.cell}/{news.cells}" if news.cell else ""
            doing = f"step {step.number}/{total} {step.title}{where}"
            if live:
                live.update(Text(doing))
                return
            if not news.cell:
                console.print(f"  … {step.number}/{total} {step.title}")
            pulse.doing(doing)
        else:
            console.print(_line(step), soft_wrap=True)
            pulse.doing("")

    with live or pulse:
        yield tell


class Pulse:
    """Says what is done at the moment whenever nothing was said for some seconds."""

    def __init__(self, every: float = SILENCE) -> None:
        self._every, self._doing, self._since = every, "", time.monotonic()
        self._quiet = self._since  # since when nothing was said
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="pik-pulse", daemon=True)

    def doing(self, what: str) -> None:
        """Note what is done from now on; nothing: there is nothing to say."""
        if not (what and self._doing):
            self._quiet = time.monotonic()  # a line was just said
        self._doing, self._since = what, time.monotonic()

    def _beat(self) -> None:
        while not self._end.wait(self._every / 10):
            doing, now = self._doing, time.monotonic()
            if doing and now - self._quiet >= self._every:
                self._quiet = now
                console.print(f"    {doing} · {now - self._since:.0f} s", style="dim", markup=False, soft_wrap=True)

    def __enter__(self) -> Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()


def _line(step: StepRecord) -> Text:
    from pik.runbooks.report import duration

    mark, style = MARKS.get(step.state, ("·", ""))
    checks = step.result.checks if step.result else ()
    passed = sum(check.verdict == "passed" for check in checks)
    counts = f"{passed}/{len(checks)} checks passed" if checks else str(step.state)
    return Text.assemble(
        (f"  {mark} ", style),
        f"{step.number} {step.title:<24} {duration(step.seconds):>9}   {counts}   {step.headline}",
    )


def _summary(done: Run) -> Text:
    from pik.runbooks.report import duration

    mark, style = MARKS.get(done.state, ("·", ""))
    text = Text.assemble((f"{mark} {done.state}", style), f"  {done.runbook.title} · {done.where.environment}")
    text.append(f" · {duration(done.seconds)}\n")
    for step in done.steps:
        text.append_text(_line(step)).append("\n")
        for check in step.result.checks if step.result else ():
            if check.verdict != "passed":
                mark, style = MARKS[check.verdict]
                text.append(f"      {mark} {check.name}: {check.sentence}\n", style)
        if step.error and step.error.reason:
            text.append(f"      {step.error.reason}\n")
        if step.ledger or (step.note and step.note != step.headline):
            text.append(f"      {step.ledger or step.note}\n", "dim")
    text.append(f"report   {done.report}")
    if done.next_step:
        text.append("\n" + advice("do this  ", done.next_step))
    return text


def _names() -> str:
    """Which runbooks there are, in a line."""
    from pik import runbooks
    from pik.errors import UsageError

    return "there are " + ", ".join(one.name for one in runbooks.catalog() if not isinstance(one, UsageError))


def _list(entries: list[Runbook | UsageError], as_json: bool) -> None:
    from pik.errors import UsageError

    rows: list[dict[str, Any]] = []
    table = Table(box=None, pad_edge=False, show_header=False)
    for entry in entries:
        if isinstance(entry, UsageError):
            rows.append(entry.as_dict())
            table.add_row("✗", f"{entry.message}: {entry.reason}", style="red")
        else:
            rows.append({"name": entry.name, "title": entry.title, "steps": len(entry.steps)})
            table.add_row(entry.name, entry.title)
    emit({"runbooks": rows}, as_json=as_json, text=table if rows else "no runbooks yet: add one to runbooks/")


def _describe(book: Runbook, as_json: bool) -> None:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 3, 0, 0))
    for name, parameter in book.parameters.items():
        if name == "env":
            continue
        default = "required" if parameter.required else f"default {parameter.default}"
        default = "optional" if not parameter.required and parameter.default is None else default
        kind = "|".join(parameter.choices) if parameter.choices else parameter.type
        table.add_row(f"  -p {name}=", kind, default, parameter.description)
    steps = "\n".join(
        f"  {number} {step.title}" + (f"  (only with -p {step.when}=true)" if step.when else "")
        for number, step in enumerate(book.steps, 1)
    )
    emit(book.model_dump(mode="json"), as_json=as_json, text=f"{book.name}: {book.title}\n{book.description}\n{steps}")
    if not as_json and table.row_count:
        emit(None, as_json=False, text=table)
