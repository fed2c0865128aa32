"""Explain an event: what happened to it, from all stores."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair
import pandas as pd

from pik.errors import UsageError
from pik.notebooks import charts
from pik.notebooks.charts import records
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.workbench.latest import latest_event

if TYPE_CHECKING:
    from pik.workbench.consistency.explain import Explanation

QUESTION = "what happened to the event?"
_LOOK_BACK_DAYS = 14


class ExplainEvent(Investigation):
    """What happened to one event?"""

    title = "Explain an event"
    notebook = "investigate/explain_event.ipynb"

    @property
    def event_id(self) -> str:
        """The event asked for; by default the one that came last in two weeks, or "" when nothing came."""
        given: str = self.inputs.event_id.strip()
        return given or self.once("latest", lambda: latest_event(self.wb, days=_LOOK_BACK_DAYS))

    @property
    def explanation(self) -> Explanation | None:
        """The explanation; None when there is no event to ask about."""
        event_id = self.event_id
        return self.once("explanation", lambda: self.wb.explain(event_id)) if event_id else None

    def story(self) -> Explanation | Table:
        """What happened to it, each line with the store that shows it."""
        return self.explanation or Table(pd.DataFrame(), "no event has arrived yet")

    def chart(self) -> altair.Chart:
        """What happened in which order."""
        explanation = self.explanation
        if explanation is None:
            return charts.timeline([], "There is no timeline yet: no event has arrived")
        rows = records(explanation.frame)
        return charts.timeline(rows, f"Event {self.event_id[:12]}…: {self._answer(explanation)}")

    def payload(self) -> Table:
        """The raw object, read and hashed now."""
        try:
            frame = self.wb.raw([self.event_id], flatten=True) if self.event_id else pd.DataFrame()
        except UsageError:  # no such event
            frame = pd.DataFrame()
        pairs = [(name, value) for row in records(frame) for name, value in row.items()]
        return Table(pd.DataFrame(pairs, columns=["field", "value"]).astype(str), "there is no raw object")

    def findings(self) -> list[Finding]:
        """Report what happened to the event, and whether the stores agree."""
        explanation = self.explanation
        if explanation is None:
            return [self.nothing_yet(QUESTION, f"nothing came in the last {_LOOK_BACK_DAYS} days")]
        if not explanation.exists:
            return [
                Finding(
                    Verdict.INCONCLUSIVE,
                    f"{explanation.headline}.",
                    {"asked in": "all stores"},
                    remedy="check the id; wb.events(entity=…, start=…, end=…) lists the events of an entity",
                    question=QUESTION,
                )
            ]
        evidence = {line.what: f"{line.shown_time} {line.detail}" for line in explanation.lines}
        if not explanation.problems:
            return [Finding(Verdict.PASSED, f"{self._answer(explanation)}.", evidence, question=QUESTION)]
        return [
            Finding(
                Verdict.FAILED,
                problem,
                evidence,
                remedy=self.commands.run("stores-reconciliation", day=self._day),
                question=QUESTION,
                found=[{"event_id": explanation.event_id, "problem": problem}],
            )
            for problem in explanation.problems
        ]

    @property
    def _day(self) -> str:
        """The day of the event, as far as its rows tell."""
        rows = records(self.once("rows", lambda: self.wb.events(event_ids=[self.event_id])))
        return next((str(row["event_time"].date()) for row in rows), "")

    @staticmethod
    def _answer(explanation: Explanation) -> str:
        if explanation.problems:
            return explanation.problems[0].rstrip(".")
        return (explanation.became or explanation.headline).rstrip(".")

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        explanation = self.explanation
        return {"event_id": self.event_id or "none", "lines": len(explanation.lines) if explanation else 0}
