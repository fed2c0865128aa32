"""The command line's manners: exit codes, errors as sentences or JSON, help for every command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import typer
from botocore.exceptions import EndpointConnectionError

from pik import cli, errors
from pik.cli import run as run_command
from pik.errors import Refused

Call = Callable[..., int]


@pytest.fixture
def call() -> Call:
    """Run ``pik`` with the words given; return its exit code."""

    def run(*words: str) -> int:
        with patch.object(sys, "argv", ["pik", *words]), pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0)

    return run


@pytest.mark.parametrize(
    ("words", "said", "next_step"),
    [
        (("deploy",), "Missing", "pik deploy --help"),
        (("nonsense",), "No such command", "pik --help"),
        (("local", "sideways"), "No such command", "pik local --help"),
        (("run", "--bogus"), "No such option", "pik run --help"),
        (("ingest", "flights", "--concurrency", "many"), "--concurrency", "pik ingest --help"),
        (("status", "--env", "prd"), "no such environment: prd", "local, dev, staging, prod"),
    ],
)
def test_wrong_usage_is_a_sentence_a_next_step_and_2(
    call: Call, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str, next_step: str
) -> None:
    assert call(*words) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert said in shown.err
    assert next_step in shown.err
    assert "Traceback" not in shown.err
    assert call(*words, "--json") == 2
    assert said in json.loads(capsys.readouterr().out)["error"]


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (errors.Refused("no"), 3),
        (errors.CheckFailed("no"), 4),
        (errors.NotDeployed("no"), 5),
        (EndpointConnectionError(endpoint_url="x"), 5),
        (KeyboardInterrupt(), 130),
        (typer.Abort(), 130),
    ],
)
def test_each_kind_of_error_has_its_exit_code(call: Call, raised: BaseException, code: int) -> None:
    with patch("pik.emulator.status", side_effect=raised):
        assert call("local", "status") == code


def test_a_bug_shows_its_traceback() -> None:
    with (
        patch("pik.emulator.status", side_effect=ZeroDivisionError),
        patch.object(sys, "argv", ["pik", "local", "status"]),
        pytest.raises(ZeroDivisionError),
    ):
        cli.main()


def test_version_and_help(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--version") == 0
    assert capsys.readouterr().out == "pik 0.1.0\n"
    assert call("--help") == 0
    assert "Start here" in capsys.readouterr().out


HEAVY = {"boto3", "jinja2", "pandas", "polars", "papermill", "pyarrow", "pydantic"}


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("run", "rollout", "--env", "nosuch"), 2),
        (("status", "--env", "nosuch"), 2),
        (("explain", "ab" * 32, "--env", "nosuch"), 2),
        (("explain", "12ab"), 2),  # no id: said also where nothing runs
        (("status",), 5),
        (("rollback",), 5),
        (("explain", "ab" * 32), 5),
        (("--help",), 0),
    ],
)
def test_a_refusal_comes_before_anything_heavy_is_imported(words: tuple[str, ...], code: int, tmp_path: Path) -> None:
    heavy = HEAVY - {"pydantic"} if "nosuch" in words else HEAVY  # pydantic checks a pik.toml, once it must be read
    program = (
        f"import sys; sys.argv = {['pik', *words]!r}; from pik.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n"
        f"    print('ended', end.code, *sorted({heavy} & sys.modules.keys()))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "PIK_LOCAL_STATE": str(tmp_path)},
        check=False,
    )
    assert ran.stdout.splitlines()[-1].split() == ["ended", str(code)], ran.stderr


def test_looking_at_an_environment_imports_nothing_that_changes_one() -> None:
    code = "import sys, pik.cli, pik.rollout.deploy.status; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = set(ran.stdout.split())
    assert imported & (HEAVY - {"boto3"}) == set()
    changing = {"deploy", "promote", "rollback", "canary", "converge"}
    assert imported & {f"pik.rollout.deploy.{name}" for name in changing} == set()


def test_a_command_ends_without_a_last_look_for_garbage() -> None:
    code = "import atexit, gc; from pik.cli import main; atexit.register(lambda: print(gc.get_freeze_count() > 1000))"
    ran = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; sys.argv = ['pik', '--version']; main()"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == ["pik", "0.1.0", "True"]


@pytest.mark.parametrize("words", [("-h",), ("deploy", "-h"), ("local", "up", "-h")])
def test_h_is_help(call: Call, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert call(*words) == 0
    assert capsys.readouterr().out.startswith("Usage: pik")


def test_no_summary_is_cut_at_80_columns() -> None:
    def cut(group: Any, name: str) -> Iterator[str]:
        commands = getattr(group, "commands", {})
        for word, command in commands.items():
            if command.get_short_help_str(limit=80 - 6 - max(map(len, commands))).endswith("..."):
                yield f"{name} {word}"
            yield from cut(command, f"{name} {word}")

    assert list(cut(typer.main.get_command(cli.app), "pik")) == []


def test_help_and_completion_list_the_environments_of_the_project(tmp_path: Path) -> None:
    file = tmp_path / "pik.toml"
    file.write_text("[environments.qa]\n[environments.dev-2]\n")

    def shown(*words: str, **more: str) -> str:
        own = {**os.environ, "PIK_CONFIG": str(file), "COLUMNS": "120", **more}
        words = (str(Path(sys.executable).with_name("pik")), *words)
        return " ".join(subprocess.run(words, env=own, capture_output=True, text=True, check=False).stdout.split())

    for command in ("status", "deploy", "promote"):
        assert "local, dev, staging, prod, qa or dev-2" in shown(command, "--help")
    asked = {"_PIK_COMPLETE": "complete_bash", "COMP_WORDS": "pik status --env d", "COMP_CWORD": "3"}
    assert shown(**asked).split() == ["dev", "dev-2"]
    file.write_text("[environments.QA]\n")  # no reason to show no help
    assert "local, dev, staging or prod" in shown("status", "--help")


@pytest.mark.parametrize(
    ("name", "asks"), [("local", ""), ("dev", ""), ("play", ""), ("qa", "says"), ("staging", "says"), ("live", "asks")]
)
def test_a_run_says_where_it_goes_and_asks_where_much_depends_on_it(
    name: str, asks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pik.toml"
    file.write_text(
        '[environments.qa]\n[environments.play]\nprotection = "open"\n'
        '[environments.live]\nprotection = "protected"\nafter = "qa"\n'
    )
    monkeypatch.setenv("PIK_CONFIG", str(file))
    monkeypatch.setattr("sys.stdin", io.StringIO())
    if asks == "asks":
        with pytest.raises(Refused, match="a run in live was not confirmed"):
            run_command._guard(name, False)
    else:
        run_command._guard(name, False)
    assert (f"this run goes to {name}" in capsys.readouterr().err) == bool(asks)
    run_command._guard(name, True)


@pytest.mark.parametrize("words", [("explain",), ("promote",), ("ledger", "show")])
def test_a_command_that_needs_more_shows_its_help_as_it_is(
    call: Call, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: pik ")
    assert "\\n" not in told


def test_a_run_without_a_name_says_which_runbooks_there_are(call: Call, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("run") == 2
    assert "missing-window" in capsys.readouterr().err


def test_a_relative_state_directory_is_the_same_one_for_a_notebooks_kernel(
    call: Call, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIK_LOCAL_STATE", "state/demo")

    assert call("--version") == 0
    assert os.environ["PIK_LOCAL_STATE"] == str(tmp_path / "state" / "demo")


def test_no_part_of_an_error_commands_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    cli._show(Refused("a\x1b[2J", reason="b\x1b[2J\nc", next_step="d\x1b[2J\ne"))

    told = capsys.readouterr()
    assert "\x1b" not in told.out + told.err
    assert [(told.out + told.err).count(text) for text in (r"\x1b[2J", "\n           c", "\n           e")] == [3, 1, 1]
