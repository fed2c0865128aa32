"""What a run of ``pik ingest`` leaves for the next: what is no event, where to go on, and when to stop."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pik import producer
from pik.errors import UsageError
from pik.pipeline.settings import Settings
from pik.producer import Item, kept_files
from pik.producer.delivery import Delivery
from pik.producer.kept_files import Checkpoint
from tests.unit.ingest_world import Ingest, ingest_world


@pytest.fixture
def pik(
    monkeypatch: pytest.MonkeyPatch, deployed: Settings, request_of: Callable[..., Any], tmp_path: Path
) -> Iterator[Ingest]:
    with ingest_world(monkeypatch, deployed, request_of, tmp_path / "state") as world:
        yield world


def line(number: int) -> str:
    event = {"source": "s", "event_type": "t", "entity_id": f"e-{number}", "event_time": "2026-11-20T10:00:00Z"}
    return json.dumps({**event, "payload": {"n": number}})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join(map(line, range(60))))
    return path


def interrupted(path: Path, at: int) -> producer.Summary:
    def progress(tally: producer.OutcomeCounts) -> None:
        if tally.done == at:
            os.kill(os.getpid(), signal.SIGINT)

    return producer.send(producer.open_source(str(path)), "local", concurrency=4, on_progress=progress)


def test_an_interrupted_run_is_resumed_without_sending_anything_twice(pik: Ingest, path: Path) -> None:
    first = interrupted(path, 20)
    assert first.interrupted
    assert first.accepted >= 20
    summary = pik.json(path, "--resume")
    assert summary["skipped"] == first.accepted
    assert (summary["accepted"], summary["duplicate"]) == (60 - first.accepted, 0)
    assert len(pik.bodies) == len(set(pik.bodies)) == 60
    assert "nothing to resume" in str(pik.run(path, "--resume").exception)  # it came to its end


def test_what_was_not_delivered_is_sent_when_resumed(pik: Ingest, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    once, patience = Delivery._once, producer.Retries(attempts=2, base=0.001)

    def fail(delivery: Delivery, body: bytes, headers: dict[str, str]) -> Any:
        return ("503", {}, 0.0) if b"e-7" in body else once(delivery, body, headers)

    monkeypatch.setattr(Delivery, "_once", fail)
    assert producer.send(producer.open_source(str(path)), "local", retries=patience).failed == 1
    monkeypatch.setattr(Delivery, "_once", once)
    summary = pik.json(path, "--resume")
    assert (summary["accepted"], summary["total"], summary["skipped"]) == (1, 1, 59)


def test_a_file_that_changed_is_not_resumed(pik: Ingest, path: Path) -> None:
    interrupted(path, 20)
    path.write_text(path.read_text().replace("e-0", "e-x"))
    os.utime(path, ns=(1, 1))
    result = pik.run(path, "--resume")
    assert isinstance(result.exception, UsageError)
    assert "has changed since" in result.exception.reason


def test_standard_input_and_a_dry_run_cannot_be_resumed(pik: Ingest, path: Path) -> None:
    for arguments in (["-"], [str(path), "--dry-run"]):
        assert isinstance(pik.run(*arguments, "--resume").exception, UsageError)


def test_a_killed_run_goes_on_where_it_was_last_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pik.project.STATE", tmp_path)
    monkeypatch.setattr(kept_files, "_SAVE_SECONDS", -1.0)
    checkpoint = Checkpoint.of("x", ["a"], resume=False)
    for ordinal in (2, 1, 5, 3):
        checkpoint.settle(ordinal, failed=ordinal == 2)
    again = Checkpoint.of("x", ["a"], resume=True)
    assert [n for n in range(1, 7) if again.is_done(n)] == [1, 3, 5]
    again.settle(2, failed=False)
    assert [n for n in range(1, 7) if again.is_done(n)] == [1, 2, 3, 5]


def test_a_bad_line_is_counted_named_and_kept(pik: Ingest, path: Path, tmp_path: Path) -> None:
    lines = path.read_text().splitlines()
    lines[10], lines[20] = "{oops", '{"source": 1, "a": "\\u00e4"}'
    path.write_text("\n".join(lines))
    rejects = tmp_path / "rejects.jsonl"
    result = pik.run(path, "--rejects", rejects)
    assert result.exit_code == 4
    assert "58 of 60 events safe" in result.stdout
    assert "line 11: REJECTED not_json" in result.stdout
    assert f"rejected      {rejects}" in result.stdout
    kept = {entry["place"]: entry for entry in map(json.loads, rejects.read_text().splitlines())}
    assert {place: entry["line"] for place, entry in kept.items()} == {"line 11": lines[10], "line 21": lines[20]}
    assert (kept["line 21"]["code"], kept["line 21"]["do_this"]) == (
        "unknown_field",
        "put your own fields into payload",
    )
    assert oct(rejects.stat().st_mode)[-3:] == "600"


def test_bytes_that_are_no_text_are_kept_as_they_are(tmp_path: Path) -> None:
    outcome = producer.Outcome("REJECTED", "400", 1, 0.0, {"code": "not_utf8"})
    kept = json.loads(kept_files.reject_line(Item(3, b"\xff\x00"), outcome))
    assert (kept["place"], bytes.fromhex(kept["line_hex"])) == ("line 3", b"\xff\x00")


@pytest.mark.parametrize(
    ("arguments", "sent", "stopped"),
    [
        ((), 100, True),
        (("--stop-after", "0"), 400, False),
        (("--stop-after", "7"), 7, True),
        (("--dry-run",), 100, True),
    ],
)
def test_the_wrong_file_is_noticed(
    pik: Ingest, tmp_path: Path, arguments: tuple[str, ...], sent: int, stopped: bool
) -> None:
    path = tmp_path / "wrong.jsonl"
    path.write_text("\n".join(f'{{"not": "mine", "n": {n}}}' for n in range(400)))
    result = pik.run(path, "--concurrency", "1", *arguments)
    assert result.exit_code == 4
    assert sent <= len(pik.bodies) <= sent + 3
    assert ("check that this is the right file" in result.stdout) == stopped


def test_a_few_bad_lines_at_the_beginning_do_not_stop_the_rest(pik: Ingest, path: Path) -> None:
    path.write_text(line(1000) + "\n" + "{}\n" * 150 + path.read_text())
    summary = pik.json(path, "--concurrency", "1")
    assert (summary["accepted"], summary["rejected"], summary["stopped"]) == (61, 150, "")


def test_progress_without_a_terminal_ends_at_all_of_it(
    pik: Ingest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pik.cli.ingest._LINE_EVERY_SECONDS", 0.0)
    lines = [text for text in pik.run(path).stderr.splitlines() if text.startswith("ingest ")]
    assert "100%  60 events" in lines[-1]
