"""What a person is told to do next: a command has a line of its own, so that it can be copied as it stands."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.main import get_command

from pik.cli import app
from pik.errors import Refused
from pik.project import ROOT
from pik.results import Check, StepResult, Verdict
from pik.rollout.checks.catalog import CHECKS
from pik.text import advice

NAMES = {"next_step", "remedy", "do_this", "hint"}
NAMED = re.compile(r"`pik( [a-z-]+)+`")  # a command's name in a sentence, without anything to copy
LINES = "pik status --env dev\nthen the same again"


def said(path: Path) -> Iterator[tuple[int, str]]:
    """Each text that the file gives as advice, with X for what is only known later."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            given = [keyword.value for keyword in node.keywords if keyword.arg in NAMES]
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in NAMES:
            given = [node.value]
        else:
            continue
        for value in given:
            yield from ((value.lineno, text) for text in texts(value))


def texts(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values)
    elif isinstance(node, ast.Constant):
        yield str(node.value)
    elif not isinstance(node, ast.Call):
        for child in ast.iter_child_nodes(node):
            yield from texts(child)


def can_be_copied(line: str) -> bool:
    """Whether a line has no command, or is one: names of commands, one argument, options with their values."""
    if not re.search(r"\bpik [a-z]", NAMED.sub("", line)):
        return True
    words, command = line.split(" "), get_command(app)
    if words.pop(0) != "pik":
        return False
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]  # type: ignore[attr-defined]
    if words and not words[0].startswith("-"):
        words.pop(0)
    taken = False  # whether the word before may have this one as its value
    for word in words:
        if not word.startswith("-") and not taken:
            return False
        taken = word.startswith("-")
    return not any(re.search(r"[;,:()]", word) for word in words)


@pytest.mark.parametrize(
    ("line", "yes"),
    [
        ("pik run missing-window --env X -p start=X", True),
        ("pik ledger verify --env X", True),
        ("pik local down", True),
        ("X; then pik status --env X", False),
        ("pik status --env X again", False),
        ("pik status --env X, then again", False),
        ("pik rollback --env X: something is counted twice", False),
        ("pik mapping list shows those there are", False),
        ("`pik ingest` sends such lines as they are", True),
        ("wait until `pik status --env X` says so", False),
    ],
)
def test_what_can_be_copied_is_known(line: str, yes: bool) -> None:
    assert can_be_copied(line) is yes


@pytest.mark.parametrize("path", sorted((ROOT / "pik").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_each_command_that_is_advised_can_be_copied(path: Path) -> None:
    wrong = [
        f"line {number}: {line}" for number, text in said(path) for line in text.split("\n") if not can_be_copied(line)
    ]
    assert wrong == []


def test_each_command_that_a_check_advises_can_be_copied() -> None:
    assert [spec.name for spec in CHECKS if not all(map(can_be_copied, spec.remedy.format(env="X").split("\n")))] == []


def test_a_terminal_shows_a_command_on_its_own_line() -> None:
    assert advice("  do this  ", "pik status") == "  do this  pik status"
    shown = "\n".join(Refused("no", next_step=LINES)._render_traceback_())
    for text in (advice("  do this  ", LINES), shown):
        assert text.split("\n")[-2:] == ["  do this  pik status --env dev", "           then the same again"]


def test_a_page_shows_a_command_as_code_and_words_about_it_beside() -> None:
    check = Check(name="c", verdict=Verdict.FAILED, sentence="s", remedy=LINES)
    html = StepResult(title="t", headline="h", checks=(check,)).to_html()
    assert "do this: <br><code>pik status --env dev</code><br>then the same again<" in html
