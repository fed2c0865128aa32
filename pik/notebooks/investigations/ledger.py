"""The ledger: who changed what, when, on which evidence; is the ledger unchanged, and is the evidence fresh?"""

from __future__ import annotations

from typing import Any

import altair
import pandas as pd

from pik import phases
from pik.aws.guard import guard
from pik.events import parse_time
from pik.ledger import CHANGES, Entry, Kind, Ledger, read
from pik.ledger.text import who
from pik.notebooks import charts
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation, plural
from pik.notebooks.tables import Table
from pik.results import Verdict
from pik.rollout.gates import evidence_status
from pik.rollout.gates.decide import Book, Requirement
from pik.rollout.gates.deployed import Deployed

GENUINE, FRESH = "is the ledger unchanged?", "is there fresh evidence for what is deployed?"
_SHOWN = ["number", "time", "kind", "verdict", "phase", "sentence", "by", "run"]


class LedgerHistory(Investigation):
    """What was done to this environment, and on which evidence?"""

    title = "Ledger"
    notebook = "investigate/ledger.ipynb"

    @property
    def ledger(self) -> Ledger:
        """The whole ledger, verified with all its evidence."""
        return self.once("ledger", lambda: read(self.wb.environment, evidence=True))

    @property
    def frame(self) -> pd.DataFrame:
        """The entries asked for, the newest first."""
        frame = self.ledger.frame
        for name in ("kind", "phase"):
            if self.inputs.values[name]:
                frame = frame[frame[name] == self.inputs.values[name]]
        return frame.iloc[::-1]

    @property
    def _entries(self) -> list[Entry]:
        wanted = set(self.frame["number"])
        return [entry for entry in self.ledger.entries if entry.number in wanted]

    def chart(self) -> altair.Chart:
        """What was done when, with which outcome?"""
        rows = [
            {"time": parse_time(e.time), "what": str(e.kind), "verdict": e.verdict, "says": f"{e.number} {e.sentence}"}
            for e in self._entries
        ]
        changes = sum(entry.kind in CHANGES for entry in self._entries)
        title = f"{plural(len(rows), 'record')}, {plural(changes, 'change')} among them" if rows else self._empty
        return charts.history(rows, title)

    def table(self) -> Table:
        """Who did what, when? The newest first."""
        shown = self.frame[_SHOWN]
        return Table(shown.assign(by=[who(str(by)) for by in shown["by"]]), self._empty)

    def evidence(self) -> Table:
        """Which files do the entries stand on?"""
        rows = [
            {"entry": entry.number, "file": link.key, "bytes": link.size, "sha256": link.sha256}
            for entry in reversed(self._entries)
            for link in entry.links
        ]
        return Table(pd.DataFrame(rows), "no entry has evidence")

    def verified(self) -> Table:
        """What was last verified of each phase, and is it what is deployed?"""
        now, _ = self._evidence_status
        rows = [
            {
                "phase": phase.label,
                "verified": parse_time(entry.time) if entry else None,
                "verdict": entry.verdict if entry else "never",
                "same template": entry.digest("template") == now.template if entry else None,
                "same code": entry.digest("code") == now.code if entry else None,
                "entry": entry.number if entry else None,
            }
            for phase in phases.PHASES[1:]
            for entry in [self.ledger.last(kind=Kind.VERIFICATION, phase=phase.name)]
        ]
        return Table(pd.DataFrame(rows))

    @property
    def _evidence_status(self) -> tuple[Deployed, Requirement]:
        """What is deployed, and whether that has fresh, passing evidence."""
        where = self.wb.environment
        return self.once(
            "evidence status", lambda: evidence_status.evidence(where, guard(where), Book(where.name, self.ledger))
        )

    @property
    def _empty(self) -> str:
        return (
            f"Nothing has been recorded in {self.environment.name} yet" if not self.ledger.entries else "no such entry"
        )

    def findings(self) -> list[Finding]:
        """Report whether the ledger is unchanged, and whether what is deployed has evidence."""
        return [self._genuine(), self._fresh()]

    def _genuine(self) -> Finding:
        book, receipt = self.ledger, self.inputs.receipt
        problems = book.problems + (book.against(receipt) if receipt else ())
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            return Finding(
                Verdict.FAILED,
                f"The ledger is not what was recorded: {problems[0]}{more}.",
                {f"{number} {problem.flaw}": problem.seen for number, problem in enumerate(problems[:10], 1)},
                remedy=f"pik ledger verify --env {book.environment}\n"
                "the older versions in the evidence bucket hold the original records",
                question=GENUINE,
                found=[problem.as_dict() for problem in problems],
            )
        if not book.entries:
            return self._nothing(GENUINE)
        files = sum(len(entry.links) for entry in book.entries)
        evidence = {"newest": book.entries[-1].receipt, "receipt given": receipt or "none"}
        sentence = f"{plural(len(book.entries), 'record')} and {plural(files, 'file')} are as they were recorded."
        return Finding(Verdict.PASSED, sentence, evidence, question=GENUINE)

    def _nothing(self, question: str) -> Finding:
        return Finding(Verdict.INCONCLUSIVE, f"{self._empty}.", remedy=self.commands.run("rollout"), question=question)

    def _fresh(self) -> Finding:
        if not self.ledger.entries:
            return self._nothing(FRESH)
        there, found = self._evidence_status
        verified = self.ledger.verification(there.phase.name)
        verdict = Verdict.PASSED if found.met else Verdict.FAILED if verified else Verdict.INCONCLUSIVE
        evidence = {"deployed": str(there), **dict(found.sides)}
        return Finding(verdict, f"{found.sentence}.", evidence, remedy=found.command, question=FRESH)

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        book = self.ledger
        return {"entries": len(book.entries), "changes": len(book.select(kind=CHANGES)), "problems": len(book.problems)}
