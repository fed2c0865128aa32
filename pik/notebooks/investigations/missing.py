"""Missing window: was a stream, or any stream, silent although its baseline expects events?"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

import altair
import numpy as np
import pandas as pd

from pik import events
from pik.errors import UsageError
from pik.notebooks import charts
from pik.notebooks.charts import records
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation, plural
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.workbench.detect import gap_search, gaps
from pik.workbench.detect.baseline import Given, Learned
from pik.workbench.detect.gap_search import GapSearch
from pik.workbench.sources import MOST
from pik.workbench.times import beside

if TYPE_CHECKING:
    from pik.workbench.detect.gaps import Gaps

QUESTION = "was the stream silent?"
_CELLS = 96  # bars of the chart, at most
_SHOWN_DAYS = 14  # of a stream that is proposed, at most


class MissingWindow(Investigation):
    """Which windows of a stream are missing, or of every stream, and what is their score?"""

    title = "Missing window"
    notebook = "investigate/missing_window.ipynb"

    @property
    def everywhere(self) -> bool:
        """Whether every source is searched, as none is chosen."""
        return not self.inputs.source

    @property
    def stream(self) -> str:
        """What is searched, in words."""
        what = "any source" if self.everywhere else self.inputs.source
        return f"{what} · {self.event_type}" if self.event_type else what

    @property
    def search(self) -> GapSearch:
        """The windows in which a stream was silent."""
        expected = float(self.inputs.expected) or None
        if expected is not None and self.everywhere:
            raise UsageError(
                "expected needs a source",
                reason="expected is the number of events an hour of one source, but every source is searched",
                next_step=f"-p source=NAME -p expected={expected:g}",
            )
        start, end = self.window
        source = self.inputs.source or None
        return self.once(
            "search",
            lambda: gap_search.search(self.wb, source, self.event_type, start=start, end=end, expected=expected),
        )

    def windows(self) -> pd.DataFrame:
        """What was seen and expected in equal parts of the window: ``start``, ``end``, ``seen``, ``expected``."""
        if self.search.first is None or not len(self.search.arrivals):
            return pd.DataFrame(columns=["start", "end", "seen", "expected"])
        times = np.sort(gaps.microseconds(self.search.arrivals["event_time"]))
        baseline = Given(float(self.inputs.expected)) if self.inputs.expected else Learned(times)
        start, end = (events.epoch(text) for text in self.window)
        step = next(step for step in (1800, 3600, 7200, 21_600, 86_400, end - start) if (end - start) / step <= _CELLS)
        rows = []
        for second in range(start, end, step):
            low, high = second * 1_000_000, min(second + step, end) * 1_000_000
            seen = int(times.searchsorted(high) - times.searchsorted(low))
            expected = baseline.expected(low, high)
            rows.append({"start": _utc(low), "end": _utc(high), "seen": seen, "expected": expected})
        return pd.DataFrame(rows)

    def chart(self) -> altair.Chart:
        """What arrived, against what the stream's baseline expects; the stream with the highest score."""
        shown = self.search.first
        if shown is None:
            return charts.arrivals_expected(self.windows(), [], self.findings()[0].sentence)
        found = [(row["start"], row["end"]) for row in records(shown.frame)]
        return charts.arrivals_expected(self.windows(), found, self._sentence(shown))

    def _sentence(self, shown: Gaps) -> str:
        """What the search found first: of several gaps of a stream, the one with the highest score."""
        ranked = self.search.ranked
        return shown.sentences[ranked[0][1] if ranked else 0]

    def table(self) -> Table:
        """The missing windows, the highest score first, edges exact: the last event before and the first one after."""
        return Table(
            beside(self.search.frame, ["start", "end"]),
            f"no window of {self.stream} is missing {self.span}",
            gaps.SCORE,
        )

    def around(self) -> Table:
        """The last event before each missing window, and the first one after it."""
        return Table(beside(self.search.edges, ["event_time"]), "there is no edge to look at")

    def findings(self) -> list[Finding]:
        """Say which windows are missing, the highest score first."""
        found = [self._missing(one, row) for one, row in self.search.ranked]
        if self.everywhere:
            return [*found, *self._others()] or [self._nothing_anywhere()]
        return found or [self._fine_or_unknown(self.search.streams[0])]

    def _missing(self, one: Gaps, row: int) -> Finding:
        item = one.found[row]
        return Finding(
            Verdict.FAILED,
            one.sentences[row],
            {"expected": item["expected"], "seen": item["seen"], "score": item["surprise"]},
            remedy=self._remedy(item),
            question=QUESTION,
            found=[{"source": one.source, "event_type": self.inputs.event_type or None, **item}],
        )

    def _fine_or_unknown(self, one: Gaps) -> Finding:
        """The answer about one source in which nothing is missing, or which cannot be judged."""
        if not one.problem:
            evidence = {
                "events": one.events,
                "days": one.days,
                "shortest gap that would be found (events)": one.shortest,
            }
            return Finding(Verdict.PASSED, one.sentences[0], evidence, question=QUESTION)
        if not one.events:
            return self.nothing_yet(QUESTION, f"no event of {self.stream} {self.span}")
        sample = self.environment.name == "local"
        young = "\nor take the sample, which has two weeks:\npik ingest flights --env local" if sample else ""
        return Finding(
            Verdict.INCONCLUSIVE,
            one.sentences[0],
            {"events": one.events},
            remedy=f"state how many events an hour to expect, such as 4:\n{self._again(expected='4')}{young}",
            question=QUESTION,
        )

    def _others(self) -> list[Finding]:
        """What a search of every source says about those without a gap."""
        search = self.search
        judged = [one for one in search.streams if not one.problem]
        quiet = [one for one in judged if not len(one)]
        unknown = [one for one in search.streams if one.problem]
        answers = []
        if quiet:
            answers.append(
                Finding(
                    Verdict.PASSED,
                    f"{len(quiet)} of {plural(len(search.streams), 'source')} have no silence that their baseline "
                    "does not explain.",
                    {
                        "sources": ", ".join(one.source for one in quiet),
                        "events": sum(one.events for one in quiet),
                        "expected by chance, if all are healthy": f"{len(judged) / 10**gaps.MIN_SCORE:.2g} sources",
                    },
                    question=QUESTION,
                )
            )
        if unknown:
            answers.append(
                Finding(
                    Verdict.INCONCLUSIVE,
                    f"{plural(len(unknown), 'source')} cannot be judged; the first: {unknown[0].sentences[0]}",
                    {one.source: one.problem for one in unknown},
                    remedy=self._again(source=unknown[0].source, expected="4"),
                    question=QUESTION,
                )
            )
        return answers + self._unsearched()

    def _unsearched(self) -> list[Finding]:
        left = self.search.unsearched
        if not left and self.search.complete:
            return []
        more = "" if self.search.complete else f", and those beyond the first {MOST:,} streams"
        return [
            Finding(
                Verdict.INCONCLUSIVE,
                f"{plural(len(left), 'source')} {'was' if len(left) == 1 else 'were'} not searched{more}.",
                left,
                remedy=self._again(source=next(iter(left), "NAME")),
                question=QUESTION,
            )
        ]

    def _nothing_anywhere(self) -> Finding:
        """No source has an event in the window or near it: say when there are some."""
        known = self.search.known
        if self.event_type is not None:
            known = known[known["event_type"] == self.event_type]
        if not len(known):
            return self.nothing_yet(QUESTION, f"no event of {self.stream}")
        latest = known.sort_values(["last_day", "source"]).to_dict("records")[-1]
        end = date.fromisoformat(latest["last_day"]) + timedelta(days=1)
        start = max(date.fromisoformat(latest["first_day"]), end - timedelta(days=_SHOWN_DAYS))
        return Finding(
            Verdict.INCONCLUSIVE,
            f"There is nothing yet: no event of {self.stream} {self.span} or near it.",
            {row["source"]: f"{row['first_day']} to {row['last_day']}" for row in records(known)},
            remedy=self.commands.run("missing-window", start=str(start), end=str(end)),
            question=QUESTION,
        )

    def _again(self, **chosen: str) -> str:
        """The command of the same window, with something else chosen."""
        start, end = (moment.replace(".000000Z", "Z") for moment in self.window)
        return self.commands.run(
            "missing-window", **{"event_type": self.inputs.event_type, "start": start, "end": end} | chosen
        )

    def _remedy(self, gap: dict[str, Any]) -> str:
        start, end = (gap[name].replace(".000000Z", "Z") for name in ("start", "end"))
        stores = self.commands.run("stores-reconciliation", start=start, end=end)
        return f"{stores}\nshows whether a store has the events; if none has, have the producer send them again"

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        search = self.search
        return {
            "stream": "every source" if self.everywhere else self.stream,
            "sources": len(search.streams),
            "events": sum(one.events for one in search.streams),
            "missing_windows": len(search.ranked),
        }


def _utc(micro: int) -> Any:
    return pd.Timestamp(micro, unit="us", tz="UTC").to_pydatetime()
