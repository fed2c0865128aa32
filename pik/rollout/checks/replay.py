"""What must be proven in phase 2 (replay): what is replayed is what was ingested, all of it, and intact."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pik import clock, events
from pik.aws import queue_peek, stack
from pik.aws.exchange import Exchange, repeated, tried
from pik.aws.reading import Steady, StoreReader, eventually
from pik.aws.stack import Say, silent
from pik.environments import Environment
from pik.errors import Refused
from pik.replays import reading as replay_table
from pik.results import Check
from pik.rollout.checks import common
from pik.rollout.checks.probe import Probe, all_answered, until_answered
from pik.rollout.checks.replaying import (
    EntityWindow,
    Group,
    Raws,
    ReplayAnswer,
    busiest,
    looked_at_again,
    predict,
    read_raws,
    replay_all,
    select,
)
from pik.rollout.checks.verdicts import ask, check, every, later, missing, patience


@dataclass(frozen=True)
class SentBatch:
    """A batch of replays that was sent, and all that is needed to judge it.

    ``steady``: whether ``waiting_before`` is a count that lasted; SQS's counts are up to a minute old.
    """

    replays: list[ReplayAnswer]
    raws: Raws
    waiting_before: int
    predicted: dict[Group, tuple[dict[str, Any], int]]
    steady: bool = True

    @property
    def expected(self) -> int:
        """Events the metadata listed for the selections before anything was sent."""
        return sum(len(replay.selection.rows) for replay in self.replays)

    @property
    def events(self) -> int:
        """Events that were sent, as the replays' records say."""
        return sum(len(replay.events.rows) for replay in self.replays)

    @property
    def late(self) -> int:
        """Events that arrived in the windows while they were planned and sent."""
        return sum(replay.bounds[1] - len(replay.selection.rows) for replay in self.replays)

    @property
    def sent(self) -> int:
        """Messages the API says it sent."""
        return sum(replay.sent for replay in self.replays)


