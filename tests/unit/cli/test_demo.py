"""The demo starts from nothing each time, and nobody's work is what it pays with."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pik import emulator, errors, project, runbooks
from pik.cli import app
from pik.cli.demo import next_steps
from pik.emulator import supervisor
from pik.emulator.instance import NONCE_VARIABLE, Instance

Demo = Callable[..., Any]


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A checkout's ``.pik`` in which an embedded AWS "starts" without a process, and a rollout does nothing."""

    def start(state: Path, *_: object) -> Instance:
        (state / "snapshots" / "00000001").mkdir(parents=True, exist_ok=True)
        return Instance("no such process", 0, 1, "2026-01-01T00:00:00+00:00")

    monkeypatch.delenv(emulator.STATE_VARIABLE, raising=False)
    monkeypatch.setenv(emulator.OWNER_VARIABLE, "0")
    monkeypatch.setattr(project, "LOCAL_STATE", tmp_path / ".pik" / "local")
    monkeypatch.setattr(supervisor, "start", start)
    monkeypatch.setattr(project, "EMULATOR_PYTHON", Path(os.devnull))
    monkeypatch.setattr(runbooks, "run", lambda *_, **__: (_ for _ in ()).throw(SystemExit(0)))
    return tmp_path / ".pik"


@pytest.fixture
def demo() -> Demo:
    """Run ``pik demo`` in a shell of its own: what it sets in the environment ends with it."""

    def run(*words: str) -> Any:
        try:
            return CliRunner().invoke(app, ["demo", *words])
        finally:
            os.environ.pop(emulator.STATE_VARIABLE, None)

    return run


def write_work(state: Path) -> Path:
    """Leave something in a state directory, as an ingest would."""
    work = state / "s3" / "raw" / "mine.json"
    work.parent.mkdir(parents=True, exist_ok=True)
    work.write_text("mine")
    return work


def test_own_events_between_two_demos_survive(checkout: Path, demo: Demo) -> None:
    demo()
    emulator.up()
    work = write_work(emulator.state_dir())

    demo()

    assert work.read_text() == "mine"
    assert work.is_relative_to(checkout / "local")


def test_work_that_an_earlier_version_marked_as_the_demos_survives(checkout: Path, demo: Demo) -> None:
    work = write_work(checkout / "local")
    (checkout / "local" / "made-by-demo").touch()

    demo()

    assert work.read_text() == "mine"


def test_work_in_what_the_demo_left_is_put_aside_whole(checkout: Path, demo: Demo) -> None:
    demo()
    emulator.up(checkout / "demo")
    write_work(checkout / "demo")

    shown = demo()

    (kept,) = checkout.glob("demo-*")
    assert (kept / "s3" / "raw" / "mine.json").read_text() == "mine"
    assert (kept / "snapshots").is_dir()
    assert not (checkout / "demo" / "s3").exists()
    assert kept.name in shown.output
    assert oct(kept.stat().st_mode & 0o777) == "0o700"


def test_what_nobody_opened_since_is_replaced(checkout: Path, demo: Demo) -> None:
    demo()
    left = write_work(checkout / "demo")  # the demo's own

    demo()

    assert not left.exists()
    assert list(checkout.glob("demo-*")) == []


def test_a_demo_kept_running_counts_as_opened(checkout: Path, demo: Demo) -> None:
    demo("--keep")
    write_work(checkout / "demo")

    demo()

    (kept,) = checkout.glob("demo-*")
    assert (kept / "s3" / "raw" / "mine.json").exists()


def test_it_is_refused_while_its_state_is_in_use(checkout: Path, demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    demo()
    work = write_work(checkout / "demo")
    monkeypatch.setenv(NONCE_VARIABLE, "in use")
    Instance("in use", os.getppid(), 1, "2026-01-01T00:00:00+00:00").write(checkout / "demo")
    monkeypatch.setattr(Instance, "alive", property(lambda self: self.nonce == "in use"))

    refused = demo()

    assert isinstance(refused.exception, errors.Refused)
    assert work.exists()
    assert str(checkout / "demo") in refused.exception.next_step


@pytest.mark.parametrize("events", ["no-such-file.jsonl", "flights:2020-01-01", "flights:someday", "{empty}"])
def test_wrong_events_are_refused_before_anything_is_touched(
    checkout: Path, demo: Demo, events: str, tmp_path: Path
) -> None:
    demo()
    left = write_work(checkout / "demo")
    (tmp_path / "empty.jsonl").touch()

    wrong = demo("--events", events.format(empty=tmp_path / "empty.jsonl"))

    assert isinstance(wrong.exception, errors.UsageError)
    assert left.exists()


def test_a_mistake_in_the_realism_mode_is_found_before_anything_is_touched(
    checkout: Path, demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo()
    left = write_work(checkout / "demo")
    monkeypatch.setenv("PIK_LOCAL_REALISM", "seven")

    assert isinstance(demo().exception, errors.UsageError)
    assert left.exists()


def test_another_state_directory_has_a_demo_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(emulator.STATE_VARIABLE, str(tmp_path / "mine"))

    assert emulator.demo_state() == (tmp_path / "mine-demo").resolve()
    monkeypatch.setenv(emulator.STATE_VARIABLE, str(emulator.demo_state()))  # as the demo's last lines say
    assert emulator.demo_state() == (tmp_path / "mine-demo").resolve()


def test_the_last_lines_are_commands_for_this_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "\n".join(next_steps(tmp_path / "with space" / "demo"))

    assert "lab --state 'with space/demo'" in lines
    assert "export PIK_LOCAL_STATE='with space/demo'" in lines


def test_the_last_lines_say_what_there_is_to_find_and_not_where(tmp_path: Path) -> None:
    told = {
        "source": "MQ-sim-dropped-window-4",
        "start": "2013-01-01T00:00:00Z",
        "end": "2013-01-16T00:00:00Z",
        "window": ["2013-01-07T14:11:25Z", "2013-01-07T19:14:59Z"],
    }
    lines = "\n".join(next_steps(tmp_path, incident=told))
    assert "run missing-window -p source=MQ-sim-dropped-window-4 -p start=2013-01-01 -p end=2013-01-16" in lines
    assert "2013-01-07" not in lines


def test_a_demo_without_its_incident_is_a_demo_all_the_same(
    checkout: Path, demo: Demo, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object, **__: object) -> None:
        raise errors.AwsError("not everything could be delivered")

    monkeypatch.setattr("pik.cli.demo._rollout", lambda *_: 0)
    monkeypatch.setattr("pik.incidents.simulate", refuses)
    said = demo()
    assert said.exit_code == 0
    assert "pik lab" in said.output
    assert "missing-window" not in said.output
