"""The start page: where this is, what is on, what is there, and what to do when there is nothing."""

from __future__ import annotations

from typing import Any

import pandas as pd

from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.rollout.deploy.status import Status, status
from pik.units import size
from pik.workbench.workbench import Workbench


class Start(Investigation):
    """What can I ask here?"""

    title = "Start"
    notebook = "start.ipynb"

    @property
    def status(self) -> Status:
        """The environment at a glance."""
        return self.once("status", lambda: status(self.environment))

    def stores(self) -> Table:
        """What is on and what is there."""
        now = self.status
        raw = "unknown" if now.raw_objects is None else f"{now.raw_objects:,}"
        rows = {
            "phase": now.phase,
            "rows of arrivals": "none" if now.events is None else f"{now.events:,}",
            "raw objects": raw if now.raw_bytes is None else f"{raw} ({size(now.raw_bytes)})",
            "rows of aggregates": "none" if now.aggregates is None else f"{now.aggregates:,}",
            "queue": str(now.queue or "none"),
            "dead-letter queue": str(now.dead_letters or "none"),
        }
        return Table(pd.DataFrame({"what": list(rows), "found": list(rows.values())}))

    def sources(self) -> Table:
        """Which sources and types there are, and from which days."""
        if self.status.phase == "off":
            return Table(pd.DataFrame(), "nothing is deployed yet")
        return Table(self.once("sources", self.wb.sources), "no event has come yet")

    def workbench(self) -> Workbench | str:
        """What a notebook of one's own begins with."""
        return self.wb if self.status.phase != "off" else "nothing is deployed yet"

    def findings(self) -> list[Finding]:
        """Is the environment there, and are there events?"""
        now, name = self.status, self.environment.name
        if now.phase == "off":
            return [
                Finding(
                    Verdict.INCONCLUSIVE,
                    f"Nothing is deployed in {name} yet.",
                    {"stack": now.stack},
                    remedy=f"pik run rollout --env {name}",
                    question="is the pipeline deployed?",
                )
            ]
        there = Finding(
            Verdict.PASSED,
            f"{name} is at phase {now.phase}.",
            {"stack": now.stack},
            question="is the pipeline deployed?",
        )
        # DynamoDB counts its rows every six hours; raw objects tell more, where they are known.
        known = now.raw_objects or now.events
        if not known:
            return [there, self.nothing_yet("are there events?", f"{name} holds no event")]
        sentence = f"There are {known:,} events and more rows to ask about."
        return [there, Finding(Verdict.PASSED, sentence, question="are there events?")]

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {"phase": self.status.phase, "arrivals": self.status.events or 0}
