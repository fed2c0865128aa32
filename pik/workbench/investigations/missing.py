"""Missing window: was a stream silent although its own rhythm says that something should have come?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import altair
import numpy as np
import pandas as pd

from pik import events
from pik.results import Verdict
from pik.workbench import charts, gaps
from pik.workbench.charts import records
from pik.workbench.findings import Finding
from pik.workbench.investigations.base import Investigation
from pik.workbench.notebook import Table
from pik.workbench.rhythm import Given, Learned

if TYPE_CHECKING:
    from pik.workbench.gaps import Gaps

QUESTION = "was the stream silent?"
_SHOWN = ["event_time", "ingest_time", "event_type", "entity_id", "event_id"]
_CELLS = 96  # bars of the chart, at most


class MissingWindow(Investigation):
    """Which windows of a stream are missing, and how surprising is that?"""

    title = "Missing window"
    meanings: ClassVar[Mapping[str, str]] = {
        "expected": "events an hour, when the stream is too young to have a rhythm; 0: learn it from the stream"
    }

    @property
    def gaps(self) -> Gaps:
        """The windows in which the stream was silent."""
        start, end = self.window
        stream, expected, arrivals = (self.source, self.event_type), float(self.inputs.expected) or None, self.arrivals
        return self.once(
            "gaps", lambda: self.wb.gaps(*stream, start=start, end=end, expected=expected, arrivals=arrivals)
        )

    @property
    def arrivals(self) -> pd.DataFrame:
        """First arrivals of the stream, in the window and as far around it as its rhythm is learned from; read once."""
        days = 0 if self.inputs.expected else gaps.BASELINE_DAYS
        stream = (self.source, self.event_type, *self.window)
        return self.once("arrivals", lambda: gaps.arrivals_around(self.wb, *stream, days, _SHOWN))

    def windows(self) -> pd.DataFrame:
        """What was seen and expected in equal parts of the window: ``start``, ``end``, ``seen``, ``expected``."""
        times = np.sort(gaps.microseconds(self.arrivals["event_time"]))
        if not len(times):
            return pd.DataFrame(columns=["start", "end", "seen", "expected"])
        rhythm = Given(float(self.inputs.expected)) if self.inputs.expected else Learned(times)
        start, end = (events.epoch(text) for text in self.window)
        step = next(step for step in (1800, 3600, 7200, 21_600, 86_400, end - start) if (end - start) / step <= _CELLS)
        rows = []
        for second in range(start, end, step):
            low, high = second * 1_000_000, min(second + step, end) * 1_000_000
            seen = int(times.searchsorted(high) - times.searchsorted(low))
            expected = rhythm.expected(low, high)
            rows.append({"start": _utc(low), "end": _utc(high), "seen": seen, "expected": expected})
        return pd.DataFrame(rows)

    def chart(self) -> altair.Chart:
        """What arrived, against what the stream's own rhythm leads to expect."""
        found = [(row["start"], row["end"]) for row in records(self.gaps.frame)]
        return charts.arrivals_expected(self.windows(), found, self.gaps.sentences[0])

    def table(self) -> Table:
        """The missing windows, their edges exact: the last event before and the first one after."""
        return Table(self.gaps.frame, f"no window of {self.stream} is missing {self.span}")

    def around(self) -> Table:
        """The last event before each missing window, and the first one after it."""
        frame = self.arrivals
        edges = [edge for row in records(self.gaps.frame) for edge in (row["start"], row["end"])]
        shown = frame[frame["event_time"].isin(edges)] if edges else frame.head(0)
        return Table(shown[_SHOWN], "there is no edge to look at")

    def findings(self) -> list[Finding]:
        """Say which windows are missing."""
        gaps = self.gaps
        if gaps.problem:
            if not len(self.arrivals):
                return [self.nothing_yet(QUESTION, f"no event of {self.stream} {self.span}")]
            sample = self.environment.name == "local"
            young = "; the sample has two weeks: pik ingest flights --env local" if sample else ""
            return [
                Finding(
                    Verdict.INCONCLUSIVE,
                    gaps.sentences[0],
                    {"events": gaps.events},
                    remedy=f"say how many events an hour to expect: -p expected=4{young}",
                    question=QUESTION,
                )
            ]
        if not len(gaps):
            evidence = {"events": gaps.events, "days": gaps.days, "shortest silence that would show": gaps.shortest}
            return [Finding(Verdict.PASSED, gaps.sentences[0], evidence, question=QUESTION)]
        return [
            Finding(
                Verdict.FAILED,
                sentence,
                {key: value for key, value in item.items() if key not in ("start", "end")},
                remedy=self._remedy(item),
                question=QUESTION,
                found=[{"source": self.source, "event_type": self.event_type, **item}],
            )
            for sentence, item in zip(gaps.sentences, gaps.found, strict=True)
        ]

    def _remedy(self, gap: dict[str, Any]) -> str:
        start, end = (gap[name].replace(".000000Z", "Z") for name in ("start", "end"))
        stores = self.commands.run("stores-reconciliation", start=start, end=end)
        return (
            f"{stores}; it says whether the events are in one store only. If in none, have the producer send them again"
        )

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {"stream": self.stream, "events": self.gaps.events, "missing_windows": len(self.gaps)}


def _utc(micro: int) -> Any:
    return pd.Timestamp(micro, unit="us", tz="UTC").to_pydatetime()
