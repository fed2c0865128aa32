"""What must be proven of a rollback: consumption stopped, and nothing was lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from pik import clock, phases
from pik.aws.reading import StoreReader, eventually
from pik.aws.stack import Say
from pik.environments import Environment
from pik.results import Check
from pik.rollout.checks import common
from pik.rollout.checks.probe import answering
from pik.rollout.checks.replaying import busiest, replay_all
from pik.rollout.checks.verdicts import ask, check, every, missing
from pik.rollout.deploy.rollback import Rollback, rollback


@dataclass(frozen=True)
class Rehearsal:
    """Messages a rehearsal wants in the queue while the processor is being taken away."""

    messages: int = 120
    entities: int = 60


class RollbackChecks:
    """Rolls back, then answers one question after the other about what is left."""

    def __init__(self, environment: Environment, to: str = "replay", rehearsal: Rehearsal | None = None) -> None:
        self.environment = environment
        self.to = to
        self.rehearsal = rehearsal
        self.sent = 0

    def roll_back(self, on_progress: Say | None = None) -> Rollback:
        """Roll back; a rehearsal sends messages once consumption has stopped, to see that they are kept."""

        def send() -> None:
            if self.rehearsal is None:
                return
            selections, total = [], 0
            for selection in busiest(StoreReader(self.environment), self.rehearsal.entities):
                selections.append(selection)
                total += len(selection.rows)
                if total >= self.rehearsal.messages:
                    break
            self.sent = sum(r.sent for r in replay_all(self.environment, selections, on_progress=on_progress))

        return rollback(self.environment, self.to, on_progress=on_progress, after_stop=send)

    def all(self, done: Rollback) -> tuple[Check, ...]:
        """Answer every question about a rollback."""
        return ask(self.questions(done), self.environment.name)

    def questions(self, done: Rollback) -> dict[str, Callable[[], Check]]:
        """Return every question about a rollback by its name."""
        stores = StoreReader(self.environment)
        return {
            "nothing consumes the queue": lambda: self.stopped(done),
            "the queue's messages are kept": lambda: self.kept(done),
            "every store is untouched": lambda: self.untouched(done),
            "aggregates are still readable": lambda: self.readable(stores),
            "ingest still answers": lambda: common.ingest_answers(stores),
            "the replay API is as the phase says": lambda: self.replay_api(stores),
            "only this phase is on": lambda: common.components(stores),
        }

    def stopped(self, done: Rollback) -> Check:
        """The mapping is gone."""
        return check(
            "nothing consumes the queue",
            done.mappings_left == 0,
            yes=f"the last message was consumed {done.stopped_after:.1f} s after the start; the mapping is gone",
            no=f"{done.mappings_left} event source mappings still read the queue",
            evidence={
                "phase": f"{done.previous} -> {done.phase}",
                "stopped after": f"{done.stopped_after:.2f} s",
                "stack": done.stack_status,
                "mappings": done.mappings_left,
            },
        )

    def kept(self, done: Rollback) -> Check:
        """What waited in the queue still waits: it is the same queue, and nothing reads it.

        Counts are approximate, and what was being processed when consumption stopped is counted and deleted: fewer
        messages than before are shown and looked at again, and are no verdict.
        """
        queue = next((one for one in done.stores if one.store == "Queue"), None)
        # Counted once, right after a rehearsal sent: that count may be of the moment before.
        wanted = max(done.queue_before or 0, self.sent)
        after = self._settled(done, wanted)
        lost = queue is not None and queue.intact is False
        had, there = wanted > 0, queue is not None and queue.intact is True
        enough = had and there and after is not None and after >= wanted
        verdict = False if lost or done.mappings_left else (True if enough else None)
        return check(
            "the queue's messages are kept",
            verdict,
            yes=f"it is the same queue, nothing reads it, and {after} messages are in it",
            no="it is another queue than before" if lost else "an event source mapping still reads the queue",
            unknown=self._fewer(wanted, after) if had else "the queue was empty",
            evidence={
                "sent after the stop": self.sent,
                "before": done.queue_before,
                "after": after,
                "dead letters": done.dead_letters,
                "queue": queue.sentence if queue else "not compared",
            },
            blocking=verdict is not None or self.rehearsal is not None,
        )

    def _settled(self, done: Rollback, wanted: int) -> int | None:
        """Messages in the queue; looked at until they are as many as wanted, for as long as SQS may be behind."""
        if not wanted or (done.queue_after is not None and done.queue_after >= wanted):
            return done.queue_after
        patience = max(2.0, 120.0 * clock.lateness(self.environment))
        return eventually(StoreReader(self.environment).waiting, lambda count: count >= wanted, patience, every=2.0)

    @staticmethod
    def _fewer(wanted: int, after: int | None) -> str:
        return (
            f"{wanted} messages before, {after} after: SQS counts are approximate, and what was being "
            "processed is counted and deleted"
        )

    def untouched(self, done: Rollback) -> Check:
        """Every store is the same one, and what was sampled of it is as it was."""
        unread = [one.store for one in done.stores if one.intact is None]
        return check(
            "every store is untouched",
            done.stores_intact,
            yes=f"all {len(done.stores)} stores are the same as before, and "
            f"{sum(one.sampled for one in done.stores)} sampled items in them are unchanged",
            no=f"changed: {', '.join(one.store for one in done.stores if one.intact is False)}",
            unknown=f"could not be read: {', '.join(unread)}" if unread else "the stores were not compared",
            evidence={one.store: one.sentence for one in done.stores},
            blocking=done.stores_intact is not None,
        )

    def readable(self, stores: StoreReader) -> Check:
        """An aggregate written before can still be read."""
        row = stores.any_version()
        found = stores.version(row["entity_id"], row["day"], row["replay_id"]) if row else None
        return check(
            "aggregates are still readable",
            found is not None if row else None,
            yes="an aggregate that was written before is read as before",
            no="an aggregate is listed and cannot be read",
            unknown="no aggregate was ever written",
            evidence={
                "table": stores.outputs["AggregatesTable"],
                "aggregate": found and f"{found['entity_id']} {found['day']}: {found['input_count']} inputs",
            },
            blocking=row is not None,
        )

    def replay_api(self, stores: StoreReader) -> Check:
        """In phase 2 the replay API answers a dry run, in phase 1 it is gone."""
        url, name = stores.outputs.get("ReplayUrl"), "the replay API is as the phase says"
        if phases.phase(self.to) is phases.INGEST or not url:
            return check(
                name,
                url is None,
                yes="there is no replay API any more",
                no="the replay API is still there",
                evidence={"ReplayUrl": url or "none"},
            )
        window = {"start_time": "2000-01-01T00:00:00Z", "end_time": "2000-01-02T00:00:00Z"}
        body = json.dumps({"entity_id": "pik-probe-nobody", "dry_run": True, **window}).encode()
        asked = answering(self.environment, url, body, common.ANSWERS_SECONDS)
        seen = {"answers": asked.status == 200, "complete": asked["complete"] is True}
        return check(
            name,
            None if asked.busy else every(seen),
            yes="the replay API answers",
            no=f"not as it must be: {missing(seen)}",
            unknown=f"the replay API is too busy to answer: {asked.summary}",
            evidence={"POST": url, "answer": asked.summary},
        )
