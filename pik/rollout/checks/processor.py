"""What must be proven in phase 3 (processor): it writes exactly what was predicted, and loses nothing."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from pik.aws import stack
from pik.aws.queues import settling
from pik.aws.reading import Row, Steady, StoreReader, eventually
from pik.aws.stack import Say, silent
from pik.environments import Environment
from pik.results import Check
from pik.rollout.checks import common
from pik.rollout.checks.replaying import Group, latest_batch, predict, read_raws
from pik.rollout.checks.trials import TrialPrediction, Trials
from pik.rollout.checks.trials import uncounted as _uncounted
from pik.rollout.checks.verdicts import ask, check, later, patience


@dataclass(frozen=True)
class Drain:
    """How the queue emptied: ``timeline`` holds (seconds, messages) as they were seen."""

    seconds: float
    left: int
    timeline: list[tuple[float, int]] = field(repr=False)

    @property
    def empty_for(self) -> float:
        """Seconds for which the queue has been seen empty without a break; negative when it is not empty."""
        return _empty_for(self.timeline)


class ProcessorChecks:
    """Compares what the processor writes with what the raw objects say it must write."""

    def __init__(self, environment: Environment, *, patience: float = 300.0) -> None:
        self.environment = environment
        self.patience = patience
        self.timeline: list[tuple[float, int]] = []
        self.trials = Trials(environment, patience)
        self.dead: Steady | None = None
        self._started = time.monotonic()

    @property
    def stores(self) -> StoreReader:
        """The stores, with the outputs as they are now (a deploy adds some)."""
        return StoreReader(self.environment)

    def predict(self) -> TrialPrediction:
        """Predict the aggregates of the last batch from its raw objects alone."""
        stores = self.stores
        replays = latest_batch(stores)
        raws = read_raws(stores, [row for selection in replays.values() for row in selection.rows])
        aggregator = stack.require(self.environment).parameters.get("Aggregator", "daily-summary")
        return TrialPrediction(replays, raws, stores.waiting(), predict(aggregator, raws, replays), aggregator)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the queue meanwhile: consumption begins while the deploy that switches it on is still at work."""
        done = threading.Event()
        stores = self.stores
        self.timeline, self._started = [], time.monotonic()

        def watch() -> None:
            while not done.wait(self._every):
                with suppress(ClientError, BotoCoreError):
                    self._sample(stores)

        watcher = threading.Thread(target=watch, name="pik-queue-watch", daemon=True)
        self._sample(stores)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            watcher.join()

    def drain(self, on_progress: Say | None = None) -> Drain:
        """Wait until the queue is empty, or patience is over; ``seconds`` counts from the first message consumed.

        A single count of 0 says nothing: it may be a minute old. It must last (:func:`pik.aws.queues.settling`).
        """
        say, stores, began = on_progress or silent, self.stores, time.monotonic()
        settled = settling(self.environment)
        self.dead = Steady(self.environment, stores.dead_letters)
        while True:
            left = self._sample(stores)
            if len(self.timeline) == 1 or left != self.timeline[-2][1]:
                say(f"{left} messages left")
            empty = left == 0 and _empty_for(self.timeline) >= settled
            if empty or time.monotonic() - began > self.patience + settled or self.dry:
                return Drain(_emptying(self.timeline), left, self.timeline)
            time.sleep(self._every)

    def _sample(self, stores: StoreReader) -> int:
        left = stores.waiting()
        self.timeline.append((round(time.monotonic() - self._started, 2), left))
        return left

    @property
    def _every(self) -> float:
        return 0.25 if self.environment.embedded else 3.0

    def all(self, predicted: TrialPrediction, drained: Drain) -> tuple[Check, ...]:
        """Answer every question of the phase."""
        return ask(self.questions(predicted, drained), self.environment.name)

    def questions(self, predicted: TrialPrediction, drained: Drain) -> dict[str, Callable[[], Check]]:
        """Return every question of the phase by its name."""
        stores = self.stores
        return {
            "the queue drains": lambda: self.drains(predicted, drained),
            "aggregates written = predicted": lambda: self.aggregates(predicted),
            "every input is counted": lambda: self.inputs(predicted),
            "dead-letter queue is empty": lambda: common.dead_letters_empty(stores, self.dead),
            **common.questions(stores, self.patience),  # before the trials: a poisoned message may make an alarm ring
            "redelivery changes nothing": lambda: self.trials.redelivery(predicted),
            "a poison message reaches the dead-letter queue with its reason": self.trials.poison,
            "a processor's dry run predicts the same": lambda: self.trials.dry_run(predicted),
            "ingest still answers": lambda: common.ingest_answers(stores),
            "logs exist": self.logs,
            "metrics arrive": self.metrics,
        }

    def drains(self, predicted: TrialPrediction, drained: Drain) -> Check:
        """Nothing is left in the queue: its counts say so for long enough, and what was predicted is counted."""
        unknown, remedy, uncounted = "", "", 0
        if self.dry or not (predicted.waiting or predicted.events):
            unknown = "DRY_RUN: the mapping is disabled" if self.dry else "there was nothing in the queue"
        elif drained.left == 0:
            uncounted = sum(_uncounted(predicted.aggregates, self.stores.versions(predicted.aggregates)).values())
            unknown, remedy = self._not_proven_empty(drained, uncounted)
        return check(
            "the queue drains",
            None if unknown else drained.left == 0,
            yes=f"{predicted.waiting} messages, {drained.seconds:.1f} s to the last one",
            no=f"{drained.left} messages are left after {drained.seconds:.0f} s",
            unknown=unknown,
            remedy=remedy,
            evidence={
                "before": predicted.waiting,
                "left": drained.left,
                "empty for": f"{max(0.0, drained.empty_for):.0f} s",
                "predicted and not counted": uncounted,
                "seen": ", ".join(f"{count} at {second:.1f} s" for second, count in _thin(drained.timeline)),
            },
        )

    def _not_proven_empty(self, drained: Drain, uncounted: int) -> tuple[str, str]:
        """Why counts of 0 do not prove that the queue is empty, and what helps; empty when they do."""
        settled, waited = settling(self.environment), drained.timeline[-1][0] if drained.timeline else 0.0
        if drained.empty_for < settled:
            return (
                f"the queue's counts have been 0 for {max(0.0, drained.empty_for):.0f} s; they may be older than that",
                later(self.environment, "processor", waited),
            )
        if uncounted:
            return (
                f"the queue's counts are 0, but {uncounted} predicted events are not counted",
                "see the aggregates' check and the dead-letter queue: what was deleted or expired must be replayed",
            )
        return "", ""

    def aggregates(self, predicted: TrialPrediction) -> Check:
        """Each (entity, day, replay) has exactly the state that was predicted."""
        name, wanted = "aggregates written = predicted", predicted.aggregates
        wait = patience(name, self.environment, self.patience)
        found = eventually(lambda: self.stores.versions(wanted), lambda f: not _different(wanted, f), wait)
        wrong = _different(wanted, found)
        unsure = wrong.keys() & predicted.unsure
        unknown = "DRY_RUN: nothing is written" if self.dry else "no replay to compare with: run phase 2 first"
        if unsure:
            unknown = f"of {len(unsure)} aggregates it is not certain what was sent: events arrived at that very moment"
        example = next(iter(wanted), None)
        ok = None if self.dry or not wanted or (wrong and not wrong.keys() - unsure) else not wrong
        return check(
            name,
            ok,
            yes=f"all {len(wanted)} aggregates are what the raw objects say",
            no=f"{len(wrong)} of {len(wanted)} aggregates are missing or different",
            unknown=unknown,
            remedy=f"pik run verify-replay --env {self.environment.name}\nthen this again" if unsure else "",
            evidence={
                "table": self.stores.outputs["AggregatesTable"],
                "different": list(wrong.values())[:3] or "none",
                "example": example and f"{' · '.join(example)}: {json.dumps((found[example] or {}).get('state'))}",
            },
        )

    def inputs(self, predicted: TrialPrediction) -> Check:
        """The input counts of each replay add up to what was sent: complete, and nothing twice."""
        found = self.stores.versions(predicted.aggregates)
        partial = {}
        for replay_id, selection in predicted.replays.items():
            rows = [row for group, row in found.items() if group[2] == replay_id]
            counted = sum(row["input_count"] for row in rows if row)
            if counted != len(selection.rows):
                partial[replay_id] = f"{counted} of {len(selection.rows)}"
        return check(
            "every input is counted",
            not partial if predicted.events and not self.dry else None,
            yes=f"{predicted.events} of {predicted.events} events in {len(predicted.replays)} replays: COMPLETE",
            no=f"{len(partial)} replays are PARTIAL",
            unknown="DRY_RUN: nothing is written" if self.dry else "no replay to count",
            evidence={"events": predicted.events, "partial": partial or "none"},
        )

    def logs(self) -> Check:
        """The poison probe is in the log group: a line of its own says that it went to the dead-letter queue."""
        return common.logs(self.stores, "ProcessorLogGroup", self.trials.poisoned, self.trials.since, self.patience)

    def metrics(self) -> Check:
        """The pipeline's own metrics count the poison probe."""
        return common.metrics(self.stores, "Poison", "processor", self.patience)

    @property
    def dry(self) -> bool:
        """Whether the environment is deployed with DRY_RUN."""
        return stack.require(self.environment).parameters.get("DryRun") == "true"


