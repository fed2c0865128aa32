"""The rollout's steps as the notebooks call them: each method answers one question with a frame, a chart or a result.

The notebooks in ``notebooks/rollout/`` hold no logic; this is it.
"""

from __future__ import annotations

import time

import altair
import pandas as pd

from pik import phases
from pik.aws.reading import StoreReader
from pik.notebooks import figures
from pik.notebooks.rollout_step import RolloutStep, facts_frame
from pik.producer import Retries, Summary, open_source, send
from pik.results import Check, StepResult, Verdict
from pik.rollout.checks.ingest import IngestChecks
from pik.rollout.checks.processor import Drain, ProcessorChecks
from pik.rollout.checks.replay import ReplayChecks, SentBatch
from pik.rollout.checks.trials import TrialPrediction
from pik.rollout.checks.verdicts import check, completed
from pik.rollout.deploy.rollback import Rollback
from pik.rollout.deploy.rollback_checks import Rehearsal, RollbackChecks

SAMPLE = "flights:2013-01-01"
PATIENT = Retries(attempts=20)  # a minute or more for an API that is throttled by everybody else's events


class IngestStep(RolloutStep):
    """Phase 1: deploy ingest, send events, prove that each is kept as it came."""

    phase = phases.INGEST

    def __init__(
        self,
        env: str,
        events: str | None = None,
        *,
        from_start: bool = False,
        deploy: bool = True,
        concurrency: int = 8,
        patience: float = 60,
    ) -> None:
        super().__init__(env, from_start=from_start, deploy=deploy)
        # Sample data belongs into the embedded environment; elsewhere only what somebody named is sent.
        sample = SAMPLE if self.environment.name == "local" and deploy else ""
        self.events = sample if events is None else events
        self.concurrency = concurrency
        self.patience = patience
        self.summary: Summary | None = None
        self.checks: IngestChecks | None = None

    def ingest(self) -> pd.DataFrame:
        """Send the events; return what became of them."""
        self.agree()
        if not self.events:
            return facts_frame({"events": "none were asked for (parameter events); the probes below are sent anyway"})
        source = open_source(self.events, environment=self.environment)
        self.summary = send(source, self.environment, concurrency=self.concurrency, retries=PATIENT)
        counts = ("total", "accepted", "duplicate", "conflict", "rejected", "failed", "seconds", "events_per_second")
        return pd.DataFrame([{"events": self.events, **{name: getattr(self.summary, name) for name in counts}}])

    def arrivals(self) -> altair.Chart:
        """When did the events happen, and at which carrier (source)?"""
        return figures.arrivals(StoreReader(self.environment).recent(days=2, limit=40_000))

    def latency(self) -> altair.Chart:
        """How long did the producer wait for an answer?"""
        return figures.latency(self.summary.latency_ms if self.summary else {})

    def probe(self) -> pd.DataFrame:
        """Send the probes; return what was sent and answered."""
        self.agree()
        self.checks = IngestChecks(self.environment, self.patience)
        return pd.DataFrame(
            [
                {"request": name, "bytes": len(sent.sent), "answer": sent.summary, "event_id": sent["event_id"] or ""}
                for name, sent in self.checks.exchanges.items()
            ]
        )

    def result(self) -> StepResult:
        """Answer the checklist of the phase."""
        if self.checks is None:
            self.probe()
        found = (self.checks or IngestChecks(self.environment, self.patience)).all()
        if not self.summary:
            return self._result(found, "no events sent but the probes", {})
        return self._result(
            (completed(_all_safe(self.summary), self.environment.name), *found),
            f"{self.summary.total} events safe" if self.summary.safe else "NOT ALL EVENTS SAFE",
            {
                "events": self.summary.total,
                "accepted": self.summary.accepted,
                "duplicate": self.summary.duplicate,
                "events_per_second": self.summary.events_per_second,
                "latency_p50_ms": self.summary.latency_ms["p50"],
                "latency_p99_ms": self.summary.latency_ms["p99"],
            },
        )


