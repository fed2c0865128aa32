"""``pik lab``: what it refuses before anything starts, and that its server does not outlive it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from pik import emulator, errors
from pik.cli import app


@pytest.fixture(autouse=True)
def never_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is started here."""
    monkeypatch.setattr(emulator, "up", lambda *_, **__: pytest.fail("it was started"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["lab", "--folder", str(tmp_path / "missing")])

    assert isinstance(result.exception, errors.UsageError)
    assert "missing" in str(result.exception)


@pytest.mark.parametrize("port", ["99999", "0", "-1"])
def test_a_port_that_cannot_be_is_named(port: str) -> None:
    result = CliRunner().invoke(app, ["lab", f"--port={port}"])

    assert result.exit_code == 2
    assert "--port" in result.output
    assert "65535" in result.output or "1024" in result.output


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_the_server_ends_with_the_command_whatever_ends_that(number: signal.Signals) -> None:
    server = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    code = f"import sys; from pik.cli import lab; lab._serve([sys.executable, '-c', {server!r}])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout
        pid = int(command.stdout.readline())
        process = psutil.Process(pid)
        deadline = time.monotonic() + 10
        while len(psutil.Process(command.pid).children()) < 2:  # the server and its guard
            assert time.monotonic() < deadline
        command.send_signal(number)
        assert psutil.wait_procs([process], timeout=10)[0] == [process]
    if number is signal.SIGINT:
        assert command.returncode == 0
