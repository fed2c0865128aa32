"""Daily health: every investigation on one page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import altair
import pandas as pd

from pik import events
from pik.notebooks import charts
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation, Window, plural
from pik.notebooks.investigations.conflicts import ConflictingPayloads
from pik.notebooks.investigations.drift import AggregateDrift
from pik.notebooks.investigations.late import LateData
from pik.notebooks.investigations.missing import MissingWindow
from pik.notebooks.investigations.queues import QueueAndDlq
from pik.notebooks.investigations.stores import StoresReconciliation
from pik.notebooks.investigations.storms import DuplicateStorm
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.units import duration
from pik.workbench import times
from pik.workbench.sql import layout

_READ = ["source", "status", "entity_id", "event_time", "ingest_time", "lag_ms"]


class DailyHealth(Investigation):
    """Are the events of a day complete and consistent?"""

    title = "Daily health"
    notebook = "investigate/daily_health.ipynb"

    @property
    def window(self) -> Window:
        """The day, in event time."""
        return times.moment(self.day), times.moment(times.next_day(self.day))

    @property
    def sources(self) -> list[str]:
        """Sources that the raw bucket has objects of."""
        return self.once("sources", self._sources)

    def _sources(self) -> list[str]:
        return [name for name in layout.sources(self.wb.objects) if name != events.PROBE_SOURCE]

    @property
    def arrivals(self) -> pd.DataFrame:
        """Every arrival of the day's events."""
        return self.once("arrivals", self._arrivals)

    def _arrivals(self) -> pd.DataFrame:
        frames = [self.wb.events(source=source, day=self.day, columns=_READ) for source in self.sources]
        kept = [frame for frame in frames if len(frame)]
        return pd.concat(kept, ignore_index=True) if kept else self.wb.events(event_ids=[], columns=_READ)

    def arrivals_chart(self) -> altair.Chart:
        """What happened on that day, by source?"""
        count, sources = len(self.arrivals), self.arrivals["source"].nunique()
        title = f"{plural(count, 'arrival')} of {plural(sources, 'source')} {self.span}"
        return charts.by_time(self.arrivals, title, time="event_time", colour="source")

    def heat_map(self) -> altair.Chart:
        """When did it happen, and when did it come?"""
        if not len(self.arrivals):
            return charts.lag_heat_map(self.arrivals, f"No event of {self.day} has arrived.")
        half = duration(self.arrivals["lag_ms"].median() / 1000)
        return charts.lag_heat_map(self.arrivals, f"Half of the events {self.span} arrived within {half}")

    def streams(self) -> Table:
        """Each source: how much, how late, how often again."""
        rows = [
            {
                "source": source,
                "events": int((group["status"] == "ACCEPTED").sum()),
                "duplicates": int((group["status"] == "DUPLICATE").sum()),
                "conflicts": int((group["status"] == "CONFLICT").sum()),
                "entities": group["entity_id"].nunique(),
                "first": group["event_time"].min(),
                "last": group["event_time"].max(),
                "half of it within": duration(float(group["lag_ms"].median()) / 1000),
            }
            for source, group in self.arrivals.groupby("source", sort=True)
        ]
        return Table(pd.DataFrame(rows), f"no event of {self.day} has arrived")

    @property
    def answers(self) -> dict[str, list[Finding]]:
        """What each investigation says, by its title."""
        return self.once("answers", self._answer)

    def _answer(self) -> dict[str, list[Finding]]:
        env, day = self.inputs.env, self.day
        stream = {"event_type": "", "day": day, "start": "", "end": ""}
        came = {"source": "", "start": "", "end": ""}
        here = [str(source) for source in self.arrivals["source"].unique()]
        silent = MissingWindow(env, source="", **stream, expected=0.0)  # also of sources from which nothing came
        late = [LateData(env, source=s, **stream, status="any") for s in sorted(here)]
        others = [
            DuplicateStorm(env, **came),
            ConflictingPayloads(env, entity="", **came),
            QueueAndDlq(env, live=False, most=100),
            AggregateDrift(env, entity="", day=day, replay="", most=int(self.inputs.most)),
            StoresReconciliation(env, day=day, start="", end=""),
        ]
        return {
            MissingWindow.title: [_no_gate(finding) for finding in silent.findings()],
            LateData.title: _lateness(late),
            **{other.title: [_no_gate(finding) for finding in other.findings()] for other in others},
        }

    def overview(self) -> Table:
        """The result of each investigation: its worst verdict, and the number of its findings."""
        rows = [
            {
                "investigation": title,
                "verdict": str(_worst(findings)),
                "found": sum(finding.verdict is Verdict.FAILED for finding in findings),
                "says": next((f.sentence for f in findings if f.verdict is _worst(findings)), ""),
            }
            for title, findings in (self.answers if len(self.arrivals) else {}).items()
        ]
        return Table(pd.DataFrame(rows), "there are no events to investigate yet")

    def findings(self) -> list[Finding]:
        """Say everything that was found."""
        if not len(self.arrivals):
            return [self.nothing_yet("are the day's events complete and consistent?", f"no event {self.span}")]
        return [finding for findings in self.answers.values() for finding in findings]

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        counts = Counter(str(finding.verdict) for finding in self.findings())
        return {"day": self.day, "arrivals": len(self.arrivals), "sources": len(self.sources), **counts}


def _lateness(streams: Iterable[LateData]) -> list[Finding]:
    """Return the findings of many streams' lateness: each late stream, and one sentence for all others."""
    judged = list(streams)
    findings = [finding for one in judged for finding in one.findings()]
    found = [finding for finding in findings if finding.verdict is Verdict.FAILED]
    open_ = [finding for finding in findings if finding.verdict is Verdict.INCONCLUSIVE]
    fine = len(findings) - len(found) - len(open_)
    if fine or not findings:
        sentence = f"{fine} of {plural(len(judged), 'stream')} {'is' if fine == 1 else 'are'} as usual: not late."
        found.append(Finding(Verdict.PASSED, sentence, question=findings[0].question if findings else "late"))
    if open_:
        one = open_[0]
        sentence = f"{plural(len(open_), 'stream')} cannot be judged; the first: {one.sentence}"
        found.append(Finding(Verdict.INCONCLUSIVE, sentence, one.evidence, one.remedy, one.question, blocking=False))
    return found


def _no_gate(finding: Finding) -> Finding:
    """An investigation without data, such as aggregates before the first replay, does not make a day unhealthy."""
    return replace(finding, blocking=finding.blocking and finding.verdict is not Verdict.INCONCLUSIVE)


def _worst(findings: Iterable[Finding]) -> Verdict:
    verdicts = {finding.verdict for finding in findings}
    order = (Verdict.FAILED, Verdict.INCONCLUSIVE, Verdict.PASSED)
    return next((verdict for verdict in order if verdict in verdicts), Verdict.INCONCLUSIVE)
