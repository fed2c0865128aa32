"""The runs that are kept: listed, opened, and the old ones deleted, never those that somebody still needs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest

from pik import cli
from pik.provenance import Where
from pik.runbooks.record import RECORD, REPORT, Run, RunbookSource, State, StepRecord, lock

Call = Callable[..., int]


@pytest.fixture
def call() -> Call:
    def run(*words: str) -> int:
        with patch.object(sys, "argv", ["pik", "runs", *words]), pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


def a_run(folder: Path, started: str, state: State = State.PASSED, env: str = "local") -> Path:
    """Write a run that was started on a day."""
    name = f"{started}T10-00-00Z-rollout-{env}"
    step = StepRecord(number=1, id="a", title="A", notebook="a.ipynb", parameters={}, source_sha256="0", state=state)
    run = Run(
        id=name,
        runbook=RunbookSource(name="rollout", title="Roll out", description="", path="r.yaml", sha256="0"),
        where=Where(environment=env, stack=f"pik-{env}", region="us-east-1", account="0" * 12),
        parameters={},
        payloads=True,
        state=state,
        user="ana",
        host="h",
        started=f"{started}T10:00:00.000Z",
        seconds=61.0,
        steps=[step],
    )
    run._path = folder / name
    (run.path / "notebooks").mkdir(parents=True)
    (run.path / "notebooks" / "a.ipynb").write_text("x" * 100)
    (run.path / REPORT).write_text("<html>")
    run.save()
    return run.path


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    """Three runs, the newest first: one that passed, one that failed, one that passed."""
    return [
        a_run(tmp_path, "2025-03-03"),
        a_run(tmp_path, "2025-02-02", State.FAILED),
        a_run(tmp_path, "2025-01-01", env="dev"),
    ]


def said(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return dict(json.loads(capsys.readouterr().out))


def test_list_shows_the_newest_first(
    call: Call, three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("list", "--runs-dir", str(tmp_path), "--json") == 0
    found = said(capsys)["runs"]
    assert isinstance(found, list)
    assert [(run["run"], run["state"]) for run in found] == [
        (three[0].name, "passed"),
        (three[1].name, "failed"),
        (three[2].name, "passed"),
    ]
    assert call("list", "--runs-dir", str(tmp_path), "--env", "dev") == 0
    shown = capsys.readouterr().out
    assert three[2].name in shown
    assert three[0].name not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_list_of_nothing_says_what_to_run(call: Call, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "--runs-dir", str(tmp_path)) == 0
    assert "pik run --list" in capsys.readouterr().out


def test_open_opens_the_report(call: Call, three: list[Path], tmp_path: Path) -> None:
    with patch("webbrowser.open", return_value=True) as browser:
        assert call("open", "--runs-dir", str(tmp_path)) == 0
        assert call("open", "2025-01", "--runs-dir", str(tmp_path)) == 0
        assert call("open", "1999", "--runs-dir", str(tmp_path)) == 2
    assert [one.args[0] for one in browser.call_args_list] == [(three[n] / REPORT).as_uri() for n in (0, 2)]


def test_prune_shows_first_and_deletes_only_what_passed(
    call: Call, three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("prune", "--keep", "1", "--days", "30", "--runs-dir", str(tmp_path))
    assert call(*arguments) == 0
    assert "--apply" in capsys.readouterr().err
    assert all(folder.is_dir() for folder in three)
    assert call(*arguments, "--apply") == 0
    assert [folder.is_dir() for folder in three] == [True, True, False]
    assert call(*arguments, "--apply", "--unfinished") == 0
    assert [folder.is_dir() for folder in three] == [True, False, False]


def test_prune_spares_what_is_young_under_way_or_unreadable(call: Call, three: list[Path], tmp_path: Path) -> None:
    (three[1] / RECORD).write_text("{")
    young = str(10 * 365)
    assert call("prune", "--keep", "0", "--days", young, "--apply", "--runs-dir", str(tmp_path)) == 0
    with lock(three[0]):
        assert call("prune", "--keep", "0", "--days", "1", "--apply", "--runs-dir", str(tmp_path)) == 0
    assert [folder.is_dir() for folder in three] == [True, True, False]


def test_a_run_that_is_half_deleted_is_deleted_by_the_next_try(call: Call, three: list[Path], tmp_path: Path) -> None:
    unlink = Path.unlink

    def fails(path: Path, **more: bool) -> None:
        if path.name == RECORD:
            raise OSError("killed")
        unlink(path, **more)

    arguments = ("prune", "--keep", "2", "--apply", "--runs-dir", str(tmp_path))
    with patch.object(Path, "unlink", fails), pytest.raises(OSError, match="killed"):
        call(*arguments)
    assert os.listdir(three[2]) == [RECORD]
    assert call(*arguments) == 0
    assert not three[2].exists()


def test_a_link_below_the_runs_is_neither_listed_nor_emptied(
    call: Call, three: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere = a_run(tmp_path / "elsewhere", "2024-01-01")
    (tmp_path / "2020-link").symlink_to(elsewhere)
    assert call("list", "--runs-dir", str(tmp_path), "--json") == 0
    found = said(capsys)["runs"]
    assert isinstance(found, list)
    assert len(found) == 3
    assert call("prune", "--keep", "0", "--days", "0", "--unfinished", "--apply", "--runs-dir", str(tmp_path)) == 0
    assert (elsewhere / RECORD).is_file()
    assert not any(folder.exists() for folder in three)
