"""The tutorial as a stranger goes through it: every command in its order, and what the page says that it prints."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pik import project
from pik.cli import app
from pik.environments import Environment

PAGE = project.ROOT / "docs" / "tutorial.md"
# Set-up is what this test runs in, and the embedded AWS ends with the file's tests.
ELSEWHERE = {"make setup", ". .venv/bin/activate", "pik local down"}


@pytest.mark.slow
def test_the_tutorial_can_be_followed(
    embedded_env: Environment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(project, "STATE", tmp_path / ".pik")
    monkeypatch.setattr(project, "RUNS", tmp_path / "runs")
    monkeypatch.setattr("webbrowser.open", lambda _: True)
    printed, shown = "", 0
    blocks = re.findall(r"^((?: {4}[^\n]+\n)+)|^```text\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    for commands, output in blocks:
        if commands:
            printed = "\n".join(carried_out(line.strip()) for line in commands.splitlines())
        for line in output.splitlines():
            assert re.search(pattern(line), one_line(printed)), f"not printed: {line}\n{printed}"
            shown += 1
    assert shown > 15


def carried_out(command: str) -> str:
    """Do what a line of the page says, and return what it prints."""
    if command in ELSEWHERE:
        return ""
    program, *words = shlex.split(command)
    if program != "pik":
        return subprocess.run([program, *words], capture_output=True, text=True, check=True).stdout
    result = CliRunner().invoke(app, words)
    found = words[0] == "run" and "✗ failed" in result.output
    assert result.exit_code == (4 if found else 0), f"{command}\n{result.output}\n{result.exception}"
    return result.output.replace("runs already", "is up")  # the file's tests have started it


def one_line(text: str) -> str:
    """Text without its line breaks, which depend on the terminal's width."""
    return " ".join(text.split())


def pattern(line: str) -> str:
    """What a line of the page stands for: three dots are whatever is there."""
    return re.escape(one_line(line)).replace("…", ".*?")
