"""What is shown of text from outside: a terminal obeys none of it, a drawing survives it, and no line is forged."""

from __future__ import annotations

import io
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pandas as pd
import pytest
from rich.table import Table as RichTable

from pik import cli, environments, errors, producer, project
from pik.cli import output
from pik.errors import UsageError
from pik.incidents import kinds
from pik.ledger.text import printable as in_the_ledger
from pik.mappings import catalog
from pik.notebooks import charts, figures
from pik.notebooks.tables import Table
from pik.results import Check, StepResult, Verdict
from pik.runbooks import runbook
from pik.runbooks.record import write_atomically
from pik.text import printable
from pik.workbench import metadata, times
from pik.workbench.consistency.explanation import Explanation, Line
from pik.workbench.consistency.reindex import Reindexed

COMMANDS = {
    "clipboard": "\x1b]52;c;ZXZpbA==\x07",
    "erase": "\x1b[2J\x1b[1;1H",
    "c1": "\x9b31m\x9d0;title\x9c",
    "carriage return": "real\rforged",
    "backspace": "no\x08\x08yes",
    "right to left": "\u202egnp.exe",
    "isolate": "\u2066a\u2069",
    "invisible": "a\u200bb\u2060c\ufeff",
    "line": "a\n✓ forged: all stores agree",
    "separator": "a\u2028b\u2029c",
    "null": "a\x00b",
    "not in XML": "\uffff\ufffe\x01\x1b",
    "half a pair": "\ud83d",
}
EVIL = "".join(COMMANDS.values())
IN_FRAMES = EVIL.replace("\ud83d", "")  # which a frame cannot hold
MARKUP = "[x] [/bold] [link=https://example.com]here[/link] :smile:"


