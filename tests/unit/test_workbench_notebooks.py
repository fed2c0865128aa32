"""What the investigation notebooks are made of: findings, tables, inputs, charts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from pik.results import Verdict
from pik.runbooks.headless import HEADLESS
from pik.workbench import charts
from pik.workbench.findings import Finding, nothing_yet, result
from pik.workbench.notebook import MOST_ROWS, Table
from pik.workbench.widgets import Inputs, Memory

NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
EVIL = "<script>alert(1)</script>"
PARAMETERS = {"env": "local", "source": "UA"}


def test_findings_make_a_result_whose_headline_is_the_first_thing_found() -> None:
    frame = pd.DataFrame({"event_id": [f"e{number}" for number in range(7)]})
    fine = Finding(Verdict.PASSED, "Nothing is late.")
    gap = Finding(Verdict.FAILED, "UA was silent.", frame, "pik run x", found=[{"start": "a"}, {"start": "b"}])

    told = result("Missing window", [fine, gap, nothing_yet("q", "no event", "dev")], {"events": 7})

    assert told.verdict is Verdict.FAILED
    assert told.headline == "UA was silent"
    assert told.facts == {"events": 7, "findings": 1, "found": [{"start": "a"}, {"start": "b"}]}
    assert told.checks[1].evidence[-1].value == "2 more rows in the table above"
    assert "pik ingest FILE.jsonl --env dev" in told.checks[2].remedy
    assert result("t", [fine]).verdict is Verdict.PASSED
    assert result("t", [fine]).facts["found"] == []
    assert result("t", [nothing_yet("q", "no event", "local")]).verdict is Verdict.INCONCLUSIVE


def test_a_table_in_a_run_is_plain_escaped_and_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HEADLESS, "1")
    frame = pd.DataFrame({EVIL: [EVIL] * (MOST_ROWS + 5), "when": NOON, "lag": 1234.5})

    html = Table(frame)._repr_html_()

    assert "<script" not in html
    assert html.count("<tr>") == MOST_ROWS + 1
    assert "5 more rows" in html
    assert "2013-01-01 12:00:00Z" in html
    assert "<em>none here</em>" in Table(frame.head(0), "none here")._repr_html_()


def test_a_table_in_a_run_shortens_ids_and_leaves_sentences_whole() -> None:
    sentence = "every store is untouched, and what waited in the queue still waits"

    html = Table(pd.DataFrame({"id": ["a" * 64], "says": [sentence], "log": ["a line " * 40]})).plain()

    assert f'title="{"a" * 64}">{"a" * 16}…{"a" * 12}<' in html
    assert f">{sentence}<" in html
    assert html.count("…") == 2


def test_a_table_in_the_lab_is_clickable_escaped_and_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)

    html = Table(pd.DataFrame({"payload": [EVIL], "count": [3]}))._repr_html_()

    assert EVIL not in html
    assert "<td" in html.split("<script")[0]  # the rows stand in the page, also without scripts
    assert "new ITable(" in html
    assert "http" not in html


def test_a_choice_is_kept_until_the_parameters_change_and_never_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    memory = Memory()
    Inputs("n", PARAMETERS, memory=memory).choose("source", "AA")

    assert Inputs("n", PARAMETERS, memory=memory).source == "AA"
    assert Inputs("other", PARAMETERS, memory=memory).source == "UA"
    assert Inputs("n", {**PARAMETERS, "source": "DL"}, memory=memory).source == "DL"
    monkeypatch.setenv(HEADLESS, "1")
    assert Inputs("n", PARAMETERS, memory=memory).source == "UA"


def test_a_widget_changes_the_value_and_the_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    inputs = Inputs("n", {**PARAMETERS, "status": "any", "live": False, "most": 3, "expected": 0.0}, memory=Memory())
    boxes = {box.description: box for box in inputs.form().children}

    boxes["source"].value = EVIL
    boxes["most"].value = 9
    boxes["expected"].value = 4.5

    assert (inputs.source, inputs.most, inputs.expected) == (EVIL, 9, 4.5)
    assert EVIL not in inputs.echo()
    assert "&lt;script&gt;" in inputs.echo()


def test_the_banner_follows_the_environment() -> None:
    inputs = Inputs("n", PARAMETERS, where=lambda env: f"<b>{env} is red</b>", memory=Memory())

    assert "is red" not in inputs.echo()
    inputs.choose("env", "prod")
    assert "<b>prod is red</b>" in inputs.echo()


def arrivals(*kinds: str) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {"event_time": NOON + timedelta(minutes=n), "ingest_time": NOON + timedelta(minutes=2 * n), "status": kind}
        for n, kind in enumerate(kinds)
    ]
    return pd.DataFrame(rows, columns=["event_time", "ingest_time", "status"])


def test_bars_stand_on_zero_and_on_each_other() -> None:
    chart = charts.by_time(arrivals("ACCEPTED", "DUPLICATE", "ACCEPTED"), "two came once, one again").to_dict()

    (rows,) = chart["datasets"].values()
    assert sum(row["arrivals"] - row["below"] for row in rows) == 3
    assert chart["title"]["text"] == "two came once, one again"
    assert "UTC" in chart["encoding"]["x"]["title"]
    assert chart["encoding"]["x"]["scale"]["type"] == "utc"


@pytest.mark.parametrize("draw", [charts.by_time, charts.lag_heat_map])
def test_a_chart_of_nothing_says_why(draw: Any) -> None:
    assert draw(arrivals(), "nothing came").to_dict()["title"]["text"] == "nothing came"


def test_what_is_missing_is_red_and_what_arrived_never_is() -> None:
    hour = timedelta(hours=1)
    starts = [NOON + n * hour for n in range(3)]
    windows = pd.DataFrame(
        {"start": starts, "end": [start + hour for start in starts], "seen": [1, 0, 4], "expected": [5.0, 5.0, 4.0]}
    )

    chart = charts.arrivals_expected(windows, [(NOON, NOON + 2 * hour)], "silent for an hour").to_dict()

    bars = [
        (row["state"], row["low"], row["high"])
        for rows in chart["datasets"].values()
        for row in rows
        if row.get("state") in ("arrived", "missing")
    ]
    arrived = [("arrived", 0, 1), ("arrived", 0, 0), ("arrived", 0, 4)]
    assert bars == [*arrived, ("missing", 1, 5.0), ("missing", 0, 5.0)]
