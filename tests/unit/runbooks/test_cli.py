"""``pik run``: what it refuses, and what it prints."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pik import project, runbooks
from pik.cli import run as command
from pik.cli.run import Pulse
from pik.errors import PikError, Refused, UsageError
from pik.provenance import Where
from pik.results import StepResult
from pik.runbooks.record import Recorded, Run, RunbookSource, State, StepRecord

BOOK = """
name: trial
title: A trial
description: What it does.
parameters:
  note: {type: string, default: hi, description: a word}
  to: {type: choice, choices: [ingest, replay]}
steps:
  - {id: one, title: One, notebook: one.ipynb}
"""


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    (tmp_path / "trial.yaml").write_text(BOOK)
    monkeypatch.setattr(project, "RUNBOOKS", tmp_path)
    monkeypatch.setattr(project, "RUNS", tmp_path / "runs")
    app = typer.Typer()
    command.register(app)
    return app


def failing(app: typer.Typer, *arguments: str) -> PikError:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, PikError), result.output
    return result.exception


def finished(state: State, path: Path) -> Run:
    step = StepRecord(
        number=1, id="one", title="One", notebook="one.ipynb", parameters={}, source_sha256="", state=state
    )
    run = Run(
        id="r",
        runbook=RunbookSource(name="trial", title="A trial", description="", path="", sha256=""),
        where=Where(environment="local", stack="s", region="r", account="1"),
        parameters={},
        state=state,
        user="ana",
        host="desk",
        started="",
        steps=[step],
    )
    run._path = path
    return run


def test_list_and_describe(app: typer.Typer) -> None:
    listed = CliRunner().invoke(app, ["--list"])
    described = CliRunner().invoke(app, ["trial", "--describe"])
    as_json = CliRunner().invoke(app, ["--list", "--json"])

    assert "trial" in listed.stdout
    assert all(word in described.stdout for word in ("-p note=", "default hi", "ingest|replay", "required", "1 One"))
    assert json.loads(as_json.stdout)["runbooks"][0]["name"] == "trial"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trail"], "did you mean trial"),
        (["trial", "-p", "note"], "takes name=value"),
        (["trial", "-p", "note=1", "-p", "note=2"], "given twice"),
        (["trial", "-p", "nte=1"], "did you mean note"),
        (["trial"], "parameter to is needed"),
        (["trial", "--env", "porduction"], "no such environment|is not one of"),
        (["--resume", "x"], "no such run"),
        (["trial", "--resume", "x"], "name a runbook, or a run"),
        (["--json"], "name a runbook, or a run"),
    ],
)
def test_wrong_usage(app: typer.Typer, arguments: list[str], says: str) -> None:
    error = failing(app, *arguments)

    assert isinstance(error, UsageError)
    assert any(part in str(error) for part in says.split("|"))
    assert error.next_step


def test_prod_is_not_run_without_a_yes(app: typer.Typer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(runbooks, "run", lambda *_, **__: finished(State.PASSED, tmp_path))

    assert isinstance(failing(app, "trial", "--env", "prod"), Refused)
    assert CliRunner().invoke(app, ["trial", "--env", "prod", "--yes"]).exit_code == 0


@pytest.mark.parametrize(("state", "code"), [(State.PASSED, 0), (State.FAILED, 4), (State.INTERRUPTED, 130)])
def test_the_exit_code_is_the_verdict(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: State, code: int
) -> None:
    monkeypatch.setattr(runbooks, "run", lambda *_, **__: finished(state, tmp_path))

    text = CliRunner().invoke(app, ["trial"])
    data = CliRunner().invoke(app, ["trial", "--json"])

    assert (text.exit_code, data.exit_code) == (code, code)
    assert str(tmp_path / "index.html") in text.stdout
    assert json.loads(data.stdout)["verdict"] == state


def test_the_summary_says_where_a_step_is_recorded_or_why_it_is_not(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done = finished(State.PASSED, tmp_path)
    done.steps[0].result = StepResult(title="t", headline="as found")
    monkeypatch.setattr(runbooks, "run", lambda *_, **__: done)

    done.steps[0].note = "not recorded in the ledger: nobody is there"
    assert "not recorded in the ledger: nobody is there" in CliRunner().invoke(app, ["trial"]).stdout
    done.steps[0].ledger = Recorded(number=118, hash="9f3c2a41d0b7e55c" * 4)
    assert "ledger entry 118 · 9f3c2a41d0b7e55c\n" in CliRunner().invoke(app, ["trial"]).stdout


def test_what_lasts_is_said_again_without_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with Pulse(every=0.05) as pulse:
        pulse.doing("step 2/4 Replay · cell [1]/8")
        time.sleep(0.3)
        pulse.doing("")
        time.sleep(0.1)
        before = capsys.readouterr().err
        time.sleep(0.2)
    assert "step 2/4 Replay · cell [1]/8 · 0 s" in before
    assert capsys.readouterr().err == ""


def test_a_step_of_many_short_cells_gives_a_sign_of_life(capsys: pytest.CaptureFixture[str]) -> None:
    with Pulse(every=0.2) as pulse:
        for cell in range(10):
            pulse.doing(f"cell {cell}/10")
            time.sleep(0.1)
    assert "cell" in capsys.readouterr().err