class ReplayStep(RolloutStep):
    """Phase 2: deploy replay, send replays to the queue, prove that they are whole, predict the aggregates."""

    phase = phases.REPLAY

    def __init__(self, env: str, *, deploy: bool = True, entities: int = 100, patience: float = 60) -> None:
        super().__init__(env, deploy=deploy)
        self.entities = entities
        self.patience = patience
        self.sent: SentBatch | None = None
        self.checks: ReplayChecks | None = None

    def replay(self) -> pd.DataFrame:
        """Replay the busiest entities; return for each what was listed, planned and sent."""
        self.agree()
        self.checks = ReplayChecks(self.environment, entities=self.entities, patience=self.patience)
        self.sent = self.checks.replay()
        self.changes.append(f"{self.sent.sent} messages sent to the queue in {len(self.sent.replays)} replays")
        return pd.DataFrame(
            [
                {
                    "entity": r.selection.entity_id,
                    "listed": len(r.selection.rows),
                    "planned": r.plan["matched"],
                    "sent": r.sent,
                    "requests": len(r.pages),
                    "complete": r.complete,
                    "replay": r.replay_id,
                }
                for r in self.sent.replays
            ]
        )

    def predicted(self) -> pd.DataFrame:
        """What will the processor write? Computed from the raw objects, before the processor exists."""
        return figures.predicted_frame(self.sent.predicted if self.sent else {})

    def sizes(self) -> altair.Chart:
        """How many events does each predicted aggregate count?"""
        return figures.aggregate_sizes(self.sent.predicted if self.sent else {})

    def result(self) -> StepResult:
        """Answer the checklist of the phase."""
        if self.checks is None or self.sent is None:
            self.replay()
        assert self.checks is not None  # noqa: S101 - replay() has set both
        assert self.sent is not None  # noqa: S101
        planned = sum(int(r.plan["matched"] or 0) for r in self.sent.replays)
        found = self.checks.all(self.sent)
        whole = any(c.name == "replay plan = replay sent = expected" and c.verdict is Verdict.PASSED for c in found)
        words = f"{planned} planned = {self.sent.sent} sent"
        if planned != self.sent.sent:
            words = f"{planned} planned, {self.sent.sent} sent, {self.sent.late} of them arrived meanwhile"
        return self._result(
            found,
            words if whole else "PLAN AND SENT DIFFER",
            {
                "replays": len(self.sent.replays),
                "expected": self.sent.expected,
                "planned": planned,
                "sent": self.sent.sent,
                "predicted_aggregates": len(self.sent.predicted),
            },
        )


class ProcessorStep(RolloutStep):
    """Phase 3: predict, deploy the processor, and compare what it writes with the prediction."""

    phase = phases.PROCESSOR

    def __init__(self, env: str, *, deploy: bool = True, patience: float = 300) -> None:
        super().__init__(env, deploy=deploy)
        self.checks = ProcessorChecks(self.environment, patience=patience)
        self.prediction: TrialPrediction | None = None
        self.drained: Drain | None = None

    def predict(self) -> pd.DataFrame:
        """What must the processor write for the messages that wait? Computed before it is switched on."""
        self.prediction = self.checks.predict()
        return figures.predicted_frame(self.prediction.aggregates)

    def deploy(self) -> pd.DataFrame:
        """Switch the processor on, and watch the queue meanwhile."""
        self.agree()
        with self.checks.watching():
            return super().deploy()

    def drain(self) -> altair.Chart:
        """How did the queue empty?"""
        self.drained = self.checks.drain()
        return figures.drain(self.drained.timeline, self.drained.seconds)

    def compared(self) -> altair.Chart:
        """Is what was written what was predicted?"""
        wanted = self.prediction.aggregates if self.prediction else {}
        return figures.compared(wanted, self.checks.stores.versions(wanted))

    def result(self) -> StepResult:
        """Answer the checklist of the phase."""
        self.agree()  # it sends a few messages twice, and one that cannot be processed
        if self.prediction is None:
            self.predict()
        if self.drained is None:
            self.drain()
        assert self.prediction is not None  # noqa: S101 - set above
        assert self.drained is not None  # noqa: S101
        found = self.checks.all(self.prediction, self.drained)
        equal = any(c.name == "aggregates written = predicted" and c.verdict is Verdict.PASSED for c in found)
        words = "aggregates = prediction" if equal else "AGGREGATES NOT PROVEN"
        empty = any(c.name == "the queue drains" and c.verdict is Verdict.PASSED for c in found)
        state = f"queue drained in {self.drained.seconds:.1f} s" if empty else "QUEUE NOT DRAINED"
        return self._result(
            found,
            f"{state}, {words}",
            {
                "messages": self.prediction.waiting,
                "drain_seconds": self.drained.seconds,
                "aggregates": len(self.prediction.aggregates),
                "inputs": self.prediction.events,
            },
        )


