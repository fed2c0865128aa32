"""Conflicting payloads: which events claim one idempotency key for different payloads, and what differs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import altair
import pandas as pd

from pik.aws import stored
from pik.notebooks import charts
from pik.notebooks.charts import records
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import ByArrival, plural
from pik.notebooks.tables import Table
from pik.results import Verdict

QUESTION = "is an idempotency key used for two payloads?"
_SHOWN = ["ingest_time", "source", "entity_id", "idempotency_key", "producer", "event_id", "client_request_id"]
_MOST = 200  # conflicts whose payloads are compared


class ConflictingPayloads(ByArrival):
    """Which keys were used for two payloads, by whom, and what differs?"""

    title = "Conflicting payloads"
    notebook = "investigate/conflicting_payloads.ipynb"

    @property
    def arrivals(self) -> pd.DataFrame:
        """Everything that came in the window, of the source and entity asked for."""
        return self.once("arrivals", self._arrivals)

    def _arrivals(self) -> pd.DataFrame:
        frame = self.wb.events(ingested=self.window)
        for column, wanted in (("source", self.inputs.source), ("entity_id", self.inputs.entity)):
            frame = frame[frame[column] == wanted] if wanted else frame
        return frame

    @property
    def conflicts(self) -> pd.DataFrame:
        """The arrivals that were answered with a conflict."""
        return self.arrivals[self.arrivals["status"] == "CONFLICT"]

    def chart(self) -> altair.Chart:
        """When did they come, among what else?"""
        return charts.by_time(self.arrivals, self._sentence())

    def table(self) -> Table:
        """Which arrivals use a key that another payload has?"""
        return Table(self.conflicts[_SHOWN], f"no conflict arrived {self.span}")

    def payloads(self) -> Table:
        """What differs between the first payload of a key and the later one?"""
        return Table(
            pd.DataFrame(self._differences(), columns=["event_id", "field", "first", "later"]), "no difference"
        )

    def _differences(self) -> Iterator[dict[str, Any]]:
        later = self.conflicts.head(_MOST)
        if not len(later):
            return
        first = self.wb.events(event_ids=list(later["event_id"].unique()), status="ACCEPTED")
        kept = dict(_bodies(self.wb.raw(first, flatten=False)))
        for event_id, payload in _bodies(self.wb.raw(later, flatten=False)):
            before = kept.get(event_id)
            for name, one, other in _compare(before, payload):
                yield {"event_id": event_id, "field": name, "first": one, "later": other}

    def findings(self) -> list[Finding]:
        """Report which idempotency keys are used for two payloads."""
        if not len(self.arrivals):
            return [self.nothing_yet(QUESTION, f"no event arrived {self.span}")]
        conflicts = self.conflicts
        if not len(conflicts):
            evidence = {"arrivals looked at": len(self.arrivals)}
            return [Finding(Verdict.PASSED, self._sentence(), evidence, question=QUESTION)]
        columns = ["event_id", "source", "entity_id", "idempotency_key"]
        found = records(conflicts[columns].drop_duplicates())
        first = str(found[0]["event_id"])
        return [
            Finding(
                Verdict.FAILED,
                self._sentence(),
                conflicts[_SHOWN],
                remedy=f"{self.commands.explain(first)}\nboth payloads are kept; tell the producer which is accepted",
                question=QUESTION,
                found=found,
            )
        ]

    def _sentence(self) -> str:
        conflicts = self.conflicts
        if not len(conflicts):
            return f"No key is used for two payloads among {plural(len(self.arrivals), 'arrival')} {self.span}."
        keys = conflicts["event_id"].nunique()
        who = ", ".join(sorted(map(str, conflicts["source"].unique()))[:5])
        verb = "stands" if keys == 1 else "stand"
        return (
            f"{plural(keys, 'key')} of {who} {verb} for more than one payload ({plural(len(conflicts), 'conflict')})."
        )

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {"arrivals": len(self.arrivals), "conflicts": len(self.conflicts)}


def _bodies(frame: pd.DataFrame) -> Iterator[tuple[str, Any]]:
    for row in records(frame):
        payload = row.get("payload")
        yield (
            str(row["event_id"]),
            stored.value(payload) if isinstance(payload, str) else payload,
        )


def _compare(one: Any, other: Any) -> Iterator[tuple[str, str, str]]:
    if not (isinstance(one, dict) and isinstance(other, dict)):
        yield "payload", _text(one), _text(other)
        return
    for name in sorted({*one, *other}):
        if one.get(name) != other.get(name):
            yield name, _text(one.get(name)), _text(other.get(name))


def _text(value: Any) -> str:
    return "" if value is None else stored.text(value)[:200]
