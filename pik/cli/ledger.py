"""``pik ledger``: what was done to an environment, on which evidence, and whether that record is still the record."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pik.cli.output import EnvOption, JsonOption, emit
from pik.text import named

if TYPE_CHECKING:
    from pik.ledger import Entry, Ledger

ledger = typer.Typer(
    no_args_is_help=True,
    help="""What was verified, approved, deployed and rolled back. Recorded in the environment itself.

    Each entry is in the stack's evidence bucket, where nobody may overwrite or delete it, and holds the hash of the
    entry before. Each command that records something prints a receipt: ledger entry 118 · 9f3c2a41d0b7e55c. Keep the
    receipt, in the change ticket for example: it proves later that nothing up to that entry was changed.

    Typical: pik ledger list, then pik ledger show last, and pik ledger verify --receipt 118:9f3c2a41d0b7e55c.
    """,
)
_MOST_DIGITS = 12  # of an entry's number


def register(app: typer.Typer) -> None:
    """Add the ``ledger`` group to the command line."""
    app.add_typer(ledger, name="ledger")


@ledger.command("list")
def list_(
    env: EnvOption = "local",
    kind: Annotated[
        str,
        typer.Option(
            "--kind",
            help="Only this kind: verification, approval, deploy, promotion, refusal, override, rollback or canary.",
        ),
    ] = "",
    phase: Annotated[str, typer.Option("--phase", "-p", help="Only this phase: ingest, replay or processor.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List the entries, the newest last. Reads only."""
    from rich.text import Text

    from pik import phases
    from pik.ledger.text import table

    only, of = _kind(kind) if kind else None, phases.phase(phase).name if phase else None
    book = _read(env)
    found = book.select(kind=only, phase=of)
    text = table(found) if found else _nothing(book, bool(kind or phase))
    if book.problems:
        text += f"\n! {_count(len(book.problems), 'problem')}: pik ledger verify --env {env}"
    begun = book.unfinished
    if begun:
        text += f"\n! entry {begun.number}, a {begun.kind}, has no recorded outcome: pik status --env {env}"
    data = {
        "environment": env,
        "unfinished": begun.number if begun else None,
        "entries": [_row(entry) for entry in found],
        "problems": [problem.as_dict() for problem in book.problems],
    }
    emit(data, as_json=as_json, text=Text(text))


@ledger.command(no_args_is_help=True)
def show(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="An entry's number, or last.")],
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Show one entry. The verdict, the checks, what it is about, and the evidence with its hashes. Reads only."""
    from rich.text import Text

    from pik.ledger.text import to_text

    book = _read(env)
    entry = _entry(book, number)
    flaws = book.flaws(entry.number)
    data = {**entry.as_dict(), "receipt": entry.receipt, "problems": [flaw.as_dict() for flaw in flaws]}
    emit(data, as_json=as_json, text=Text(to_text(entry, flaws)))


@ledger.command()
def verify(
    env: EnvOption = "local",
    receipt: Annotated[
        str,
        typer.Option(
            "--receipt",
            metavar="NUMBER:HASH",
            help="What was printed when something was recorded; at least 16 digits of the hash.",
        ),
    ] = "",
    as_json: JsonOption = False,
) -> None:
    """Say whether a record was removed, altered or added. It checks the evidence too, reads every file, writes nothing.

    Two changes are found only with --receipt: the newest entries were removed, or somebody who could also delete the
    bucket's old versions rewrote entries. Exit codes: 0 nothing is wrong, 4 something is.
    """
    from rich.text import Text

    from pik.environments import environment
    from pik.ledger import read
    from pik.ledger.text import printable

    book = read(environment(env), evidence=True)
    problems = book.problems + (book.against(receipt) if receipt else ())
    newest = book.entries[-1] if book.entries else None
    data = {
        "environment": env,
        "clean": not problems,
        "entries": len(book.entries),
        "newest": newest.receipt if newest else None,
        "problems": [problem.as_dict() for problem in problems],
    }
    lines = [f"✗ {printable(str(problem))}" for problem in problems]
    if problems:
        lines.append(f"{_count(len(problems), 'problem')}; the ledger is not what was recorded")
    elif newest is None:
        lines.append(_nothing(book, False))
    else:
        files = sum(len(entry.links) for entry in book.entries)
        kept = ", and the receipt's" if receipt else ""
        lines.append(f"✓ {_count(len(book.entries), 'entry')} and {_count(files, 'file')} are as recorded{kept}")
        lines.append(f"  newest   {newest}")
    emit(data, as_json=as_json, text=Text("\n".join(lines)))
    if problems:
        raise typer.Exit(4)


@ledger.command(no_args_is_help=True)
def evidence(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="An entry's number, or last.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write to; it is made if it does not exist.")],
    env: EnvOption = "local",
    as_json: JsonOption = False,
) -> None:
    """Download the evidence of an entry. It verifies the hash of each file first: notebook, page, result, report.

    Exit codes: 0 all files are there, 4 a file is missing or not the one that was recorded (it is not written).
    """
    from rich.text import Text

    from pik.environments import environment
    from pik.ledger import fetch, read

    where = environment(env)
    entry = _entry(read(where), number)
    paths = fetch(where, entry, out)
    text = "\n".join(map(str, paths)) or f"entry {entry.number} has no evidence: a {entry.kind} stands on none"
    emit({"entry": entry.number, "files": [str(path) for path in paths]}, as_json=as_json, text=Text(text))


def _read(env: str) -> Ledger:
    from pik.environments import environment
    from pik.ledger import read

    return read(environment(env))


def _kind(name: str) -> Any:
    from pik.errors import UsageError
    from pik.ledger import Kind
    from pik.runbooks.suggest import did_you_mean

    kinds = [str(kind) for kind in Kind]
    if name not in kinds:
        meant = did_you_mean(name, kinds)
        raise UsageError(f"no such kind: {named(name)}{meant}", next_step=f"one of {', '.join(kinds)}")
    return Kind(name)


def _entry(book: Ledger, number: str) -> Entry:
    from pik.errors import UsageError

    if number == "last" and book.entries:
        return book.entries[-1]
    if not number.isdecimal() or len(number) > _MOST_DIGITS:
        empty = "; the ledger is empty" if not book.entries else ""
        raise UsageError(
            f"no such entry: {number}{empty}", next_step=f"pik ledger list --env {book.environment}\nthen its number"
        )
    return book.entry(int(number))


def _row(entry: Entry) -> dict[str, Any]:
    names = ("number", "time", "kind", "verdict", "phase", "sentence", "by", "run", "hash")
    digests = {name: entry.digest(name) for name in ("template", "code", "parameters")}
    return {name: getattr(entry, name) for name in names} | digests


def _nothing(book: Ledger, filtered: bool) -> str:
    if filtered and book.entries:
        return f"none of the {_count(len(book.entries), 'entry')} in the ledger of {book.environment} matches"
    return f"the ledger of {book.environment} is empty: nothing has been recorded yet"


def _count(number: int, noun: str) -> str:
    several = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else several}"