class RollbackStep(RolloutStep):
    """Roll back, and prove that nothing was lost; a rehearsal puts messages into the queue on the way."""

    proves = False  # that nothing was lost is not what the next phase asks for

    def __init__(self, env: str, to: str = "replay", *, rehearse: bool = False, messages: int = 120) -> None:
        super().__init__(env)
        self.phase = phases.phase(to)
        self.checks = RollbackChecks(self.environment, to, Rehearsal(messages) if rehearse else None)
        self.done: Rollback | None = None

    @property
    def does(self) -> str:
        """What this changes, in words."""
        return f"stops what is on and takes the stack back to phase {self.phase.label}"

    def roll_back(self) -> pd.DataFrame:
        """Roll back; return what happened, and when."""
        self.agree()
        self.done = self.checks.roll_back()
        self.changes.append(self.done.sentence)
        return facts_frame(
            {
                "phase": f"{self.done.previous} -> {self.done.phase}",
                "last message consumed after": f"{self.done.stopped_after:.2f} s",
                "all done after": f"{self.done.seconds:.1f} s",
                "sent once consumption had stopped": f"{self.checks.sent} messages",
                "kept in the queue": f"{self.done.queue_before} before, {self.done.queue_after} after",
            }
        )

    def stores(self) -> pd.DataFrame:
        """Is each store the same one, with what was sampled of it?"""
        if self.done is None or not self.done.stores:
            return facts_frame({"stores": "not compared"})
        return pd.DataFrame(
            [
                {
                    "store": one.store,
                    "found": one.sentence,
                    "size before": one.before,
                    "size after": one.after,
                    "intact": one.intact,
                }
                for one in self.done.stores
            ]
        )

    def result(self) -> StepResult:
        """Answer the checklist of a rollback."""
        started = time.monotonic()
        if self.done is None:
            self.roll_back()
        assert self.done is not None  # noqa: S101 - set above
        untouched = "every store is the same" if self.done.stores_intact else "STORES NOT PROVEN THE SAME"
        result = self._result(
            self.checks.all(self.done),
            f"{self.done.stopped_after:.1f} s to the last message, {self.done.queue_after} kept in queue, {untouched}",
            {**self.done.as_dict(), "check_seconds": round(time.monotonic() - started, 2)},
        )
        again = phases.phase(self.done.previous).name if self.done.changed else ""
        undo = f"pik deploy --env {self.environment.name} --phase {again}" if again else ""
        if (
            again and self.phase.next and self.environment.config.protection != "open"
        ):  # there, no deploy raises a phase
            undo = f"pik promote --env {self.environment.name} --to {self.phase.next.name}"
        return result.model_copy(update={"title": f"rollback to {self.phase.label}", "undo": undo})


def _all_safe(summary: Summary) -> Check:
    problems = [f"{p.status} {p.code}: {p.error}" for p in summary.problems[:3]]
    waits = summary.undecided and not (summary.conflict or summary.rejected or summary.interrupted or summary.stopped)
    return check(
        "every event sent is safe",
        None if not summary.total or waits else summary.safe,
        yes=f"{summary.accepted} accepted, {summary.duplicate} were here before; none refused or failed",
        no=f"{summary.conflict} conflicts, {summary.rejected} rejected, {summary.failed} failed",
        unknown=f"{summary.failed} of {summary.total} events got no verdict (429, 5xx or no answer): send them again"
        if waits
        else "there were no events to send",
        evidence={
            "sent": summary.total,
            "answers": ", ".join(f"{status} {count}" for status, count in summary.by_status.items()),
            "problems": problems or "none",
        },
    )
