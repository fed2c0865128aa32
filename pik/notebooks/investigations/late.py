"""Late data: which events arrived late, or from a clock that is ahead?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair
import pandas as pd

from pik.notebooks import charts
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation, plural
from pik.notebooks.tables import Table
from pik.results import Verdict

if TYPE_CHECKING:
    from pik.workbench.detect.lateness import Lateness

QUESTION = "which events arrived late, or too early?"
_READ = ["producer", "sk"]
_SHOWN = ["event_time", "ingest_time", "lag_ms", "status", "event_type", "entity_id", "event_id"]


class LateData(Investigation):
    """Which events arrived later than is usual for their stream, and which clocks are ahead?"""

    title = "Late data"
    notebook = "investigate/late_data.ipynb"

    @property
    def arrivals(self) -> pd.DataFrame:
        """Arrivals of the stream in the window, of the status asked for."""
        start, end = self.window
        status = None if self.inputs.status in ("", "any") else self.inputs.status
        return self.once(
            "arrivals",
            lambda: self.wb.events(
                source=self.source,
                event_type=self.event_type,
                start=start,
                end=end,
                status=status,
                columns=[*_SHOWN, *_READ],
            ),
        )

    @property
    def lateness(self) -> Lateness:
        """What is out of the ordinary."""
        start, end = self.window
        # Of one status only, they may lack the first arrivals, which are what is judged.
        arrivals = self.arrivals if self.inputs.status in ("", "any", "ACCEPTED") else None
        return self.once(
            "lateness",
            lambda: self.wb.lateness(self.source, self.event_type, start=start, end=end, arrivals=arrivals),
        )

    def heat_map(self) -> altair.Chart:
        """When did the events happen, and when did they arrive?"""
        if not len(self.arrivals):
            return charts.lag_heat_map(self.arrivals, f"There are no arrivals of {self.stream} {self.span}.")
        return charts.lag_heat_map(self.arrivals, self.lateness.sentences[0])

    def table(self) -> Table:
        """What is out of the ordinary, together."""
        return Table(self.lateness.frame, f"nothing of {self.stream} arrived later or earlier than usual {self.span}")

    def latest(self) -> Table:
        """The ten arrivals with the longest lag, and the ten with the most negative lag."""
        frame = self.arrivals.sort_values(["lag_ms", "event_id"], ascending=[False, True])
        early = frame[frame["lag_ms"] < 0].tail(10)
        shown = pd.concat([frame.head(10), early]).drop_duplicates(subset=["sk"])
        return Table(shown[_SHOWN], f"there are no arrivals of {self.stream} {self.span}")

    def findings(self) -> list[Finding]:
        """Report which events arrived late or too early."""
        late = self.lateness
        if not len(self.arrivals):
            return [self.nothing_yet(QUESTION, f"no event of {self.stream} {self.span}")]
        problem = getattr(late, "problem", "")
        if problem:
            return [Finding(Verdict.INCONCLUSIVE, late.sentences[0], {"problem": problem}, question=QUESTION)]
        if not len(late.frame):
            evidence = {"arrivals": len(self.arrivals), "longest_lag_ms": int(self.arrivals["lag_ms"].max())}
            return [Finding(Verdict.PASSED, late.sentences[0], evidence, question=QUESTION)]
        day = self.window[0][:10]
        return [
            Finding(
                Verdict.FAILED,
                sentence,
                {name: value for name, value in item.items() if name != "event_ids"},
                remedy=f"{self.commands.run('aggregate-drift', day=day)}\n"
                "shows which aggregates were computed without these events; to compute them anew:\n"
                f"{self.commands.replay_days(item['event_ids'])}",
                question=QUESTION,
                found=[item],
            )
            for sentence, item in zip(late.sentences, late.found, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {
            "stream": self.stream,
            "arrivals": plural(len(self.arrivals), "arrival"),
            "late": len(self.lateness.frame),
        }
