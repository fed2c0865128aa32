"""Duplicate storm: which producer repeats the same events, since when, and how often?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair
import pandas as pd

from pik.notebooks import charts
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import ByArrival
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.workbench.detect.duplicates import COLUMNS

if TYPE_CHECKING:
    from pik.workbench.detect.duplicates import Duplicates

QUESTION = "is there a duplicate storm?"


class DuplicateStorm(ByArrival):
    """Which producer repeated the same events: when, how many, and was it the same request?"""

    title = "Duplicate storm"
    notebook = "investigate/duplicate_storm.ipynb"

    @property
    def arrivals(self) -> pd.DataFrame:
        """Everything that came in the window, of the source asked for."""
        return self.once("arrivals", self._arrivals)

    def _arrivals(self) -> pd.DataFrame:
        frame = self.wb.events(ingested=self.window, columns=COLUMNS)
        return frame[frame["source"] == self.inputs.source] if self.inputs.source else frame

    @property
    def duplicates(self) -> Duplicates:
        """The storms."""
        start, end = self.window
        given = {"source": self.inputs.source} if self.inputs.source else {}
        return self.once(
            "duplicates", lambda: self.wb.duplicates(start=start, end=end, arrivals=self.arrivals, **given)
        )

    def chart(self) -> altair.Chart:
        """When did events arrive, and how many of them were repeats?"""
        if not len(self.arrivals):
            return charts.by_time(self.arrivals, f"No event arrived {self.span}.")
        return charts.by_time(self.arrivals, self.duplicates.sentences[0])

    def table(self) -> Table:
        """The storms: who, when, how many, same request or same producer."""
        return Table(self.duplicates.frame, f"no storm of duplicates {self.span}")

    def repeated(self) -> Table:
        """The events that came most often."""
        again = self.arrivals[self.arrivals["status"] == "DUPLICATE"]
        by = ["source", "entity_id", "event_id"]
        counted = again.groupby(by, dropna=False).size().reset_index(name="duplicates")
        counted = counted.sort_values(["duplicates", "event_id"], ascending=[False, True]).head(25)
        return Table(counted[["duplicates", *by]], f"no event arrived twice {self.span}")

    def findings(self) -> list[Finding]:
        """Report which producer repeats the same events."""
        if not len(self.arrivals):
            return [self.nothing_yet(QUESTION, f"no event arrived {self.span}")]
        storms = self.duplicates
        if not len(storms.frame):
            evidence = {
                "arrivals": len(self.arrivals),
                "duplicates": int((self.arrivals["status"] == "DUPLICATE").sum()),
            }
            return [Finding(Verdict.PASSED, storms.sentences[0], evidence, question=QUESTION)]
        return [
            Finding(
                Verdict.FAILED,
                sentence,
                {name: value for name, value in item.items() if name != "event_ids"},
                remedy="stop or slow down this producer; no event is counted twice, which this shows:\n"
                + self.commands.run("aggregate-drift"),
                question=QUESTION,
                found=[item],
            )
            for sentence, item in zip(storms.sentences, storms.found, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        again = int((self.arrivals["status"] == "DUPLICATE").sum())
        return {"arrivals": len(self.arrivals), "duplicates": again, "storms": len(self.duplicates.frame)}
