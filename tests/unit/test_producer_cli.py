from __future__ import annotations

import json
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import typer
from typer.testing import CliRunner

from pik import producer
from pik.cli import ingest as command
from pik.producer import Outcome, Summary, Tally


def summary_of(*outcomes: Outcome, **changes: Any) -> Summary:
    tally = Tally()
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
