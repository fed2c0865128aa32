"""The timeline of one event, as text, HTML and JSON. Gathered by :mod:`pik.workbench.consistency.explain`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pik.markup import render
from pik.text import printable

if TYPE_CHECKING:
    import pandas as pd

_MARKS = {True: "✓", False: "✗", None: " "}
_COLUMNS = ("time (UTC)", "", "what", "detail", "source")


@dataclass(frozen=True)
class Line:
    """One line of the timeline: when (the kit's format, "" for now), what, details, and the store that says so.

    ``ok``: true or false where something was verified, else None.
    """

    time: str
    what: str
    detail: str
    source: str
    ok: bool | None = None

    @property
    def shown_time(self) -> str:
        """The time as a person reads it."""
        return f"{self.time[:10]} {self.time[11:23]}" if self.time else "now"


@dataclass(frozen=True)
class Explanation:
    """The explanation of one event.

    Attributes:
        event_id: the id that was asked for.
        headline: which event it is, or that there never was one.
        exists: whether any store knows it.
        lines: the timeline, oldest first; "now" comes last.
        notes: what was not found, and why that is, or is not, a problem.
        problems: what is wrong, one sentence each.
        seconds: how long it took to ask.
        became: the answer in one sentence: accepted when, kept intact or not, sent again, replayed, counted.
    """

    event_id: str
    headline: str
    exists: bool
    lines: tuple[Line, ...] = ()
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    seconds: float = 0.0
    became: str = ""

    @property
    def frame(self) -> pd.DataFrame:
        """The timeline as a frame: ``time`` (null: now), ``what``, ``detail``, ``source``, ``ok``."""
        from pik.frames import TIMELINE, frame  # heavy, and the text needs none of it

        return frame(TIMELINE, [{**asdict(line), "time": line.time or None} for line in self.lines])

    def to_dict(self) -> dict[str, Any]:
        """Return everything, JSON-able."""
        return asdict(self)

    def to_text(self) -> str:
        """Return the timeline as text, one line an entry."""
        width = max((len(line.what) for line in self.lines), default=0)
        lines = [self.headline, *([f"  {self.became}"] if self.became else [])]
        for line in self.lines:
            entry = f"  {line.shown_time:<23}  {_MARKS[line.ok]} {line.what:<{width}}  {line.detail}"
            lines.append(f"{entry}  [{line.source}]")
        lines += [f"  problem  {sentence}" for sentence in self.problems]
        lines += [f"  note     {sentence}" for sentence in self.notes]
        return "\n".join(map(printable, lines))

    def to_html(self) -> str:
        """Return the timeline as an HTML fragment; every value is escaped."""
        return render("timeline.html", told=self, columns=_COLUMNS, mark=_MARKS)

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Let Jupyter show it (see IPython's display protocol)."""
        return {"text/plain": self.to_text(), "text/html": self.to_html()}
