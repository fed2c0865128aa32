"""An entry as a person reads it: the verdict first, then what was found, what it is about, and what proves it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pik.ledger.entry import Entry
from pik.ledger.problems import LedgerProblem
from pik.results import words
from pik.text import printable as shown
from pik.units import size

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # and what turns the direction of text
_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")
MARKS = {"passed": "✓", "failed": "✗", "inconclusive": "?"}
# What has a line of its own; whatever else a predicate says is shown below them.
_SHOWN = {"sentence", "verdict", "phase", "checks", "run", "runbook", "step", "git_dirty", "payloads", "evidence"}


def moment(time: str) -> str:
    """Return a recorded time for reading.

    >>> moment("2026-11-23T08:20:11.123456Z")
    '2026-11-23 08:20:11Z'
    """
    return f"{time[:10]} {time[11:19]}Z"


def who(by: str) -> str:
    """Return the end of an ARN, which is what people call somebody.

    >>> who("arn:aws:sts::1:assumed-role/Deployer/ana"), who("arn:aws:iam::1:root")
    ('ana', 'root')
    """
    return by.rpartition("/")[2].rpartition(":")[2] or by


def printable(text: str) -> str:
    """Return one line without control characters, so that a record cannot command the terminal.

    >>> printable("two\\nlines\\x1b[2J")
    'two lines [2J'
    """
    return shown(" ".join(_CONTROL.sub(" ", text).split()))


def table(entries: Sequence[Entry]) -> str:
    """Return entries as aligned lines, one each."""
    rows = [
        (str(e.number), moment(e.time), str(e.kind), MARKS.get(e.verdict, ""), e.phase, who(e.by), e.sentence)
        for e in entries
    ]
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def to_text(entry: Entry, problems: Iterable[LedgerProblem] = ()) -> str:
    """Return an entry as a few aligned lines; what is wrong with it comes first."""
    lines = [f"! {problem}" for problem in problems]
    verdict = f"{MARKS.get(entry.verdict, '·')} {entry.verdict} · " if entry.verdict else ""
    phase = f" · phase {entry.phase}" if entry.phase else ""
    lines += [f"{verdict}{entry.kind}{phase} · ledger entry {entry.number}", entry.sentence]
    lines = [printable(line) for line in lines]
    lines[-1] = f"  {lines[-1]}"
    for name, values in _facts(entry):
        lines += [f"  {name if n == 0 else '':<9} {printable(value)}" for n, value in enumerate(values)]
    return "\n".join(lines)


def _facts(entry: Entry) -> Iterator[tuple[str, list[str]]]:
    yield "when", [moment(entry.time)]
    yield "by", [f"{entry.by} ({entry.user} on {entry.host})"]
    yield "where", [f"{entry.environment} · account {entry.account} · stack {entry.stack}"]
    yield "checks", list(_checks(entry.predicate.get("checks")))
    yield "about", [_subject(entry, name) for name in entry.subjects]
    if entry.run:
        yield "run", [_run(entry)]
    yield "evidence", [f"{link.key} · {size(link.size)} · sha256 {link.sha256}" for link in entry.links]
    for name, value in entry.predicate.items():
        if name not in _SHOWN:
            yield printable(name).replace("_", " "), list(_free(value))
    yield "receipt", [entry.receipt]


def _free(value: Any) -> Iterator[str]:
    """Yield whatever a predicate says, a line for each thing; digests by their beginning (``--json`` has the whole)."""
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        items: Iterable[tuple[str, Any]] = [("", item) for item in value]
    else:
        items = value.items() if isinstance(value, Mapping) else [("", value)]
    for name, item in items:
        text = _DIGEST.sub(lambda match: f"{match[0][:12]}…", words(item))
        yield f"{name.replace('_', ' ')}: {text}" if name else text


def _checks(given: Any) -> Iterator[str]:
    found = [check for check in given if isinstance(check, Mapping)] if isinstance(given, list) else []
    if found:
        passed = sum(check.get("verdict") == "passed" for check in found)
        yield f"{passed}/{len(found)} passed"
    for check in found:
        advisory = "" if check.get("blocking", True) else " (advisory)"
        yield f"{MARKS.get(str(check.get('verdict')), '·')} {check.get('name')}{advisory}: {check.get('sentence')}"


def _run(entry: Entry) -> str:
    step = entry.predicate.get("step")
    if not isinstance(step, Mapping):
        return entry.run
    attempt = f", attempt {step['attempt']}" if step.get("attempt", 1) != 1 else ""
    return f"{entry.run} · step {step.get('number')} {step.get('title')}{attempt}"


def _subject(entry: Entry, name: str) -> str:
    dirty = ", with uncommitted changes" if name == "git" and entry.predicate.get("git_dirty") else ""
    return f"{name} · {', '.join(f'{kind} {digest}' for kind, digest in entry.subjects[name].items())}{dirty}"