class ReplayChecks:
    """Replays the busiest entities and a probe's, then answers one question after the other about it."""

    def __init__(self, environment: Environment, *, entities: int = 100, patience: float = 60.0) -> None:
        self.environment = environment
        self.stores = StoreReader(environment)
        self.entities = entities
        self.patience = patience
        self.probe = Probe()
        self.dead: Steady | None = None

    def replay(self, on_progress: Say | None = None) -> SentBatch:
        """Ingest probes, plan and send the replays, read every raw object, and predict the aggregates.

        Two events of one entity, so that a replay of several pages is tried even where no entity has more than one.
        """
        say, before = on_progress or silent, Steady(self.environment, self.stores.waiting)
        self.dead = Steady(self.environment, self.stores.dead_letters)
        self.since = clock.now(self.environment) - timedelta(seconds=2)
        self._ingest_probes()
        selections = [*busiest(self.stores, self.entities), self._probe_selection()]
        waiting, steady = before.count()
        replays = looked_at_again(self.stores, replay_all(self.environment, selections, on_progress=say))
        raws = read_raws(self.stores, [row for replay in replays for row in replay.events.rows])
        say(f"{len(raws.events)} raw objects read and compared with their rows")
        aggregator = stack.require(self.environment).parameters.get("Aggregator", "daily-summary")
        by_id = {replay.replay_id: replay.events for replay in replays}
        return SentBatch(replays, raws, waiting, predict(aggregator, raws, by_id), steady)

    def _ingest_probes(self) -> None:
        """Ingest an event, the same again, and another one; with a new probe until all are answered."""
        url = self.stores.outputs["IngestUrl"]

        def ask() -> list[Exchange]:
            self.probe = Probe()
            first, second = self.probe.body(1), self.probe.body(2)
            self.ingested = [tried(self.environment, url, body) for body in (first, first, second)]
            return self.ingested

        until_answered(ask)

    def _probe_selection(self) -> EntityWindow:
        day = self.probe.event_time[:10]
        return select(self.stores, self.probe.entity_id, f"{day}T00:00:00.000000Z", "9999-12-31T00:00:00.000000Z")

    def all(self, sent: SentBatch) -> tuple[Check, ...]:
        """Answer every question of the phase about a batch that was sent."""
        return ask(self.questions(sent), self.environment.name)

    def questions(self, sent: SentBatch) -> dict[str, Callable[[], Check]]:
        """Return every question of the phase by its name."""
        return {
            "replay API answers": lambda: self.api_answers(sent),
            "replay plan = replay sent = expected": lambda: self.counts(sent),
            "limit and cursor lose nothing": lambda: self.pages(sent),
            "the queue holds what was sent": lambda: self.queued(sent),
            "messages resolve to raw objects": lambda: self.messages(sent),
            "every raw object's hash matches": lambda: self.raw_objects(sent),
            "aggregates are predicted": lambda: self.prediction(sent),
            "ingest still answers": self.ingest,
            "dead-letter queue is empty": lambda: common.dead_letters_empty(self.stores, self.dead),
            "logs exist": lambda: self.logs(sent),
            "metrics arrive": lambda: self.metrics(sent),
            **common.questions(self.stores, self.patience),
        }

    def api_answers(self, sent: SentBatch) -> Check:
        """Every replay request is answered; an unsigned one is not let in."""
        url = self.stores.outputs["ReplayUrl"]
        unsigned = repeated(lambda: tried(self.environment, url, b"{}", sign=False))
        asked = [page for replay in sent.replays for page in replay.exchanges]
        failed = [page for page in asked if page.status != 200]
        refused = any(page.answered for page in failed)
        seen = {
            "all answered": False if refused else all_answered(asked) if asked else None,
            "unsigned refused": unsigned.status == 403 if unsigned.answered else None,
        }
        return check(
            "replay API answers",
            every(seen),
            yes="every replay request is answered, an unsigned one is refused",
            no=f"not as it must be: {missing(seen)}",
            unknown=f"{len(failed)} of {len(asked)} requests were answered 429, 5xx or not at all; "
            f"an unsigned one: {unsigned.summary}"
            if asked
            else "there was no replay",
            evidence={
                "POST": url,
                "requests": len(asked),
                "failed": [page.summary for page in failed[:3]],
                "unsigned": unsigned.summary,
            },
        )

    def counts(self, sent: SentBatch) -> Check:
        """For each replay: matched by the dry run, sent, and listed by the metadata are the same number.

        What arrived in a window between the first look and the last answer may be in them or not.
        """
        asked = [replay for replay in sent.replays if replay.answered]
        wrong = {r.replay_id: _counts(r) for r in asked if not _whole(r)}
        unanswered = len(sent.replays) - len(asked)
        late = f"; {sent.late} more arrived meanwhile" if sent.late else ""
        return check(
            "replay plan = replay sent = expected",
            False if wrong else True if sent.expected and not unanswered else None,
            yes=f"{sent.expected} events listed = planned = sent, in {len(sent.replays)} replays, all complete{late}",
            no=f"{len(wrong)} of {len(sent.replays)} replays differ",
            unknown=f"{unanswered} replays were not answered to their end"
            if unanswered
            else "there are no events to replay",
            evidence={
                "listed by the metadata": sent.expected,
                "arrived meanwhile": sent.late,
                "planned (dry run)": sum(int(r.plan["matched"] or 0) for r in sent.replays),
                "sent": sent.sent,
                "different": wrong or "none",
            },
        )

    def pages(self, sent: SentBatch) -> Check:
        """The replay in several requests: each goes on where the one before stopped; together they are whole."""
        paged = next((r for r in sent.replays if len(r.pages) > 1 and r.answered), None)
        if paged is None:
            return check(
                "limit and cursor lose nothing",
                None,
                yes="",
                no="",
                unknown="no replay had several pages, all answered",
            )
        recorded = replay_table.requests(self.stores, paged.replay_id)
        starts = {str(page["SK"]).removeprefix("PAGE#") for page in recorded}
        ends = {str(page["next"]) for page in recorded if not page["complete"]}
        parts = [int(page["sent"] or 0) for page in paged.pages]
        seen = {
            "sum of the pages is the whole": paged.bounds[0] <= sum(parts) <= paged.bounds[1],
            "only the last says complete": [p["complete"] for p in paged.pages] == [False] * (len(parts) - 1) + [True],
            "each page starts where one ended": starts == ends | {"START"} and len(recorded) == len(parts),
        }
        return check(
            "limit and cursor lose nothing",
            every(seen),
            yes=f"{' + '.join(map(str, parts))} = {sum(parts)} events of {paged.selection.entity_id}",
            no=f"not as it must be: {missing(seen)}",
            evidence={"replay": paged.replay_id, "pages": parts, "whole": len(paged.selection.rows)},
        )

    def queued(self, sent: SentBatch) -> Check:
        """The queue grew by the number sent; more is fine, others send too.

        A count is up to a minute old, also one that is as it must be: it is believed once it has lasted.
        """
        name, wanted = "the queue holds what was sent", sent.waiting_before + sent.sent
        wait = patience(name, self.environment, self.patience)
        eventually(self.stores.waiting, lambda count: count >= wanted, wait)
        waiting, steady = Steady(self.environment, self.stores.waiting).count()
        return check(
            name,
            waiting >= wanted if sent.sent and sent.steady and steady else None,
            yes=f"{sent.sent} messages more in the queue, {waiting} in all",
            no=f"{waiting} in the queue, {wanted} expected",
            unknown=f"{waiting} in the queue, {wanted} expected, and the queue's counts are still moving"
            if sent.sent
            else "nothing was sent",
            evidence={"before": sent.waiting_before, "sent": sent.sent, "now": waiting},
            remedy=later(self.environment, "replay", wait) if sent.sent and not (sent.steady and steady) else "",
        )

    def messages(self, sent: SentBatch) -> Check:
        """A bounded look at the messages themselves: each names a raw object that is what the message says."""
        name = "messages resolve to raw objects"
        try:
            seen = queue_peek.look(self.environment, self.stores.outputs["QueueUrl"])
        except Refused as refused:  # looked at often already; every look would bring them nearer to being moved away
            return check(name, None, yes="", no="", unknown=refused.message, remedy=refused.next_step, blocking=False)
        wrong = [problem for body in seen.bodies if (problem := queue_peek.fault(self.stores, body)[1])]
        return check(
            name,
            not wrong if seen.bodies else None,
            yes=f"{len(seen.bodies)} messages looked at and returned at once, each resolves to its raw object",
            no=f"{len(wrong)} of {len(seen.bodies)} messages do not resolve",
            unknown="no message could be received",
            evidence={
                "message": seen.bodies[0] if seen.bodies else "none",
                "wrong": wrong[:3] or "none",
                "receive count": f"{seen.receive_count} of {seen.max_receive_count}"
                + (", stopped looking" if seen.cut_short else ""),
            },
        )

    def raw_objects(self, sent: SentBatch) -> Check:
        """Every event that was replayed has its raw object, with the bytes and the identity the metadata says."""
        problems = sent.raws.problems
        return check(
            "every raw object's hash matches",
            not problems if sent.raws.events or problems else None,
            yes=f"{len(sent.raws.events)} raw objects read: bytes, identity and payload hash as the metadata says",
            no=f"{len(problems)} raw objects are missing or altered",
            evidence={"bucket": self.stores.outputs["RawBucket"], "problems": list(problems.items())[:3] or "none"},
        )

    def prediction(self, sent: SentBatch) -> Check:
        """The aggregates that phase 3 must write are known before it is switched on."""
        inputs = sum(count for _, count in sent.predicted.values())
        return check(
            "aggregates are predicted",
            inputs == sent.events if sent.predicted else None,
            yes=f"{len(sent.predicted)} aggregates from {inputs} events, computed from the raw objects",
            no=f"only {inputs} of {sent.events} events could be aggregated",
            unknown="there are no events to aggregate",
            evidence={"aggregates": len(sent.predicted), "inputs": inputs, "expected": sent.events},
        )

    def logs(self, sent: SentBatch) -> Check:
        """The last replay's id is in the log group."""
        wanted = sent.replays[-1].replay_id if sent.replays else ""
        return common.logs(self.stores, "ReplayLogGroup", wanted, self.since, self.patience)

    def metrics(self, sent: SentBatch) -> Check:
        """The pipeline's own metrics count the messages sent."""
        return common.metrics(self.stores, "ReplaySent", "replay", self.patience)

    def ingest(self) -> Check:
        """Ingest works as before: new events are accepted and a repeat detected."""
        statuses, up = [asked["status"] for asked in self.ingested], all_answered(self.ingested)
        return check(
            "ingest still answers",
            statuses == [events.ACCEPTED, events.DUPLICATE, events.ACCEPTED] if up else up,
            yes="new events were ACCEPTED, a repeat was a DUPLICATE",
            no=f"the probe was answered {', '.join(asked.summary for asked in self.ingested)}",
            unknown="not every probe was answered, although the API answers",
            evidence={"POST": self.stores.outputs["IngestUrl"], "answers": statuses},
        )


def _whole(replay: ReplayAnswer) -> bool:
    """Whether a replay planned and sent what its window held, and its record says that it sent as much."""
    least, most = replay.bounds
    planned, sent = int(replay.plan["matched"] or 0), replay.sent
    recorded = len(replay.events.rows) if replay.carried else sent
    right = least <= planned <= most and least <= sent <= most and recorded == sent and not replay.lost
    return right and replay.complete and replay.plan["sent"] == 0


def _counts(replay: ReplayAnswer) -> str:
    least, most = replay.bounds
    listed = str(most) if least == most else f"{least} to {most}"
    more = f", {len(replay.lost)} no longer listed" if replay.lost else ""
    return f"metadata {listed}, plan {replay.plan['matched']}, sent {replay.sent}{more}"