@pytest.mark.parametrize("text", COMMANDS.values(), ids=COMMANDS)
def test_what_is_no_visible_character_is_escaped(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(f"{text}\n", "\n").endswith("\n")
    assert in_the_ledger(text).isprintable()


@pytest.mark.parametrize("text", ["naïve 名前\u3000\u00a0 emoji 🛫", MARKUP, ""])
def test_what_is_visible_stays(text: str) -> None:
    assert printable(text) == text


def lines_of_evil(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_texts_of_the_workbench_forge_no_line() -> None:
    line = Line("2026-11-23T10:17:04.120000Z", EVIL, EVIL, EVIL)
    told = Explanation(EVIL, EVIL, True, (line,), (EVIL,), (EVIL,)).to_text()
    assert len(told.split("\n")) == 4
    assert lines_of_evil(told)
    check = Check(name=EVIL, verdict=Verdict.PASSED, sentence=EVIL)
    result = StepResult(title=EVIL, headline=EVIL, checks=(check,))
    assert len(result.to_text().split("\n")) == 2
    assert lines_of_evil(result.to_text())
    assert lines_of_evil(Reindexed([], [], {EVIL: EVIL}, 1).to_text())
    assert lines_of_evil(repr(Table(pd.DataFrame({IN_FRAMES: [IN_FRAMES]}))))
    assert lines_of_evil("\n".join(errors.Refused(EVIL, reason=EVIL, next_step=EVIL)._render_traceback_()))


@pytest.mark.parametrize("interactive", [True, False])
def test_tables_show_every_name(interactive: bool) -> None:
    table = Table(pd.DataFrame({IN_FRAMES: [IN_FRAMES]}), EVIL, EVIL)
    html = table.interactive() if interactive else table.plain()
    html.encode()
    assert not set(html) & set("\x00\x01\x07\x08\x1b\x9b\u202e\u2066\u200b\uffff")


def test_charts_draw_every_name() -> None:
    row = {"time": pd.Timestamp("2013-01-01", tz="UTC"), "what": IN_FRAMES, "source": IN_FRAMES, "verdict": ""}
    row["says"] = IN_FRAMES
    for chart in (
        charts.counts({IN_FRAMES: 1, "fine": 2}, EVIL, what="reason", unit="messages"),
        charts.timeline([row], EVIL),
        charts.history([row], EVIL),
        figures.nothing(EVIL),
    ):
        bundle: Any = chart._repr_mimebundle_()
        drawn = (bundle[0] if isinstance(bundle, tuple) else bundle)["image/svg+xml"]
        assert "forged" in drawn
        assert lines_of_evil(drawn)


@pytest.mark.parametrize("tty", [True, False])
def test_a_terminal_obeys_nothing_from_outside(tty: bool) -> None:
    file = io.StringIO()
    terminal = output.Terminal(file=file, force_terminal=tty, width=4000, color_system=None)
    table = RichTable(title=MARKUP)
    table.add_column(MARKUP)
    table.add_row(MARKUP + EVIL.replace("\n", ""))
    for thing in (MARKUP + EVIL, table):
        terminal.print(thing)
    shown = file.getvalue()
    assert lines_of_evil(shown)
    assert shown.count("[link=https://example.com]here") == 4
    assert ":smile:" in shown


def run(*words: str) -> int:
    with patch.object(sys, "argv", ["pik", *words]), pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_an_error_forges_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("status", "--env", f"{EVIL}{MARKUP}") == 2
    shown = capsys.readouterr().err
    assert lines_of_evil(shown)
    assert MARKUP in shown.replace("\n", "")
    assert not any(line.startswith("✓") for line in shown.split("\n"))


DEEP = "[" * 20_000
BOOK = "name: trial\ntitle: '[x] [/bold]'\nsteps: [{id: one, title: '[y]', notebook: a.ipynb}]\n"


@pytest.mark.parametrize("text", [DEEP, f"name: {'1' * 5000}", f"name: trial\ntitle: {DEEP}", "name: \x00"])
def test_a_runbook_that_cannot_be_read_is_an_error_with_its_reason(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "trial.yaml").write_text(text)
    assert run("run", str(tmp_path / "trial.yaml"), "--describe") == 2
    assert "cannot use runbook trial.yaml" in capsys.readouterr().err
    assert isinstance(runbook.catalog(tmp_path)[0], errors.UsageError)


def test_a_runbook_may_have_any_title(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "trial.yaml").write_text(BOOK)
    with patch.object(project, "RUNBOOKS", tmp_path):
        assert run("run", "--list") == 0
        assert run("run", "trial", "--describe") == 0
    shown = capsys.readouterr().out
    assert shown.count("[x] [/bold]") == 2
    assert "1 [y]" in shown


@pytest.mark.parametrize("name", ["1" * 5000, "a\x00b", f"{'x' * 5000}.yaml"])
def test_a_name_that_no_file_can_have_is_no_runbook(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("run", name) == 2
    assert "no such runbook" in capsys.readouterr().err


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_holds_payloads_is_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    with patch.object(project, "STATE", state):
        folder = project.private_folder(state / "a" / "b")
    assert {mode(path) for path in (state, state / "a", folder)} == {0o700}
    (folder / "old").write_text("was readable")
    for how in ("w", "a"):
        with project.private_file(folder / "old", how) as file:
            file.write("x")
    write_atomically(folder / "new", "y")
    assert {mode(folder / "old"), mode(folder / "new")} == {0o600}
    assert (folder / "old").read_text() == "xx"
    with pytest.raises(FileExistsError):
        project.private_folder(folder / "old")


@pytest.mark.parametrize(
    "ask",
    [
        environments.environment,
        catalog.find,
        lambda name: kinds.make(name, 1),
        runbook.load,
        times.moment,
        times.day,
        times.milliseconds,
        lambda name: metadata.events(None, day="2013-01-01", status=name),  # type: ignore[arg-type]
        lambda name: metadata.events(None, day="2013-01-01", columns=[name]),  # type: ignore[arg-type]
        producer.open_source,
    ],
)
def test_an_empty_name_is_said_to_be_empty(ask: Callable[[str], object]) -> None:
    with pytest.raises(UsageError) as raised:
        ask("")
    assert "(empty)" in raised.value.message


def test_an_empty_name_is_not_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "events.jsonl").write_text("{}")
    monkeypatch.chdir(tmp_path)
    for name in ("", " "):
        with pytest.raises(UsageError, match="no such file or data set"):
            producer.open_source(["events.jsonl", name])
