"""The report of a run: one page that opens offline, and that a colleague understands without having been there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from pik import markup
from pik.errors import PikError
from pik.results import RESULT_MEDIA_TYPE, Evidence, words
from pik.runbooks import clean, export
from pik.runbooks.notebook import read
from pik.runbooks.record import RECORD, REPORT, Run, State, StepRecord, write_atomically

PAGE_LIMIT = 2_600_000
OUTPUT_LIMIT = 20_000
LONG = 240
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Budget:
    """How much the page may still take: what does not fit is left to the executed notebook, and says so."""

    left: int = PAGE_LIMIT

    def take(self, text: str) -> bool:
        """Whether ``text`` still fits; if so it is accounted for."""
        size = len(text.encode())
        if size > self.left:
            return False
        self.left -= size
        return True


@dataclass
class Output:
    """One output in the appendix: ``kind`` is text, error, markup or note."""

    kind: str
    content: str | Markup


@dataclass
class Cell:
    """One cell in the appendix: rendered markdown, or source with outputs."""

    markdown: Markup | None = None
    source: str = ""
    outputs: list[Output] = field(default_factory=list)


@dataclass
class View:
    """One step as the page shows it."""

    step: StepRecord
    charts: list[Markup] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)

    @property
    def checks(self) -> str:
        """Passed checks of all, such as ``5/6``; empty without a result."""
        found = self.step.result.checks if self.step.result else ()
        return f"{sum(check.verdict == 'passed' for check in found)}/{len(found)}" if found else ""

    @property
    def shown(self) -> bool:
        """Whether there is anything to tell beyond the overview's line."""
        return self.step.state not in (State.PLANNED, State.SKIPPED)

    @property
    def anchor(self) -> str:
        """Where the overview's line leads."""
        return f"step-{self.step.number}"


def write(run: Run) -> None:
    """Write the run's report, ``index.html`` in its folder."""
    write_atomically(run.path / REPORT, render(run))


def render(run: Run) -> str:
    """Return the report as HTML."""
    budget = Budget()
    views = [_view(run, step, budget) for step in run.steps]
    passed = [view.checks.split("/") for view in views if view.checks]
    counts = f"{sum(int(n) for n, _ in passed)} of {sum(int(m) for _, m in passed)}" if passed else ""
    return _jinja().get_template("report.html").render(run=run, views=views, checks=counts)


def write_index(runs_dir: Path) -> None:
    """Write ``runs/index.html``: every run with its verdict, the newest first."""
    runs, broken = [], []
    for folder in sorted((path.parent for path in runs_dir.glob(f"*/{RECORD}")), reverse=True):
        try:
            runs.append(Run.read(folder))
        except (PikError, OSError):
            broken.append(folder.name)
    write_atomically(runs_dir / REPORT, _jinja().get_template("runs.html").render(runs=runs, broken=broken))


def fact_words(fact: object) -> str:
    """Return a fact as the overview shows it: rounded, and a digest by its beginning (the tooltip has the whole).

    >>> fact_words(2118.478), fact_words(12208), fact_words("ab" * 32)
    ('2,118.5', '12,208', 'abababababab…')
    """
    if isinstance(fact, bool) or not isinstance(fact, int | float | str):
        return words(fact)
    if isinstance(fact, str):
        return f"{fact[:12]}…" if re.fullmatch(r"[0-9a-f]{64}", fact) else fact
    return f"{fact:,}" if isinstance(fact, int) else f"{fact:,.1f}"


def duration(seconds: float | None) -> str:
    """Return seconds as people say them.

    >>> duration(83.4), duration(2.04), duration(None)
    ('1 min 23 s', '2.0 s', '')
    """
    if seconds is None:
        return ""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {rest} s"


def moment(text: str | None) -> str:
    """Return a recorded time for reading: ``2026-11-23 08:20:11 UTC``."""
    return f"{text[:10]} {text[11:19]} UTC" if text else ""


def is_long(item: Evidence) -> bool:
    """Whether a piece of evidence is folded."""
    return item.payload or len(item.value) > LONG or item.value.count("\n") > 3


@cache
def _jinja() -> Environment:
    environment = markup.environment("runbooks", "\n\t")
    environment.filters |= {"duration": duration, "moment": moment, "words": fact_words}
    environment.tests["long"] = is_long
    environment.globals |= {
        "css": Markup((Path(__file__).parent / "report.css").read_text("utf-8")),  # noqa: S704  our own file
        "mark": {State.PASSED: "✓", State.FAILED: "✗", State.INCONCLUSIVE: "?", State.SKIPPED: "–"}.get,
    }
    return environment


def _view(run: Run, step: StepRecord, budget: Budget) -> View:
    view = View(step)
    path = run.path / step.executed if step.executed else None
    if path is None or not path.is_file() or step.state in (State.PLANNED, State.RUNNING):
        return view
    try:
        notebook = read(path)
    except PikError:  # cut short while it was written
        return view
    charts = 0
    for raw in notebook.cells:
        if export.ERROR_MARKER in raw.metadata.get("tags", []):
            continue
        cell = Cell()
        if raw.cell_type == "markdown":
            cell.markdown = Markup(clean.html(_markdown(raw.source)))  # noqa: S704  cleaned
        elif raw.cell_type == "code":
            cell.source = raw.source
            for output in raw.outputs:
                chart = _chart(output, f"s{step.number}-{charts}-")
                if chart and budget.take(chart):
                    charts += 1
                    view.charts.append(chart)
                    cell.outputs.append(Output("note", "chart: see above"))
                else:
                    cell.outputs.extend(_output(output, budget))
        if cell.markdown or cell.source.strip() or cell.outputs:
            view.cells.append(cell)
    return view


def _chart(output: Any, prefix: str) -> Markup | None:
    data = output.get("data", {})
    if "image/svg+xml" in data:
        return Markup(clean.svg(data["image/svg+xml"], prefix)) or None  # noqa: S704  cleaned
    for kind in ("image/png", "image/jpeg"):
        if kind in data:
            content = "".join(re.findall(r"[A-Za-z0-9+/=]+", data[kind]))
            return Markup('<img alt="chart" src="data:{};base64,{}">').format(kind, content)
    return None


def _output(output: Any, budget: Budget) -> Iterator[Output]:
    data = output.get("data", {})
    if RESULT_MEDIA_TYPE in data:
        yield Output("note", "the checklist above")
        return
    if output.output_type == "error":
        shown = Output("error", _cut(_ANSI.sub("", "\n".join(output.traceback))))
    elif output.output_type == "stream":
        shown = Output("text", _cut(_ANSI.sub("", output.text)))
    elif "text/html" in data:
        shown = Output("markup", Markup(clean.html(data["text/html"])))  # noqa: S704  cleaned
    elif "text/plain" in data:
        shown = Output("text", _cut(data["text/plain"]))
    else:
        return
    if not shown.content.strip():
        return
    fits = len(shown.content) <= 10 * OUTPUT_LIMIT and budget.take(shown.content)
    yield shown if fits else Output("note", "too long for this page: see the executed notebook")


def _cut(text: str) -> str:
    if len(text) <= OUTPUT_LIMIT:
        return text
    half = OUTPUT_LIMIT // 2
    left_out = f"… {len(text) - 2 * half:,} characters left out here: see the executed notebook …"
    return f"{text[:half]}\n\n{left_out}\n\n{text[-half:]}"


def _markdown(source: str) -> str:
    import mistune

    return str(mistune.html(source))
