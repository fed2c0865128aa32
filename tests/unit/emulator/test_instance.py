"""Starting blocks: the scrubbed environment, the record, and identities that cannot be confused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pik import errors, project
from pik.cli.local import local as commands
from pik.emulator import NONCE_VARIABLE, STATE_VARIABLE, down, reset, running_endpoint, state_dir, status, up
from pik.emulator import snapshots as snapshots_module
from pik.emulator.instance import Instance, is_marked, kill, processes, recorded
from pik.emulator.snapshots import Snapshots
from pik.emulator.starting import launch_environment


def test_the_emulator_gets_nothing_of_the_callers_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "HTTP_PROXY", "PYTHONPATH", "SECRET"):
        monkeypatch.setenv(name, "leaked")

    env = launch_environment(tmp_path, "nonce", 1234)

    assert "leaked" not in env.values()
    assert env["BIND_HOST"] == "127.0.0.1"
    assert env["AUTH"] == "true"
    assert env["AWS_ACCESS_KEY_ID"] == "test"
    for name in ("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"):
        assert Path(env[name]).is_relative_to(tmp_path)


def test_the_state_directory_can_be_moved_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(STATE_VARIABLE, raising=False)
    assert state_dir() == project.LOCAL_STATE
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    assert state_dir() == tmp_path


def test_nothing_recorded_is_not_running(tmp_path: Path) -> None:
    with pytest.raises(errors.AwsError, match="not running") as raised:
        running_endpoint(tmp_path)
    assert raised.value.next_step == "pik local up"
    assert down(tmp_path) is False
    assert status(tmp_path).running is False


def test_a_process_id_given_to_somebody_else_is_not_taken_for_ours(tmp_path: Path) -> None:
    Instance("not-in-any-environment", os.getpid(), 1, "2026-01-01T00:00:00+00:00").write(tmp_path)

    with pytest.raises(errors.AwsError, match="not running"):
        running_endpoint(tmp_path)
    assert down(tmp_path) is False  # and this process is still here


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', "null"])
def test_a_broken_record_is_no_record(tmp_path: Path, content: str) -> None:
    (tmp_path / "instance.json").write_text(content)

    assert recorded(tmp_path) is None


def test_every_process_with_the_mark_is_found_and_ended() -> None:
    nonce = "0123456789abcdef-test"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=-1, env={NONCE_VARIABLE: nonce}) as child:
        try:
            while not is_marked(child.pid, nonce):  # between fork and exec it still has our environment
                assert child.poll() is None
            assert processes(nonce) == [child.pid]
            kill(nonce)
            assert child.wait(5) == -9
        finally:
            child.kill()


def test_without_the_emulator_the_next_step_is_setup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(project, "EMULATOR_PYTHON", tmp_path / "missing")

    with pytest.raises(errors.AwsError, match="not installed") as raised:
        up(tmp_path)
    assert raised.value.next_step == "make setup"


def test_an_emulator_that_dies_at_once_is_an_error_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "python"
    fake.write_text("#!/bin/sh\necho 'no such luck' >&2\nexit 1\n")
    fake.chmod(0o755)
    monkeypatch.setattr(project, "EMULATOR_PYTHON", fake)

    with pytest.raises(errors.AwsError, match="did not start") as raised:
        up(tmp_path / "state")
    assert raised.value.reason == "no such luck"
    assert recorded(tmp_path / "state") is None


def test_reset_deletes_everything_but_the_lock(tmp_path: Path) -> None:
    (tmp_path / "s3").mkdir()
    (tmp_path / "s3" / "object").write_text("x" * 10)

    assert reset(tmp_path) == 10
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_reset_without_a_terminal_wants_yes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(STATE_VARIABLE, str(tmp_path))
    (tmp_path / "kept").write_text("x")

    result = CliRunner().invoke(commands, ["reset"])

    assert isinstance(result.exception, errors.UsageError)
    assert result.exception.exit_code == 2
    assert (tmp_path / "kept").exists()
    done = CliRunner().invoke(commands, ["reset", "--yes", "--json"])
    assert json.loads(done.stdout) == {"deleted_bytes": 1}


# --- snapshots ----------------------------------------------------------------------------------------------------


Saved = tuple[Snapshots, dict[str, Callable[[], Any]]]


@pytest.fixture
def saved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Saved:
    """Snapshots of services that a test makes up, with the two things they use of ministack."""
    persistence: Any = types.ModuleType("ministack.core.persistence")
    persistence._state_format_version = lambda name: 2
    persistence._json_default = str
    core: Any = types.ModuleType("ministack.core")
    core.persistence = persistence
    monkeypatch.setitem(sys.modules, "ministack", types.ModuleType("ministack"))
    monkeypatch.setitem(sys.modules, "ministack.core", core)
    monkeypatch.setitem(sys.modules, "ministack.core.persistence", persistence)
    services: dict[str, Callable[[], Any]] = {}
    snapshots = Snapshots(tmp_path, lambda: services)
    snapshots.restore()
    return snapshots, services


def restored(snapshots: Snapshots) -> dict[str, Any]:
    snapshots.restore()
    return {path.stem: json.loads(path.read_text())["payload"] for path in snapshots.loaded.glob("*.json")}


def broken() -> Any:
    raise RuntimeError("dictionary changed size during iteration")


def test_the_newest_snapshot_is_restored_and_the_only_one_kept(saved: Saved) -> None:
    snapshots, services = saved
    for number in range(3):
        services.update(sqs=partial(dict, n=number), unused=lambda: None)
        assert snapshots.write()

    assert restored(snapshots) == {"sqs": {"n": 2}}
    assert [path.name for path in snapshots.root.iterdir()] == ["00000003"]


def test_a_large_state_is_saved_at_least_once_a_minute() -> None:
    assert snapshots_module.pause_after(0.01) == 5
    assert snapshots_module.pause_after(1) == 20
    assert snapshots_module.pause_after(21) == 60  # 7 minutes behind, if it were 20 times as long


def test_a_snapshot_that_was_not_finished_does_not_count(saved: Saved) -> None:
    snapshots, services = saved
    services["sqs"] = lambda: 1
    snapshots.write()
    unfinished = snapshots.root / "00000002.tmp"
    unfinished.mkdir()
    (unfinished / "sqs.json").write_text("2")

    assert restored(snapshots) == {"sqs": 1}
    assert snapshots.write()
    assert not unfinished.exists()


def test_a_service_that_cannot_be_read_keeps_its_last_state(saved: Saved) -> None:
    snapshots, services = saved
    services.update(sqs=lambda: 1, logs=lambda: "a")
    assert snapshots.write()

    services.update(sqs=broken, logs=lambda: "b")
    assert not snapshots.write()

    assert restored(snapshots) == {"sqs": 1, "logs": "b"}


def test_a_service_that_has_nothing_to_say_keeps_its_last_state(saved: Saved) -> None:
    snapshots, services = saved
    services["sqs"] = lambda: 1
    snapshots.write()

    services["sqs"] = lambda: None
    assert snapshots.write()

    assert restored(snapshots) == {"sqs": 1}
