"""Names from outside on every page of the workbench: shown as text, never run as markup, in the lab and in a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nbformat
import pandas as pd
import pyarrow as pa
import pytest
from IPython.core.formatters import DisplayFormatter

from pik import frames
from pik.headless import HEADLESS
from pik.notebooks import charts, figures
from pik.notebooks.banner import Banner
from pik.notebooks.inputs import ChosenInputs, Inputs
from pik.notebooks.investigations import base, conflicts, drift, explaining, health, late, missing, stores, storms
from pik.notebooks.investigations import queues as queue_pages
from pik.notebooks.tables import Table
from pik.replays.records import Replay
from pik.results import Check, Evidence, StepResult, Verdict
from pik.runbooks import export
from pik.workbench import aggregates, messages, replays, versions
from pik.workbench.aggregates import AggregateDiff
from pik.workbench.consistency import reconcile
from pik.workbench.consistency.explanation import Explanation, Line
from pik.workbench.consistency.reconcile import Reconciliation
from pik.workbench.detect import duplicates, gaps, lateness
from pik.workbench.detect.duplicates import Duplicates
from pik.workbench.detect.gaps import Gaps
from pik.workbench.detect.lateness import Lateness
from tests.notebooks.offline import active_parts

EVIL = "</caption></script></style>\"'><img src=x onerror=alert(1)><script>alert(2)</script>"
NOON = datetime(2013, 1, 1, 12, tzinfo=UTC)
OURS = {"new ITable(", "hidden"}  # what the tables' own scripts say


class Page(HTMLParser):
    """What of a page would run: handlers, pictures, and scripts that are not the tables' library."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[str] = []
        self.script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.script = tag == "script"
        self.runs += [tag] * (tag in ("img", "iframe", "object", "embed", "base"))
        self.runs += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]

    def handle_endtag(self, tag: str) -> None:
        self.script = False

    def handle_data(self, data: str) -> None:
        if self.script and not any(word in data for word in OURS):
            self.runs.append(data)


def shown(thing: Any) -> dict[str, str]:
    """Return what Jupyter shows of a value, by media type; nothing of it runs."""
    data: dict[str, str] = DisplayFormatter().format(thing)[0]
    for kind in ("text/html", "image/svg+xml"):
        if kind in data:
            page = Page()
            page.feed(data[kind])
            assert page.runs == [], page.runs
            assert EVIL not in data[kind]
    assert set(data) - {"text/plain", "application/vnd.pik.step+json"} <= {"text/html", "image/svg+xml"}
    return data


def hostile(schema: pa.Schema, **values: Any) -> pd.DataFrame:
    """Return a frame with hostile text in every column of text."""
    row: dict[str, Any] = {}
    for field in schema:
        usual = {frames.TIME: NOON, pa.int64(): 3, pa.float64(): 1.5, pa.bool_(): False}
        row[field.name] = usual.get(field.type, EVIL)
    return frames.frame(schema, [row | values, row | values])


def replay_of(identifier: str) -> Replay:
    head = {"start_time": "2013-01-01T00:00:00.000000Z", "end_time": "2013-01-02T00:00:00.000000Z", "entity_id": EVIL}
    return Replay(identifier, head, {})


