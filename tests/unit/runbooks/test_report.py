"""The report and the record of a run, without running anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from pik.errors import Refused, UsageError
from pik.provenance import Where
from pik.results import RESULT_MEDIA_TYPE, Check, Evidence, StepResult, Verdict
from pik.runbooks import report
from pik.runbooks.record import Recorded, Run, RunbookSource, State, StepRecord, is_locked, lock
from tests.notebooks.offline import active_parts

V4: Any = nbformat.v4
HOSTILE = "<script>alert(1)</script><img src='https://evil.example/x'>"


def evidence(**options: Any) -> Evidence:
    return Evidence(label="body", value=HOSTILE, **options)


def a_run(folder: Path, *checks: Check, state: State = State.PASSED, **step: Any) -> Run:
    result = StepResult(
        title="t",
        headline=f"head {HOSTILE}",
        checks=checks,
        facts={"events": 842000, HOSTILE: HOSTILE},
        changes=("a queue",),
        undo="pik rollback",
    )
    run = Run(
        id=folder.name,
        runbook=RunbookSource(name="trial", title=f"Trial {HOSTILE}", description="d", path="p", sha256="0" * 64),
        where=Where(environment="local", stack="pik-local", region="r", account="1"),
        parameters={"note": HOSTILE},
        state=state,
        user="ana",
        host="desk",
        started="2026-11-23T08:20:11.000Z",
        steps=[
            StepRecord(
                number=1,
                id="one",
                title="One",
                notebook="one.ipynb",
                parameters={},
                source_sha256="1" * 64,
                **{"state": state, "result": result, **step},
            ),
            StepRecord(number=2, id="two", title="Two", notebook="two.ipynb", parameters={}, source_sha256="2" * 64),
        ],
    )
    run._path = folder
    return run


def write(run: Run) -> str:
    report.write(run)
    assert active_parts(run.report) == []
    return run.report.read_text("utf-8")


def test_hostile_values_are_shown_as_text(tmp_path: Path) -> None:
    page = write(a_run(tmp_path, Check(name=HOSTILE, verdict=Verdict.PASSED, sentence=HOSTILE, evidence=(evidence(),))))

    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "842,000" in page
    assert "undo with" in page


def test_a_closed_gate_is_told_in_the_first_lines_with_what_to_do(tmp_path: Path) -> None:
    check = Check(name="queue drains", verdict=Verdict.FAILED, sentence="41 left", remedy="pik explain 41")
    page = write(a_run(tmp_path, check, state=State.FAILED))

    first = page[page.index("<main>") : page.index(">Steps<")]
    for words in ("Failed", "Stopped at step 1", "queue drains: 41 left", "pik explain 41\npik run --resume"):
        assert words in first


def test_long_evidence_is_folded_and_payloads_always(tmp_path: Path) -> None:
    long = Evidence(label="log", value="line\n" * 9)
    short = Evidence(label="id", value="90fd")
    check = Check(name="c", verdict=Verdict.PASSED, sentence="s", evidence=(long, short, evidence(payload=True)))
    page = write(a_run(tmp_path, check))

    assert page.count('<details class="fold"') == 1
    assert page.count('<details class="fold pik-payload"') == 1
    assert "<code>90fd</code>" in page


def test_the_page_stays_small_however_much_a_notebook_shows(tmp_path: Path) -> None:
    cells = [
        V4.new_code_cell("x", outputs=[V4.new_output("display_data", {"text/html": f"<p>{'y' * 190_000}</p>"})])
        for _ in range(30)
    ]
    cells += [V4.new_code_cell("x", outputs=[V4.new_output("stream", text="z" * 3_000_000)])]
    (tmp_path / "one.ipynb").write_text(json.dumps(V4.new_notebook(cells=cells)))
    run = a_run(tmp_path, executed="one.ipynb")

    page = write(run)

    assert run.report.stat().st_size < 3_000_000
    assert "too long for this page" in page


def test_charts_stand_with_their_step_and_not_again_in_the_appendix(tmp_path: Path) -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><rect width="7" onclick="x()"/></svg>'
    png = "iVBORw0KGgo="
    outputs = [V4.new_output("display_data", {"image/svg+xml": svg, "text/plain": "<SVG>"})]
    outputs += [V4.new_output("display_data", {"image/png": png})]
    outputs += [V4.new_output("execute_result", {RESULT_MEDIA_TYPE: {}, "text/html": "<p>CHECKLIST</p>"})]
    (tmp_path / "one.ipynb").write_text(json.dumps(V4.new_notebook(cells=[V4.new_code_cell("x", outputs=outputs)])))

    page = write(a_run(tmp_path, executed="one.ipynb"))

    assert page.count("<rect") == 1
    assert f'src="data:image/png;base64,{png}"' in page
    assert "CHECKLIST" not in page


def test_a_damaged_executed_notebook_does_not_cost_the_report(tmp_path: Path) -> None:
    (tmp_path / "one.ipynb").write_text('{"cells": [')

    assert "head" in write(a_run(tmp_path, executed="one.ipynb"))


def test_the_record_survives_writing_and_reading(tmp_path: Path) -> None:
    run = a_run(tmp_path, Check(name="c", verdict=Verdict.PASSED, sentence="s", evidence=(evidence(),)))
    run.save()

    assert Run.read(tmp_path) == run
    assert [path.name for path in tmp_path.iterdir() if path.name != ".lock"] == ["run.json"]


def test_a_record_from_before_there_was_a_ledger_can_be_read(tmp_path: Path) -> None:
    a_run(tmp_path).save()
    path = tmp_path / "run.json"
    record = json.loads(path.read_text())
    for step in record["steps"]:
        del step["ledger"]
    del record["steps"][0]["result"]["proof"]
    path.write_text(json.dumps(record))

    assert [step.ledger for step in Run.read(tmp_path).steps] == [None, None]


def test_a_run_that_nobody_works_on_was_interrupted(tmp_path: Path) -> None:
    run = a_run(tmp_path, state=State.RUNNING)
    run.save()

    with lock(tmp_path):
        assert Run.read(tmp_path).state is State.RUNNING
    dead = Run.read(tmp_path)
    assert (dead.state, dead.steps[0].state, dead.exit_code) == (State.INTERRUPTED, State.INTERRUPTED, 130)


def test_a_lock_is_exclusive_and_ends(tmp_path: Path) -> None:
    with lock(tmp_path):
        assert is_locked(tmp_path)
        with pytest.raises(Refused), lock(tmp_path):
            pass
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1}'])
def test_an_unreadable_record_is_said_and_hides_no_other(tmp_path: Path, text: str) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.mkdir()
    bad.mkdir()
    a_run(good).save()
    (bad / "run.json").write_text(text)

    with pytest.raises(UsageError, match=r"cannot read .*run\.json"):
        Run.read(bad)
    report.write_index(tmp_path)

    page = (tmp_path / "index.html").read_text()
    assert "good/index.html" in page
    assert "bad: its run.json cannot be read" in page


def test_facts_keep_their_order_through_a_notebook_with_sorted_keys() -> None:
    bundle = StepResult(title="t", headline="h", facts={"z": 1, "a": 2})._repr_mimebundle_()

    back = StepResult.model_validate(json.loads(json.dumps(bundle[RESULT_MEDIA_TYPE], sort_keys=True)))

    assert list(back.facts) == ["z", "a"]


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0.04, "0.0 s"), (59.96, "1 min 0 s"), (7260, "2 h 1 min")])
def test_durations(seconds: float | None, text: str) -> None:
    assert report.duration(seconds) == text


def test_checks_that_passed_are_folded_and_others_are_not(tmp_path: Path) -> None:
    good = Check(name="all is well", verdict=Verdict.PASSED, sentence="s")
    bad = Check(name="something is lost", verdict=Verdict.FAILED, sentence="two events")
    page = write(a_run(tmp_path, good, bad))
    folded = page[page.index('<details class="fold passing">') :].partition("</details>")[0]
    assert "✓ 1 passed" in folded
    assert "all is well" in folded
    assert "something is lost" not in folded


def test_the_report_says_for_which_ticket_as_whom_and_how_it_is_undone(tmp_path: Path) -> None:
    run = a_run(tmp_path, Check(name="c", verdict=Verdict.PASSED, sentence="s"))
    run.ticket, run.where = "CHG-<7>", replace(run.where, caller="arn:aws:sts::1:assumed-role/ops/ana")
    first = run.steps[0]
    assert first.result is not None
    changed = first.result.model_copy(update={"changes": ("a stack",), "undo": "pik rollback --env dev --to ingest"})
    later = first.model_copy(update={"title": "Later", "result": changed.model_copy(update={"undo": "pik undo"})})
    first.result = changed
    run.steps.append(later)
    first.ledger = Recorded(number=12, hash="f" * 64)
    page = write(run)
    top = page[: page.index("<h2>Steps</h2>")]
    assert "CHG-&lt;7&gt;" in top
    assert "assumed-role/ops/ana" in top
    assert top.index("pik undo") < top.index("pik rollback --env dev --to ingest")  # the last step first
    assert "pik ledger show 12 --env" in page
