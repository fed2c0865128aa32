"""Queue and dead-letter queue: which messages wait, which are dead letters, why, and may they go back?"""

from __future__ import annotations

from collections import Counter
from typing import Any

import altair
import pandas as pd

from pik.aws.queue_peek import HOLD_SECONDS
from pik.notebooks import charts
from pik.notebooks.charts import records
from pik.notebooks.findings import Finding
from pik.notebooks.investigations.base import Investigation, plural
from pik.notebooks.tables import Table
from pik.results import Verdict

WAITING, SET_ASIDE = "do messages wait that nothing consumes?", "is a message in the dead-letter queue?"
_SHOWN = ["message_id", "replay_id", "event_id", "entity_id", "event_time", "sent", "receive_count", "basis"]
_DEAD = ["code", "reason", "original_message_id", "replay_id", "event_id", "entity_id", "sent", "mended", "fault_now"]


class QueueAndDlq(Investigation):
    """What is in the two queues?"""

    title = "Queue and dead-letter queue"
    notebook = "investigate/queue_and_dlq.ipynb"

    @property
    def touches(self) -> str:
        """What a live look does to the messages."""
        if not self.inputs.live:
            return ""
        return (
            "a LIVE look receives messages and returns them: each one's receive count rises by one, and nobody else "
            f"receives it meanwhile (at most {HOLD_SECONDS} s); none is deleted"
        )

    @property
    def waiting(self) -> pd.DataFrame:
        """Messages of the queue."""
        live, most = self.inputs.live, int(self.inputs.most)
        return self.once("waiting", lambda: self.wb.queue.peek(live, most))

    @property
    def dead(self) -> pd.DataFrame:
        """Messages of the dead-letter queue."""
        live, most = self.inputs.live, int(self.inputs.most)
        return self.once("dead", lambda: self.wb.dlq.peek(live, most))

    def queue(self) -> Table:
        """What was sent and is not counted yet?"""
        return Table(self.waiting[_SHOWN], "nothing waits", self.waiting.attrs["sentence"])

    def dead_letters(self) -> Table:
        """Which messages went to the dead-letter queue, and why?"""
        return Table(self.dead[_DEAD], "no message went to the dead-letter queue", self.dead.attrs["sentence"])

    def chart(self) -> altair.Chart:
        """Why did messages go to the dead-letter queue?"""
        codes = Counter(str(row["code"] or "unknown") for row in records(self.dead))
        return charts.counts(codes, self._set_aside().sentence, what="reason", unit="messages", bad=codes)

    def findings(self) -> list[Finding]:
        """Report the messages that wait and the dead letters."""
        return [self._set_aside(), self._waiting()]

    def _set_aside(self) -> Finding:
        count, rows = int(self.dead.attrs["waiting"]), records(self.dead)
        if not count:
            before = f"; {plural(len(rows), 'message')} that were there earlier went back since" if rows else ""
            return Finding(Verdict.PASSED, f"No message is in the dead-letter queue{before}.", question=SET_ASIDE)
        codes = Counter(str(row["code"] or "unknown") for row in rows)
        why = ", ".join(f"{n} {code}" for code, n in codes.most_common(6)) or "the log does not say why"
        found = [
            {
                "message_id": row["original_message_id"] or row["message_id"],
                "code": row["code"],
                "event_id": row["event_id"],
            }
            for row in rows
        ]
        verb = "is" if count == 1 else "are"
        # The log names messages that went back since as well, and may be a moment late.
        apart = f" (the log names {len(rows)}; a live look, -p live=true, tells which)" if len(rows) != count else ""
        return Finding(
            Verdict.FAILED,
            f"{plural(count, 'message')} {verb} in the dead-letter queue: {why}{apart}.",
            self.dead[["code", "reason", "original_message_id", "event_id"]],
            remedy="fix the reasons; then wb.dlq.redrive() shows which messages would succeed or fail",
            question=SET_ASIDE,
            found=found,
        )

    def _waiting(self) -> Finding:
        attrs = self.waiting.attrs
        count = int(attrs["waiting"]) + int(attrs["in_flight"])
        evidence = {"waiting": attrs["waiting"], "in flight": attrs["in_flight"]}
        if not count:
            return Finding(Verdict.PASSED, "No message waits in the queue.", evidence, question=WAITING)
        verb = "waits" if count == 1 else "wait"
        if "processor" not in self.wb.phase:
            sentence = f"{plural(count, 'message')} {verb} in the queue, and are kept: the processor is off."
            return Finding(Verdict.PASSED, sentence, evidence, question=WAITING)
        return Finding(
            Verdict.FAILED,
            f"{plural(count, 'message')} {verb} in the queue although the processor is on.",
            evidence,
            remedy="run this again in a minute; if the number stays, check the event source mapping:\n"
            f"pik status --env {self.environment.name}",
            question=WAITING,
            blocking=False,  # a queue with work in it is what a queue is for
        )

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""
        return {"waiting": int(self.waiting.attrs["waiting"]), "set_aside": int(self.dead.attrs["waiting"])}
