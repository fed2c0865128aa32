"""Every command that a page tells people to run exists, with these options, runbooks and parameters."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.exceptions import TyperException

from pik import runbooks
from pik.cli import app
from pik.project import ROOT
from pik.workbench import Workbench
from pik.workbench.queues import DeadLetters

PAGES = [ROOT / "docs" / name for name in ("symptoms.md", "tutorial.md")]
EVERY = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
COMMAND = typer.main.get_command(app)
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def code(page: Path) -> list[str]:
    """What a page shows as code between backquotes, and in blocks that are set in."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^ {4}(.*)$", text, re.MULTILINE)]


def said(page: Path, first: str) -> list[list[str]]:
    """The page's commands of one program, as the words that a shell makes of each."""
    words = [shlex.split(line, comments=True) for line in code(page) if line.startswith(f"{first} ")]
    return [line[1:] for line in words]


def shown(page: Path) -> list[list[str]]:
    """The commands of blocks that are set in, without what follows two spaces (why) or is in brackets (optional)."""
    lines = re.findall(r"^    pik (.*)$", page.read_text(), re.MULTILINE)
    return [shlex.split(re.sub(r"\[[^]]*\]", "", re.split(r" {2,}(?![ -])| #", line)[0])) for line in lines]


def parsed(words: list[str]) -> tuple[list[str], dict[str, Any]]:
    """Return the command that these words name and what they give it; raise where it does not take them."""
    command: Any = COMMAND
    path, rest = ["pik"], list(words)
    context = command.context_class(command, info_name="pik")
    while getattr(command, "commands", None):
        path.append(rest.pop(0))
        command = command.commands[path[-1]]
        context = command.context_class(command, info_name=path[-1], parent=context)
    given, left, _ = command.make_parser(context).parse_args(rest)
    missing = [one.name for one in command.params if one.required and given.get(one.name) is None]
    assert (left, missing) == ([], [])
    return path, given


@pytest.mark.parametrize(
    "words", [pytest.param(words, id=f"pik {shlex.join(words)}") for page in PAGES for words in said(page, "pik")]
)
def test_a_command_of_a_page_exists(words: list[str]) -> None:
    path, given = parsed(words)
    if path == ["pik", "run"] and given.get("runbook"):
        names = {one.partition("=")[0] for one in given.get("parameter", [])}
        assert names <= runbooks.load(given["runbook"]).parameters.keys()


@pytest.mark.parametrize("page", [page for page in EVERY if shown(page)], ids=lambda page: page.name)
def test_the_commands_of_every_other_page_exist_too(page: Path) -> None:
    for words in shown(page):
        test_a_command_of_a_page_exists(words)


@pytest.mark.parametrize(
    "words", [["nonsense"], ["status", "--nonsense"], ["explain", "--env", "dev"], ["doctor", "x"]]
)
def test_a_command_that_does_not_exist_is_noticed(words: list[str]) -> None:
    with pytest.raises((KeyError, AssertionError, TyperException)):
        parsed(words)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_has_commands_and_names_targets_that_exist(page: Path) -> None:
    assert len(said(page, "pik")) > 8
    assert {words[0] for words in said(page, "make") if words} <= TARGETS


def test_calls_of_the_workbench_can_be_made_as_the_page_writes_them() -> None:
    calls = [ast.parse(text, mode="eval").body for text in code(PAGES[0]) if re.match(r"wb\.[\w.]+\(", text)]
    assert len(calls) > 4
    for call in calls:
        assert isinstance(call, ast.Call)
        assert isinstance(call.func, ast.Attribute)
        of = DeadLetters if ast.unparse(call.func).startswith("wb.dlq.") else Workbench
        given = {keyword.arg: None for keyword in call.keywords if keyword.arg}
        inspect.signature(getattr(of, call.func.attr)).bind(None, *call.args, **given)


def test_the_page_of_symptoms_names_every_alarm_and_every_runbook_that_investigates() -> None:
    text = PAGES[0].read_text()
    template = (ROOT / "template.yaml").read_text()
    alarms = re.findall(r"^  (\w+):\n    Type: AWS::CloudWatch::Alarm", template, re.MULTILINE)
    assert alarms
    assert [name for name in alarms if f"`{name}`" not in text] == []
    notebooks = {path.stem.replace("_", "-") for path in (ROOT / "notebooks" / "investigate").glob("*.ipynb")}
    named = {words[1] for words in said(PAGES[0], "pik") if words[0] == "run"}
    assert notebooks - named == {"explain-event", "ledger"}  # of which the page names the commands


def test_what_changes_something_says_so() -> None:
    changing = {"rollback", "approve", "deploy", "promote", "--apply", "--remove", "--resume"}
    rows = [line for line in PAGES[0].read_text().splitlines() if line.startswith("|")]
    silent = [
        row for row in rows if changing & set(re.findall(r"--?\w+|\w+", _commands(row))) and "**changes**" not in row
    ]
    assert silent == []


def _commands(row: str) -> str:
    return " ".join(text for text in re.findall(r"`([^`]+)`", row) if text.startswith(("pik ", "--")))


def test_the_glossary_is_in_order_and_has_each_word_once() -> None:
    terms = re.findall(r"^\| (?!term|---)([^|]+?) \|", (ROOT / "docs" / "glossary.md").read_text(), re.MULTILINE)
    assert len(terms) >= 30
    assert terms == sorted(set(terms), key=str.lower)
