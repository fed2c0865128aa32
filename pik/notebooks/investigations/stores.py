"""Stores reconciliation: do raw objects, metadata, dedupe rows, replays and aggregates agree?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import altair

from pik.notebooks import charts
from pik.notebooks.charts import records
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation, plural
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.workbench.consistency.reconcile import HARMLESS

if TYPE_CHECKING:
    from pik.workbench.consistency.reconcile import Reconciliation

STRAY = "the key came with several event times at once, and all but one request were answered with a conflict"
QUESTION = "do all stores agree?"


class StoresReconciliation(Investigation):
    """On which events of a window do the stores disagree?"""

    title = "Stores reconciliation"
    notebook = "investigate/stores_reconciliation.ipynb"

    @property
    def reconciliation(self) -> Reconciliation:
        """The disagreements of the stores."""
        return self.once("reconciliation", lambda: self.wb.reconcile(*self.window))

    def chart(self) -> altair.Chart:
        """Which disagreements are there, and how many?"""
        found = self._counts
        return charts.counts(found, self._headline(), what="disagreement", unit="events", bad=found)

    def table(self) -> Table:
        """Every disagreement, and what to do about it."""
        return Table(self.reconciliation.frame, f"all stores agree {self.span}")

    def findings(self) -> list[Finding]:
        """Say what the stores disagree on, one finding for each kind."""
        compared = self.reconciliation
        if not any(compared.compared.values()) and compared.clean:
            return [self.nothing_yet(QUESTION, f"no store holds an event {self.span}")]
        notes = [
            Finding(Verdict.INCONCLUSIVE, note, question="what could not be judged?", blocking=False)
            for note in compared.notes
        ]
        if strays := sum(compared.counts.get(kind, 0) for kind in HARMLESS):
            sentence = f"{plural(strays, 'raw object')} of an event that is kept twice can stay: {STRAY}."
            notes.append(
                Finding(Verdict.PASSED, sentence, question="are there second raw objects of an event?", blocking=False)
            )
        if compared.clean:
            return [Finding(Verdict.PASSED, self._headline(), compared.compared, question=QUESTION), *notes]
        findings = []
        for kind, count in sorted(self._counts.items()):
            rows = compared.frame[compared.frame["class"] == kind]
            first = next((str(row["event_id"]) for row in records(rows) if row["event_id"]), "")
            look = f"\n{self.commands.explain(first)}" if first else ""
            findings.append(
                Finding(
                    Verdict.FAILED,
                    f"{count:,} × {kind.replace('_', ' ')} {self.span}.",
                    rows[["event_id", "entity_id", "where", "detail"]],
                    remedy=f"{rows['remedy'].iloc[0]}{look}",
                    question=QUESTION,
                    found=[item for item in compared.found if item["class"] == kind],
                )
            )
        return [*findings, *notes]

    def _headline(self) -> str:
        compared = self.reconciliation
        looked = ", ".join(f"{number:,} {name}" for name, number in compared.compared.items())
        if compared.clean:
            return f"All stores agree {self.span} ({looked})."
        kinds = ", ".join(f"{number:,} {name.replace('_', ' ')}" for name, number in sorted(self._counts.items()))
        return f"The stores disagree {self.span}: {kinds}."

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {**self.reconciliation.compared, "disagreements": sum(self._counts.values())}

    @property
    def _counts(self) -> dict[str, int]:
        """Disagreements by class, without what is harmless."""
        return {kind: count for kind, count in self.reconciliation.counts.items() if kind not in HARMLESS}
