from __future__ import annotations

import json
import shlex
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import typer
from typer.testing import CliRunner

from pik import events, producer
from pik.cli import ingest as command
from pik.producer import Outcome, OutcomeCounts, Summary


def summary_of(*outcomes: Outcome, **changes: Any) -> Summary:
    tally = OutcomeCounts()
    for number, outcome in enumerate(outcomes, start=1):
        tally.add(number, outcome)
    known = tally.summary(seconds=2.0, dry_run=False, interrupted=False, stopped="", failed_file=None)
    return replace(known, **changes)


ACCEPTED = Outcome("ACCEPTED", "200", 1, 0.01, {"status": "ACCEPTED"})
REJECTED = Outcome("REJECTED", "400", 1, 0.01, {"code": "not_json", "error": "[no] JSON", "rejected_id": "r-1"})
FAILED = Outcome("FAILED", "503", 8, 9.0, {})


def run(summary: Summary, *arguments: str) -> Any:
    app = typer.Typer()
    command.register(app)
    with patch.object(producer, "send", return_value=summary) as send:
        result = CliRunner().invoke(app, ["flights:2013-01-01", *arguments])
    assert send.call_count == 1
    return result


def test_one_json_object_on_stdout() -> None:
    result = run(summary_of(ACCEPTED, ACCEPTED), "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    wanted = {"accepted", "duplicate", "conflict", "rejected", "failed", "total", "latency_ms", "seconds", "safe"}
    assert wanted <= set(told)
    assert told["accepted"] + told["duplicate"] + told["conflict"] + told["rejected"] + told["failed"] == told["total"]
    assert set(told["latency_ms"]) == {"p50", "p90", "p99", "max"}


@pytest.mark.parametrize(
    ("summary", "code", "says"),
    [
        (summary_of(ACCEPTED), 0, "1 event, all stored exactly once"),
        (summary_of(), 0, "the input is empty"),
        (summary_of(ACCEPTED, REJECTED), 4, "line 2: REJECTED not_json: [no] JSON   kept as r-1"),
        (summary_of(FAILED, failed_file="/x.jsonl"), 5, "pik ingest /x.jsonl --env local"),
        (summary_of(ACCEPTED, REJECTED, FAILED), 5, "1 of 3 events safe; the others need attention"),
        (summary_of(ACCEPTED, interrupted=True), 130, "interrupted after 1 event"),
        (summary_of(FAILED, stopped="HTTP 403: no"), 5, "stopped after 1 event: HTTP 403: no"),
        (summary_of(FAILED, stopped="HTTP 403: no", failed_file="/x.jsonl"), 5, "pik status --env local"),
        (summary_of(ACCEPTED, dry_run=True), 4, "nothing was written"),
        (summary_of(ACCEPTED, dry_run=True, dry_run_asked=True), 0, "all would be safe (nothing was written)"),
    ],
)
def test_what_a_person_reads(summary: Summary, code: int, says: str) -> None:
    result = run(summary)
    assert result.exit_code == code
    assert says in result.stdout


def test_many_problems_are_counted_and_few_are_shown() -> None:
    result = run(summary_of(*[REJECTED] * 30))
    assert result.stdout.count("REJECTED") == 5
    assert "and 25 more" in result.stdout


def stored(source: str, time: str) -> Outcome:
    """The answer about an event that is stored."""
    key = f"raw/{events.hive_path(source, 't', time, 'e')}.json"
    return Outcome("ACCEPTED", "200", 1, 0.01, {"status": "ACCEPTED", "s3_key": key, "event_time": time})


FIRST, LAST = "2026-03-01T10:00:00.000000Z", "2026-03-20T23:59:59.000000Z"


@pytest.mark.parametrize(
    ("summary", "chosen"),
    [
        (
            summary_of(stored("SHOP", LAST), stored("SHOP", FIRST)),
            ["source=SHOP", "start=2026-03-01", "end=2026-03-21"],
        ),
        (summary_of(stored("a b's", FIRST), REJECTED), ["source=a b's", "start=2026-03-01", "end=2026-03-02"]),
        (summary_of(stored("a", FIRST), stored("b", LAST)), ["start=2026-03-01", "end=2026-03-21"]),
        (summary_of(stored("x" * 500, FIRST)), ["start=2026-03-01", "end=2026-03-02"]),
        (summary_of(stored("a\u200bb", FIRST)), ["start=2026-03-01", "end=2026-03-02"]),
        (
            summary_of(stored("a", "1970-01-01T00:00:00.000000Z"), stored("b", LAST)),
            ["start=2025-03-20", "end=2026-03-21"],
        ),
        (summary_of(stored("a", "9999-12-31T23:59:59.999999Z")), ["source=a", "start=9999-12-30", "end=9999-12-31"]),
        (summary_of(stored("a", "0001-01-01T00:00:00.000000Z")), ["source=a", "start=0001-01-01", "end=0001-01-02"]),
    ],
)
def test_what_is_stored_can_be_looked_at_by_the_command_that_is_printed(summary: Summary, chosen: list[str]) -> None:
    (line,) = [line for line in run(summary, "--env", "local").stdout.splitlines() if "missing-window" in line]
    words = shlex.split(line)
    assert words[:5] == ["pik", "run", "missing-window", "--env", "local"]
    assert words[5:] == [word for value in chosen for word in ("-p", value)]
    assert json.loads(run(summary, "--json").stdout)["next"] == line.strip()


@pytest.mark.parametrize(
    "summary",
    [
        summary_of(REJECTED),
        summary_of(stored("a", FIRST), dry_run=True),
        summary_of(stored("a", FIRST), interrupted=True),
        summary_of(stored("a", FIRST), stopped="HTTP 403: no"),
    ],
)
def test_nothing_is_proposed_to_look_at_before_it_is_all_there(summary: Summary) -> None:
    assert "missing-window" not in run(summary).stdout
