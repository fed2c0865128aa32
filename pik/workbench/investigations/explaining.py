"""Explain an event: what became of it, over all stores."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import altair
import pandas as pd

from pik.errors import UsageError
from pik.results import Verdict
from pik.workbench import charts, times
from pik.workbench.charts import records
from pik.workbench.findings import Finding
from pik.workbench.investigations.base import Investigation
from pik.workbench.notebook import Table

if TYPE_CHECKING:
    from pik.workbench.explain import Explanation

QUESTION = "what became of the event?"
_LOOK_BACK_DAYS = 14


class ExplainEvent(Investigation):
    """What became of one event?"""

    title = "Explain an event"

    @property
    def event_id(self) -> str:
        """The event asked for; by default the one that came last in two weeks, or "" when nothing came."""
        given: str = self.inputs.event_id.strip()
        return given or self.once("latest", self._latest)

    def _latest(self) -> str:
        today = datetime.now(UTC).date()
        for back in range(_LOOK_BACK_DAYS):
            day = (today - timedelta(days=back)).isoformat()
            came = self.wb.events(ingested=(times.moment(day), times.moment(times.next_day(day))))
            if len(came):
                return str(came.sort_values(["ingest_time", "event_id"])["event_id"].iloc[-1])
        return ""

    @property
    def explanation(self) -> Explanation | None:
        """What became of it; None when there is no event to ask about."""
        event_id = self.event_id
        return self.once("explanation", lambda: self.wb.explain(event_id)) if event_id else None

    def story(self) -> Explanation | Table:
        """What happened to it, each line with the store that tells it."""
        return self.explanation or Table(pd.DataFrame(), "nothing has come yet")

    def chart(self) -> altair.Chart:
        """What happened in which order."""
        rows = self.timeline()
        title = f"Event {self.event_id[:12]}…: {len(rows)} entries of its story" if rows else "There is no story yet"
        return charts.timeline(rows, title)

    def timeline(self) -> list[dict[str, Any]]:
        """Return the story's rows: ``time``, ``what``, ``source``."""
        return []

    def payload(self) -> Table:
        """The raw object, read and hashed now."""
        try:
            frame = self.wb.raw([self.event_id], flatten=True) if self.event_id else pd.DataFrame()
        except UsageError:  # no such event
            frame = pd.DataFrame()
        pairs = [(name, value) for row in records(frame) for name, value in row.items()]
        return Table(pd.DataFrame(pairs, columns=["field", "value"]).astype(str), "there is no raw object")

    def findings(self) -> list[Finding]:
        """Say what became of it, and whether the stores agree."""
        if self.explanation is None:
            return [self.nothing_yet(QUESTION, f"nothing came in the last {_LOOK_BACK_DAYS} days")]
        return [Finding(Verdict.PASSED, self.event_id, question=QUESTION)]