class HostileWorkbench:
    """A workbench in whose stores every name is hostile."""

    phase = "3 processor"
    outputs: dict[str, str] = {}  # noqa: RUF012 - never changed
    environment = SimpleNamespace(name="local", stack=EVIL)

    def sources(self) -> pd.DataFrame:
        return hostile(frames.SOURCES, first_day="2013-01-01", last_day="2013-01-01")

    def events(self, **_: Any) -> pd.DataFrame:
        frame = hostile(frames.EVENTS, status="CONFLICT")
        frame.loc[0, "status"] = "ACCEPTED"
        frame.attrs["not_found"] = []
        return frame

    def raw(self, *_: Any, flatten: bool = True, **__: Any) -> pd.DataFrame:
        name = f"payload.{EVIL}" if flatten else "payload"
        return hostile(pa.schema([*frames.RAW, (name, pa.string())]), payload=json.dumps({EVIL: EVIL}))

    def replays(self, **_: Any) -> pd.DataFrame:
        return hostile(replays.REPLAYS)

    def aggregates(self, *_: Any, **__: Any) -> pd.DataFrame:
        return hostile(frames.AGGREGATES, input_count=1, state="{}")

    def aggregate_diff(self, a: Any, b: Any) -> AggregateDiff:
        one = hostile(versions.CONTRIBUTIONS)
        return AggregateDiff((EVIL,) * 3, (EVIL,) * 3, one, one, hostile(versions.NUMBERS), 1)

    def gaps(self, *_: Any, **__: Any) -> Gaps:
        return Gaps(hostile(gaps.GAPS), EVIL, EVIL, NOON.isoformat(), NOON.isoformat(), 9, 3, 1.0)

    def lateness(self, *_: Any, **__: Any) -> Lateness:
        frame = hostile(lateness.LATENESS)
        return Lateness(frame, tuple((EVIL,) for _ in range(len(frame))), 9, 1, 2)

    def duplicates(self, **_: Any) -> Duplicates:
        return Duplicates(hostile(duplicates.STORMS), ((EVIL,), (EVIL,)), 9, 3)

    def reconcile(self, *_: Any) -> Reconciliation:
        return Reconciliation(hostile(reconcile.DISAGREEMENTS), "", "", {EVIL: 1}, (EVIL,))

    def explain(self, event_id: str) -> Explanation:
        line = Line("2013-01-01T00:00:00.000000Z", EVIL, EVIL, EVIL, ok=False)
        return Explanation(event_id, EVIL, True, (line,), (EVIL,), (EVIL,))

    @property
    def queue(self) -> Any:
        return SimpleNamespace(peek=lambda *_: self._peeked(messages.MESSAGES))

    @property
    def dlq(self) -> Any:
        return SimpleNamespace(peek=lambda *_: self._peeked(messages.DEAD_LETTERS))

    def _peeked(self, schema: pa.Schema) -> pd.DataFrame:
        frame = hostile(schema)
        frame.attrs |= {"waiting": 3, "in_flight": 0, "sentence": EVIL}
        return frame


PAGES: dict[type[base.Investigation], dict[str, Any]] = {
    conflicts.ConflictingPayloads: {"source": "", "entity": "", "start": "", "end": ""},
    drift.AggregateDrift: {"entity": "", "day": "", "replay": "", "most": 2},
    explaining.ExplainEvent: {"event_id": ""},
    health.DailyHealth: {"day": "2013-01-01", "most": 2},
    late.LateData: {"source": EVIL, "event_type": EVIL, "day": "2013-01-01", "start": "", "end": "", "status": "any"},
    missing.MissingWindow: {
        "source": EVIL,
        "event_type": EVIL,
        "day": "2013-01-01",
        "start": "",
        "end": "",
        "expected": 0.0,
    },
    queue_pages.QueueAndDlq: {"live": False, "most": 3},
    stores.StoresReconciliation: {"day": "2013-01-01", "start": "", "end": ""},
    storms.DuplicateStorm: {"source": "", "start": "", "end": ""},
}


@pytest.fixture(params=["lab", "run"])
def mode(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Interactive in the lab, or headless in a run."""
    (monkeypatch.setenv if request.param == "run" else lambda name, _: monkeypatch.delenv(name, False))(HEADLESS, "1")
    return str(request.param)


@pytest.fixture
def stores_of_evil(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every investigation asks the hostile workbench."""
    wb = HostileWorkbench()
    monkeypatch.setattr(base, "connect", lambda _: wb)
    monkeypatch.setattr(base, "environment", lambda _: wb.environment)
    monkeypatch.setattr(health.DailyHealth, "_sources", lambda _: [EVIL])
    drifted = aggregates.Drift(
        (EVIL,) * 3, hostile(versions.NUMBERS), (EVIL,), (EVIL,), {EVIL: EVIL}, counted=1, selected=2
    )
    monkeypatch.setattr(aggregates, "aggregate_drift", lambda *_: drifted)
    monkeypatch.setattr(explaining, "latest_event", lambda *_, **__: EVIL)
    monkeypatch.setattr(replays, "known", lambda *_, replay_ids, **__: {i: replay_of(i) for i in replay_ids})


def answers(page: base.Investigation) -> Iterator[Any]:
    """Every answer of a page that a cell shows."""
    others = {"once", "nothing_yet", "findings", "facts"}
    for name in dir(type(page)):
        method = getattr(type(page), name)
        if not name.startswith("_") and callable(method) and name not in others:
            yield getattr(page, name)()


@pytest.mark.usefixtures("mode", "stores_of_evil")
@pytest.mark.parametrize("kind", PAGES, ids=lambda kind: kind.__name__)
def test_no_name_from_outside_runs_on_a_page(kind: type[base.Investigation]) -> None:
    page = kind("local", **PAGES[kind])

    kinds = {next(iter(set(shown(answer)) - {"text/plain"})) for answer in answers(page)}

    assert kinds >= {"text/html"}
    assert page.result().verdict is not Verdict.PASSED


def test_a_caption_in_the_lab_is_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)

    html = shown(Table(pd.DataFrame({EVIL: [EVIL], "list": [[EVIL]]}), EVIL, EVIL))["text/html"]

    assert "&lt;img src=x onerror=alert(1)&gt;" in html
    assert "new ITable(" in html