def _different(wanted: dict[Group, tuple[dict[str, Any], int]], found: dict[Group, Row | None]) -> dict[Group, str]:
    wrong = {}
    for group, (state, count) in wanted.items():
        row = found.get(group)
        if row is None:
            wrong[group] = f"{' · '.join(group)}: missing"
        elif (row["state"], row["input_count"]) != (json.loads(json.dumps(state)), count):
            wrong[group] = f"{' · '.join(group)}: {row['input_count']} inputs of {count}, or another state"
    return wrong


def _empty_for(timeline: list[tuple[float, int]]) -> float:
    """Seconds since the queue was last seen with messages in it, counted from the first empty look after that."""
    zeros = list(takewhile(lambda look: look[1] == 0, reversed(timeline)))
    return zeros[0][0] - zeros[-1][0] if zeros else -1.0


def _emptying(timeline: list[tuple[float, int]]) -> float:
    """Seconds from the last time nothing was consumed yet to the first time nothing was left (or to the end)."""
    most = max((count for _, count in timeline), default=0)
    full = max((second for second, count in timeline if count == most), default=0.0)
    empty = [second for second, count in timeline if count == 0 and second >= full]
    return round((min(empty) if empty else timeline[-1][0]) - full, 2) if timeline else 0.0


def _thin(timeline: list[tuple[float, int]], most: int = 8) -> list[tuple[float, int]]:
    step = max(1, len(timeline) // most)
    return [*timeline[:-1:step], *timeline[-1:]]
