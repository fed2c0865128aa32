"""What the investigation notebooks are made of: findings, tables, inputs, charts."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from pik.headless import HEADLESS
from pik.notebooks import charts, figures
from pik.notebooks.banner import Banner
from pik.notebooks.cells import live_cell, plain_cell
from pik.notebooks.findings import Finding, nothing_yet, result
from pik.notebooks.inputs import ChosenInputs, Inputs
from pik.notebooks.investigations import base
from pik.notebooks.investigations.queues import QueueAndDlq
from pik.notebooks.tables import MOST_ROWS, Table
from pik.results import RESULT_STYLE, Verdict
from tests.unit.test_results import contrast

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

    assert f'title="{"a" * 64}">{"a" * 12}…<' in html
    assert f">{sentence}<" in html
    assert html.count("…") == 2


def test_a_table_in_the_lab_is_clickable_escaped_and_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)

    html = Table(pd.DataFrame({"payload": [EVIL], "count": [3]}))._repr_html_()

    assert EVIL not in html
    assert "<td" in html.split("<script")[0]  # the rows stand in the page, also without scripts
    assert "new ITable(" in html
    assert "http" not in html


def test_a_table_in_the_lab_shortens_ids_and_says_numbers_as_people_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    frame = pd.DataFrame({"event_id": ["ab" * 32], "lag_ms": [25_861_581], "seen": [1_234_567], "s3_key": ["k" * 90]})

    shown = re.sub(r'<span class="pik-rest">.*?</span>', "", "".join(Table(frame).cells().iloc[0]))
    html = Table(frame)._repr_html_()

    assert ">abababababab…<" in shown
    assert f'title="{"ab" * 32}' in shown
    assert f"pik explain {'ab' * 32}" in shown
    assert "investigate/explain_event.ipynb" in shown
    assert "7.2 h" in shown
    assert "1,234,567" in shown
    assert f'title="{"k" * 90}">{"k" * 16}…{"k" * 12}<' in shown
    assert html.startswith('<div class="pik-table">')  # which scrolls by itself


def test_durations_are_sorted_by_their_length_and_ids_found_whole() -> None:
    lags = [-90_000, -1, 0, 59_000, 7_200_000, 86_400_000 * 400]

    assert sorted(live_cell(lag, "lag_ms") for lag in lags) == [live_cell(lag, "lag_ms") for lag in lags]
    assert re.sub("<.*?>", "", live_cell("ab" * 32, "event_id")).endswith("ab" * 32)


@pytest.mark.parametrize("value", [EVIL, "a" * 50 + EVIL, f"a sentence {EVIL}", "x" * 200 + " " + EVIL])
@pytest.mark.parametrize("cell", [live_cell, plain_cell])
def test_no_cell_holds_markup_from_outside(cell: Callable[[Any, str], str], value: str) -> None:
    assert "<script" not in cell(value, "event_id")


def test_figures_in_evidence_are_said_as_people_say_them() -> None:
    rows = pd.DataFrame({"lag_ms": [25_861_581], "count": [1_234_567]})
    check = Finding(Verdict.PASSED, "s", {"median_lag_ms": 438_725_884_400, "seen": 1_234_567, "live": False}).check()

    assert [(one.label, one.value) for one in check.evidence] == [
        ("median lag", "5,077.8 d"),
        ("seen", "1,234,567"),
        ("live", "no"),
    ]
    assert Finding(Verdict.FAILED, "s", rows).check().evidence[0].value == "lag 7.2 h · count 1,234,567"
    assert "lag_ms" not in Table(rows).plain()


def test_what_is_shortened_in_a_result_has_the_whole_in_its_tooltip() -> None:
    digest = "c" * 64
    finding = Finding(Verdict.FAILED, f"{digest} came twice.", {"id": digest}, f"pik explain {digest}")
    html = result("Twice", [finding, Finding(Verdict.FAILED, "Again.")]).to_html()

    assert f'title="{digest}">{"c" * 12}…<' in html
    assert f"do this: pik explain {digest}<" in html  # a command is copied as it stands
    assert re.sub(r'title="[^"]*"|pik explain \w+', "", html).count(digest) == 0


def test_a_long_title_is_broken_into_lines_and_long_names_are_whole() -> None:
    long = "MQ-sim-dropped-window-4 was silent from 2013-01-06 12:10:00Z to 2013-01-06 17:05:00Z, " * 3

    chart = charts.counts({"a" * 60: 3}, long, what="reason", unit="messages").to_dict()

    assert len(chart["title"]["text"]) > 2
    assert max(map(len, chart["title"]["text"])) <= 92
    assert " ".join(chart["title"]["text"]) == long.strip()
    assert chart["config"]["axis"]["labelLimit"] >= 400
    assert chart["config"]["axis"]["maxExtent"] >= 400  # where the axis' own title stands: never upon its names


def turned(colour: str) -> str:
    """A colour behind ``invert(.89) hue-rotate(180deg)``: https://www.w3.org/TR/filter-effects-1/#feColorMatrixElement."""
    red, green, blue = (0.89 - 0.78 * int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    grey = 0.213 * red + 0.715 * green + 0.072 * blue
    return "#" + "".join(f"{round(255 * min(max(2 * grey - part, 0), 1)):02x}" for part in (red, green, blue))


@pytest.mark.parametrize(
    "colour", sorted({charts.PLAIN, *charts.VERDICT_COLOURS.values(), *charts.STATUS_COLOURS.values()})
)
def test_a_chart_is_seen_on_a_light_and_on_a_dark_ground(colour: str) -> None:
    """It has no ground of its own; JupyterLab's dark one is #111111. WCAG wants 3:1 for what is drawn."""
    assert figures.nothing("n").to_dict()["config"]["background"] == "transparent"
    assert "invert(.89) hue-rotate(180deg)" in RESULT_STYLE
    assert contrast(colour, "#ffffff") >= 3
    assert contrast(turned(colour), "#111111") >= 3


def test_a_choice_is_kept_until_the_parameters_change_and_never_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    memory = ChosenInputs()
    Inputs("n", PARAMETERS, memory=memory).choose("source", "AA")

    assert Inputs("n", PARAMETERS, memory=memory).source == "AA"
    assert Inputs("other", PARAMETERS, memory=memory).source == "UA"
    assert Inputs("n", {**PARAMETERS, "source": "DL"}, memory=memory).source == "DL"
    monkeypatch.setenv(HEADLESS, "1")
    assert Inputs("n", PARAMETERS, memory=memory).source == "UA"


def test_a_widget_changes_the_value_and_the_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    inputs = Inputs(
        "n", {**PARAMETERS, "status": "any", "live": False, "most": 3, "expected": 0.0}, memory=ChosenInputs()
    )
    boxes = {box.description: box for box in inputs.form().children}

    boxes["source"].value = EVIL
    boxes["most"].value = 9
    boxes["expected"].value = 4.5

    assert (inputs.source, inputs.most, inputs.expected) == (EVIL, 9, 4.5)
    assert EVIL not in inputs.echo()
    assert "&lt;script&gt;" in inputs.echo()


def test_fields_offer_what_there_is_and_take_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    there = {"source": ["AA", "UA"], "event_type": {"AA": ["a"], "UA": ["u"]}, "day": []}

    def choices(name: str, values: dict[str, Any]) -> list[str]:
        found: Any = there[name]
        return list(found[values["source"]] if isinstance(found, dict) else found)

    inputs = Inputs("n", {**PARAMETERS, "event_type": "", "day": ""}, choices=choices, memory=ChosenInputs())
    boxes = {box.description: box for box in inputs.form().children}
    assert boxes["source"].options == ("AA", "UA")
    assert boxes["event_type"].options == ("u",)

    boxes["source"].value = "AA"
    boxes["day"].value = "1999-01-01"

    assert boxes["event_type"].options == ("a",)
    assert inputs.day == "1999-01-01"


def test_the_last_day_is_one_click(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    inputs = Inputs("n", {**PARAMETERS, "start": "", "end": ""}, memory=ChosenInputs())
    buttons = {box.description: box for box in inputs.form().children}

    buttons["last 24 h"].click()

    start, end = (datetime.fromisoformat(text) for text in (inputs.start, inputs.end))
    assert end - start == timedelta(days=1)
    assert timedelta(0) <= end - datetime.now(UTC) <= timedelta(minutes=1)
    assert "last 24 h" not in {box.description for box in Inputs("n", PARAMETERS).form().children}


def test_the_banner_follows_the_environment() -> None:
    inputs = Inputs("n", PARAMETERS, where=lambda env: f"<b>{env} is red</b>", memory=ChosenInputs())

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


@pytest.mark.parametrize("live", [True, False])
def test_a_live_look_at_a_queue_is_not_said_to_read_only(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Banner("dev", "1", "eu-west-1", "pik-dev", "3 processor", NOON, headless=True)
    monkeypatch.setattr(base, "banner", lambda _: found)
    monkeypatch.setattr(base, "environment", lambda _: None)
    page = QueueAndDlq("dev", live=False, most=9)
    page.inputs.choose("live", live)  # as the widget does

    for shown in (repr(page.banner), page.banner._repr_html_(), page._where("dev")):
        assert ("reads only" in shown) is not live
        assert ("receive count rises by one" in shown) is live
        assert "CHANGES AWS" not in shown