@pytest.mark.parametrize("where", ["caption", "cell", "column"])
def test_a_name_that_is_part_of_the_tables_library_is_shown(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(HEADLESS, raising=False)
    name = "let dt_args = {};"
    frame = pd.DataFrame({name if where == "column" else "a": [name if where == "cell" else "b"]})

    assert name in shown(Table(frame, "", name if where == "caption" else ""))["text/html"]


@pytest.mark.usefixtures("mode")
def test_everything_else_that_shows_itself_is_text() -> None:
    check = Check(
        name=EVIL,
        verdict=Verdict.FAILED,
        sentence=EVIL,
        evidence=(Evidence(label=EVIL, value=EVIL), Evidence(label=EVIL, value=EVIL, payload=True)),
        remedy=EVIL,
        investigate=EVIL,
    )
    shown(StepResult(title=EVIL, headline=EVIL, checks=(check,), changes=(EVIL,), undo=EVIL, facts={EVIL: EVIL}))
    shown(Banner(EVIL, EVIL, EVIL, EVIL, EVIL, NOON, headless=True))
    shown(pd.DataFrame({EVIL: [EVIL]}))
    inputs = Inputs(EVIL, {"env": "local", EVIL: EVIL}, meanings={EVIL: EVIL}, memory=ChosenInputs())
    page = Page()
    page.feed(inputs.echo())
    assert page.runs == []


def test_charts_draw_names_as_text() -> None:
    row = {"time": NOON, "what": EVIL, "source": EVIL, "verdict": EVIL, "says": EVIL, "event_time": NOON}
    frame = pd.DataFrame([row])
    drawn = [
        charts.counts({EVIL: 3}, EVIL, what="reason", unit="messages"),
        charts.by_time(frame, EVIL, time="event_time", colour="source"),
        charts.timeline([row], EVIL),
        charts.history([row], EVIL),
        figures.arrivals([{"event_id": EVIL, "source": EVIL, "event_time": "2013-01-01T12:00:00.000000Z"}]),
        figures.nothing(EVIL),
    ]
    for chart in drawn:
        assert "&lt;img src=x" in shown(chart)["image/svg+xml"]


def test_a_page_of_an_executed_notebook_runs_nothing(tmp_path: Path) -> None:
    v4: Any = nbformat.v4
    outputs = [
        v4.new_output("stream", name="stdout", text=f"{EVIL}\x1b[31m{EVIL}"),
        v4.new_output("display_data", data={"text/html": f"<b onclick='x()'>{EVIL}</b>", "text/plain": EVIL}),
        v4.new_output("display_data", data={"text/plain": EVIL}),
        v4.new_output("error", ename=EVIL, evalue=EVIL, traceback=[EVIL]),
    ]
    cells = [v4.new_markdown_cell(f"# {EVIL}"), v4.new_code_cell(EVIL, outputs=outputs)]
    (tmp_path / "n.ipynb").write_text(nbformat.writes(v4.new_notebook(cells=cells)))

    export.to_html(tmp_path / "n.ipynb", tmp_path / "n.html", title=EVIL)

    assert active_parts(tmp_path / "n.html") == []
